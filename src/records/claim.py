"""One owner a run folder: who holds it, and how it is known that the holder is gone."""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from src.records.errors import Busy, Lost
from src.records.files import publish

BEAT = 5.0
"""Seconds between two heartbeats of an owner."""
PATIENCE = 15
"""Heartbeats without a change after which an owner on another host, or a suspended one on this, counts as gone; more
than the minute for which a network file system may show what is old."""


class Claim:
    """Holds a run folder for this process; a context manager.

    The claim is a file, published by an exclusive hard link, so that it works on a network file system. A dead owner on
    this host is known at once, by its process; one elsewhere, or a suspended one, by a counter that stands still while
    we watch, whatever the clocks say. asks: whether this holder asks before every write (`require`), and so may lose
    the claim while it is suspended; one that does not keeps it as long as its process is there. gone: owners that were
    watched already and are gone, shared by claims that are taken one after another.
    Raises Busy naming host and process of a living owner.
    """

    def __init__(self, folder: Path, asks: bool = True, gone: set[tuple[Any, ...]] | None = None) -> None:
        self.path = folder / "claim.json"
        self.asks = asks
        self.gone = set() if gone is None else gone
        self.token = uuid.uuid4().hex
        self.beats = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.keep_alive, daemon=True)

    def __enter__(self) -> "Claim":
        while not self.publish():
            owner = self.owner()
            if owner is not None and who(owner) not in self.gone and self.is_alive(owner):
                raise Busy(
                    f"the run {self.path.parent.name} is being computed by process {owner['process']} "
                    f"on {owner['host']}; wait for it, or stop it and start again"
                )
            now = self.owner()
            if owner is not None and now is not None and now["token"] == owner["token"]:  # else it has given it back
                self.gone.add(who(owner))
            self.remove(owner)
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set()
        self.thread.join()
        if self.is_held():
            self.path.unlink(missing_ok=True)

    def is_held(self) -> bool:
        """Whether the claim is still ours; a suspended process may have lost it."""
        owner = self.owner()
        return owner is not None and owner.get("token") == self.token

    def require(self) -> None:
        """To be asked before every write. Raises Lost if the claim is another's."""
        if not self.is_held():
            raise Lost(
                f"the run {self.path.parent.name} went to another process while this one was suspended or cut off; "
                "what it has computed is discarded"
            )

    def content(self) -> str:
        """What the claim says of its owner."""
        process = os.getpid()
        return json.dumps(
            {
                "host": socket.gethostname(),
                "process": process,
                "started": process_start(process),
                "token": self.token,
                "asks": self.asks,
                "beats": self.beats,
            }
        )

    def publish(self) -> bool:
        """Take the claim if nobody has it."""
        return publish(self.path, self.content())

    def owner(self) -> dict[str, Any] | None:
        """What the claim's file says, or None if it is gone or torn."""
        try:
            owner = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return None
        return (
            owner
            if isinstance(owner, dict) and {"host", "process", "started", "token", "beats"} <= owner.keys()
            else None
        )

    def is_alive(self, owner: dict[str, Any]) -> bool:
        """Whether the owner still lives; on another host this watches for some heartbeats."""
        if owner["host"] == socket.gethostname():
            if owner["started"] is None or process_start(owner["process"]) != owner["started"]:
                return False
            if not owner.get("asks", True) or not is_suspended(owner["process"]):
                return True
        for _ in range(PATIENCE):
            time.sleep(BEAT)
            now = self.owner()
            if now is None or now["token"] != owner["token"] or now["beats"] != owner["beats"]:
                return now is not None
        return False

    def remove(self, owner: dict[str, Any] | None) -> None:
        """Take a dead owner's claim away; by rename, so that of two who try one does."""
        aside = self.path.with_name(f".dead.{self.token}")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        try:
            found = json.loads(aside.read_text())
        except (OSError, ValueError):
            found = None
        if owner is not None and isinstance(found, dict) and found.get("token") != owner["token"]:
            # Somebody else was quicker and this is the new owner's claim: give it back.
            with contextlib.suppress(FileExistsError):
                os.link(aside, self.path)
        aside.unlink(missing_ok=True)

    def keep_alive(self) -> None:
        """Raise the counter in our claim until told to stop or the claim is lost."""
        while not self.stop.wait(BEAT):
            if not self.is_held():
                return
            self.beats += 1
            own = self.path.with_name(f".claim.{self.token}")
            try:
                own.write_text(self.content())
                os.replace(own, self.path)
            except OSError:
                own.unlink(missing_ok=True)


def who(owner: dict[str, Any]) -> tuple[Any, ...]:
    """The process behind a claim."""
    return owner["host"], owner["process"], owner["started"]


def is_suspended(process: int) -> bool:
    """Whether a process of this host has been stopped by a signal or a debugger."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except OSError:
        return False


def process_start(process: int) -> str | None:
    """When a process of this host started, which tells it from a later one of the same number; None if it is gone."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    try:
        # The name, in brackets, may hold spaces; the start time is the 20th field after it (man 5 proc).
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "unknown"
    return None if fields[0] == "Z" else fields[19]
