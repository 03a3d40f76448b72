"""On a Ray cluster: every GPU of this machine, or of many."""

import os
import signal
import sys
import time

from src.records import UserError
from src.sweep.launchers.actor import Actor, Place
from src.sweep.launchers.cluster import Cluster, signals_as_they_are
from src.sweep.launchers.launcher import Launcher, devices_on_a_machine
from src.sweep.plan import Job
from src.sweep.worker import Outcome

GRACE = 5.0
"""Seconds that a job has to end tidily when the sweep does."""


class Ray(Launcher):
    """Runs jobs in long-lived actors, one job at a time each; an actor that is lost is replaced.

    On a cluster that it does not make itself, the project, the weights and the data lie at the same paths on every
    machine, and `paths.runs` is a folder that all share.

    address: a cluster to join, `auto` or `ray://host:port`; None makes one of this machine. gpus: of each worker, or a
    fraction, to share one; ignored where the cluster has none. cpus: of each worker. workers: how many; None means as
    many as fit. timeout: seconds after which a job counts as hung: its actor is killed, and the job has failed.
    Raises UserError without Ray, without the cluster, and for more workers than fit.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        gpus: float = 1,
        cpus: float = 1,
        workers: int | None = None,
        timeout: float | None = None,
    ) -> None:
        if gpus < 0 or (gpus > 1 and gpus != int(gpus)):
            raise ValueError(f"gpus is {gpus:g}; give a whole number, or a fraction of one")
        for name, value in {"cpus": cpus, "workers": workers, "timeout": timeout}.items():
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value:g}; give more than 0")
        self.most, self.timeout, self.all = workers or sys.maxsize, timeout, list[Place]()
        self.cluster = Cluster(address, workers and workers * cpus)
        self.ray = self.cluster.ray
        self.needs = {"CPU": cpus} | ({"GPU": gpus} if gpus and self.cluster.has_gpu() else {})
        room = self.cluster.room(self.needs)
        if room < (workers or 1):
            self.close()
            asked = " and ".join(f"{value:g} {kind}" for kind, value in self.needs.items())
            raise UserError(
                f"the Ray cluster has room for {room} workers with {asked} each, and launcher.workers asks for "
                f"{workers or 1}; lower launcher.workers, launcher.cpus or launcher.gpus"
            )
        self.places = min(room, self.most)

    def check(self, job: Job) -> None:
        super().check(job)
        devices = devices_on_a_machine(job)
        if job.config["trainer"]["accelerator"] != "cpu" and 0 < self.needs.get("GPU", 0) < devices:
            raise UserError(
                f"trainer.devices={devices} needs launcher.gpus={devices}: a worker sees no more GPUs than its own"
            )

    def start(self) -> Place:
        """A new actor."""
        options = {"num_cpus": self.needs["CPU"], "num_gpus": self.needs.get("GPU", 0), "max_restarts": 0}
        actor = self.ray.remote(Actor).options(**options).remote(os.getcwd())
        self.all.append(Place(actor, actor.ready.remote()))
        return self.all[-1]

    @signals_as_they_are()
    def submit(self, number: int, job: Job) -> None:
        data = str(job.config["data"].get("task") or job.config["data"]["name"])
        idle = [place for place in self.all if place.number is None]
        place = min(idle, key=lambda place: place.data != data) if idle else self.start()
        place.data, place.number, place.since = data, number, time.monotonic()
        place.result = place.actor.run.remote(job)

    @signals_as_they_are()
    def wait(self, seconds: float) -> tuple[int, Outcome] | None:
        end = time.monotonic() + seconds
        self.places = max(1, min(self.cluster.room(self.needs), self.most))  # machines come and go
        while busy := {place.result: place for place in self.all if place.number is not None}:
            left = max(0.0, end - time.monotonic())
            done, _ = self.ray.wait(list(busy), timeout=left if self.timeout is None else min(left, 1.0))
            if done:
                return self.collect(busy[done[0]])
            for place in busy.values():
                if self.timeout is not None and self.took(place) > self.timeout:
                    return self.lose(place, f"it had not ended after {self.timeout:g} s (launcher.timeout)")
            if not left:
                break
        return None

    def took(self, place: Place) -> float:
        """Seconds that a place has been at its job; those in which its actor comes up do not count."""
        if not self.ray.wait([place.ready], timeout=0)[0]:
            place.since = time.monotonic()
        return time.monotonic() - place.since

    def collect(self, place: Place) -> tuple[int, Outcome]:
        """What came of a place's job."""
        try:
            outcome: Outcome = self.ray.get(place.result)
        except self.ray.exceptions.RayError as error:
            return self.lose(place, f"its worker was lost: {str(error).strip().splitlines()[-1][:300]}")
        if outcome.broken:  # a GPU's error may stay with its process, and fail every job after
            return self.lose(place, outcome.reason)
        assert place.number is not None
        number, place.number, place.result = place.number, None, None
        return number, outcome

    def lose(self, place: Place, reason: str) -> tuple[int, Outcome]:
        """Give an actor up; the next job that finds no other gets a new one."""
        self.ray.kill(place.actor)
        self.all.remove(place)
        assert place.number is not None
        return place.number, Outcome(reason=reason)

    def tell(self, place: Place, number: int) -> bool:
        """Send an actor's process a signal; whether it is up, and one of our own cluster, whose processes are here."""
        if self.cluster.folder is None:
            return False
        try:
            os.kill(self.ray.get(place.ready, timeout=0), number)
        except (self.ray.exceptions.RayError, ProcessLookupError):
            return False
        return True

    def close(self) -> None:
        # Tidily where that can be; a claim that a job leaves behind on another machine expires by itself.
        ending = [place.result for place in self.all if place.number is not None and self.tell(place, signal.SIGTERM)]
        if ending:
            self.ray.wait(ending, num_returns=len(ending), timeout=GRACE)
        for place in self.all:
            self.ray.kill(place.actor)
            self.tell(place, signal.SIGKILL)  # Ray's own way may take seconds
        self.all.clear()
        self.cluster.close()
