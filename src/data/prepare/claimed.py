"""Holding a data set's folder while it is being prepared."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from src.records import Claim, UserError


@contextmanager
def claimed(target: Path) -> Iterator[None]:
    """Hold the data set's folder. Raises UserError if another process does, or nothing can be written there."""
    claim = Claim(target, asks=False)
    with ExitStack() as held:
        try:
            held.enter_context(claim)
        except UserError as error:
            owner = claim.owner()
            if owner is None:
                raise
            raise UserError(
                f"{target} is being prepared by process {owner['process']} on {owner['host']}; wait for it, or stop it "
                f"and start again"
            ) from error
        except OSError as error:
            raise UserError(
                f"{target} is not whole, and nothing can be written there ({error.strerror}); give data.root= on "
                f"another disk, or free some space"
            ) from error
        yield
