"""How far a long step is: a bar on a terminal, one line elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

LONG = 100_000_000
"""Bytes of an archive from which on a bar or a line is worth it."""


def say(text: str) -> None:
    """Print one line as it is."""
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a step over `total` bytes; yields what is to be called with the bytes done so far."""
    console = Console()
    if total < LONG or not console.is_interactive:
        if total >= LONG:
            say(text)
        yield lambda done: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(escape(text), total=total)
        yield lambda done: bar.update(task, completed=done)
