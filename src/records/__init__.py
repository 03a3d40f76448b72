"""What a run leaves behind: its record, its folder, its name; and the error that a user's mistake ends in."""

from src.records.claim import Claim, process_start
from src.records.environment import environment, package_version
from src.records.errors import Busy, Lost, UserError, complain, end_with_reader
from src.records.files import FULL, atomic, publish, write_text
from src.records.identity import config_hash, identity, run_name
from src.records.record import Record, read_record

__all__ = [
    "FULL",
    "Busy",
    "Claim",
    "Lost",
    "Record",
    "UserError",
    "atomic",
    "complain",
    "config_hash",
    "end_with_reader",
    "environment",
    "identity",
    "package_version",
    "process_start",
    "publish",
    "read_record",
    "run_name",
    "write_text",
]  # fmt: skip
