"""The Ray cluster that a sweep joins or makes."""

import math
import os
import shutil
import signal
import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from src.config.compose import PROJECT
from src.records import UserError
from src.training.parts import default_threads
from src.training.signals import SIGNALS, Stopped, asked, do_nothing

INSTALL = "launcher=ray needs the package ray; install it with: pip install 'toast-transfer[distributed]'"
LONGEST = 40
"""Bytes of a folder's path in which Ray can still make its sockets."""
STORE = 100 * 2**20
"""Bytes of shared memory for what Ray passes on: configs and records."""
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # at Ray's 15, beside other work, a job takes thirty times as long
}
ANSWER = 10.0
"""Seconds in which a cluster's address has to answer."""


class Cluster:
    """A connection to Ray, by which `ray` may be used.

    address: a cluster to join; None starts one of this machine, which `close` ends. slots: CPUs that the new one
    claims to have; None counts them. Raises UserError without Ray, and for a cluster that cannot be reached.
    """

    def __init__(self, address: str | None, slots: float | None) -> None:
        self.ray = import_ray(is_local=address is None)
        if address is not None:
            check_answers(address)
        self.folder = None if address else short_folder()
        options: dict[str, Any] = {"address": address}
        if self.folder is not None:
            options = {"address": "local", "include_dashboard": False, "object_store_memory": STORE}
            options |= {"num_cpus": None if slots is None else math.ceil(slots), "_temp_dir": self.folder}
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        more = {"log_to_driver": False, "logging_level": "ERROR", "runtime_env": {"env_vars": variables_of_workers()}}
        try:
            with signals_as_they_are():
                self.ray.init(**options, **more)
        except (OSError, RuntimeError, ValueError) as error:
            self.close()
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"launcher.address={address or 'null'}: no Ray cluster ({reason})") from error
        except BaseException:
            self.close()
            raise
        finally:
            for number, handler in handlers.items():  # Ray takes SIGTERM for itself
                signal.signal(number, do_nothing if asked else handler)

    def has_gpu(self) -> bool:
        """Whether any machine of the cluster has a GPU."""
        return any(node.get("GPU") for node in self.nodes())

    def room(self, needs: dict[str, float]) -> int:
        """How many workers fit the machines that are there now. needs: what each takes of a machine's resources."""
        fit = [min(node.get(kind, 0) / need for kind, need in needs.items()) for node in self.nodes()]
        return sum(int(parts + 1e-6) for parts in fit)

    def nodes(self) -> list[dict[str, float]]:
        """What each machine has."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def close(self) -> None:
        """Leave the cluster; end it, if it is our own."""
        self.ray.shutdown()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def signals_as_they_are() -> Iterator[None]:
    """Hand on what a signal's handler raised while Ray was called, which Ray wraps or turns into an exit of its own."""
    try:
        yield
    except SystemError as error:
        raise error.__cause__ or error from None
    except SystemExit:
        raise Stopped(signal.SIGTERM) from None


def import_ray(is_local: bool) -> Any:
    """The package, quiet and, for a cluster of our own, with a password that is kept nowhere. Raises UserError."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if is_local and os.environ.setdefault("RAY_AUTH_MODE", "token") == "token":
        # Without, everybody who reaches its ports could run code as us; and Ray would keep one in the home folder.
        os.environ.setdefault("RAY_AUTH_TOKEN", uuid.uuid4().hex)
    try:
        import ray
    except ImportError:
        raise UserError(INSTALL) from None
    return ray


def check_answers(address: str) -> None:
    """Raise UserError where nobody listens at a cluster's address, for which Ray would wait ten minutes."""
    url = urlsplit(address if "://" in address else f"//{address}")
    try:
        if url.hostname and url.port:
            socket.create_connection((url.hostname, url.port), timeout=ANSWER).close()
    except (OSError, ValueError) as error:
        raise UserError(f"launcher.address={address}: no Ray cluster answers there ({error})") from error


def variables_of_workers() -> dict[str, str]:
    """Environment of the workers: they find this project, and compute with as many threads as this process would."""
    paths = [str(PROJECT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    # Ray itself would give them one.
    return SETTINGS | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(default_threads())}


def short_folder() -> str:
    """A new folder for everything that Ray writes, below $TMPDIR unless its sockets' paths would be too long there."""
    base = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="ray-", dir=base if len(os.fsencode(base)) + 13 <= LONGEST else Path("/tmp"))
