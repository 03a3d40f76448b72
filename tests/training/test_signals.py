"""A signal whose exception foreign code swallows still ends the run, or the sweep."""

import contextlib
import signal
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from src.records import read_record
from src.sweep.drive import drive
from src.sweep.launchers import Inline
from src.sweep.plan import plan
from src.sweep.show import Show
from src.sweep.worker import Outcome
from src.training.run import run
from src.training.signals import Stopped, stopping_on_signals
from tests.tiny import arguments, tiny


def swallow(number: int) -> None:
    """What a library's callback or a destructor does with a signal."""
    with contextlib.suppress(BaseException):
        signal.raise_signal(number)


class Deaf(Callback):
    """Swallows the signal that arrives in the second epoch."""

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 1:
            swallow(signal.SIGINT)


class DeafLauncher(Inline):
    """Swallows the signal that arrives while it waits."""

    def wait(self, seconds: float) -> tuple[int, Outcome] | None:
        ended = super().wait(seconds)
        swallow(signal.SIGTERM)
        return ended


def test_a_run_ends(tmp_path: Path) -> None:
    with pytest.raises(Stopped) as caught:
        run(tiny(tmp_path, f"+callbacks.deaf._target_={__name__}.Deaf"))
    assert caught.value.code == 130
    assert all(read_record(path) is None for path in tmp_path.iterdir())
    # In a notebook the process lives on, and so does the next run.
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert run(tiny(tmp_path)).status == "finished"


def test_a_sweep_ends(tmp_path: Path) -> None:
    show = Show()
    with pytest.raises(Stopped) as caught, stopping_on_signals():
        drive(plan([*arguments(tmp_path), "seed=1,2,3"]), DeafLauncher(), tmp_path, show)
    assert caught.value.code == 143
    assert show.ended == 1
