"""The one exception that a user's mistake ends in."""

import signal
import sys


class UserError(Exception):
    """A mistake that the user can mend: one sentence that names the thing, what is wrong with it, and what to do.

    Commands print it without a traceback and end with exit code 2.
    """


class Busy(UserError):
    """Another process is at the run."""


class Lost(UserError):
    """The claim on a run went to another process meanwhile; what this one has computed is discarded."""


def end_with_reader() -> None:
    """Let this command end quietly once nobody reads what it prints (`| head`), as other tools do."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def complain(error: UserError) -> int:
    """Print the sentence on stderr; the exit code, 2."""
    print(f"error: {error}", file=sys.stderr)
    return 2
