"""What a run leaves behind: its record, its folder, its name; and the error that a user's mistake ends in."""

from src.records.errors import UserError

__all__ = ["UserError"]
