"""The one exception that a user's mistake ends in."""

import sys


class UserError(Exception):
    """A mistake that the user can mend: one sentence that names the thing, what is wrong with it, and what to do.

    Commands print it without a traceback and end with exit code 2.
    """


def complain(error: UserError) -> int:
    """Print the sentence on stderr; the exit code, 2."""
    print(f"error: {error}", file=sys.stderr)
    return 2
