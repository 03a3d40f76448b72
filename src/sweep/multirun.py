"""A multirun from its arguments to its summary."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.config.build import build
from src.config.check import check_targets
from src.records import Record, UserError, config_hash, write_text
from src.report.summary import as_csv, rows, summary
from src.sweep.choose import choose, values
from src.sweep.drive import Result, drive
from src.sweep.launchers import Launcher
from src.sweep.ledger import Ledger
from src.sweep.plan import Job, Plan, plan
from src.sweep.show import Show, in_words
from src.training.console import quieten
from src.training.signals import Stopped, leave, stopping_on_signals

FOLDER = "summaries"


def multirun(arguments: Sequence[str]) -> int:
    """Run, or with dry_run=true list, everything that the arguments ask for; the exit code.

    0 if all ended well, 1 if a job failed, 3 if one diverged, 130 or 143 after a signal. Raises UserError.
    """
    check_alone()
    whole = plan(arguments)
    config = whole.settings
    runs = Path(config["paths"]["runs"])
    if config["dry_run"]:
        list_jobs(whole, Ledger(runs))
        return 0
    quieten()
    check_targets({"launcher": config["launcher"]}, {})
    show = Show()
    try:
        with stopping_on_signals(), make_launcher(config) as launcher, show:
            for job in [*whole.runs, *(search.final for search in whole.searches)]:
                launcher.check(job)
            result = drive(whole, launcher, runs, show)
    except Stopped as error:
        show.say(f"stopped by {error} after {show.ended} of {len(whole)} jobs; the same command goes on from here")
        return leave(error)
    return conclude(result, arguments, runs, show)


def make_launcher(config: Any) -> Launcher:
    """The launcher that a config names. Raises UserError for one that is none, or cannot be here."""
    launcher = build(config["launcher"], "launcher")
    if not isinstance(launcher, Launcher):
        raise UserError(f"launcher._target_={config['launcher']['_target_']} is not a src.sweep.launchers.Launcher")
    return launcher


def check_alone() -> None:
    """Raise UserError in one of several equal processes: each would drive the whole multirun."""
    if int(os.environ.get("WORLD_SIZE" if "TORCHELASTIC_RUN_ID" in os.environ else "SLURM_STEP_NUM_TASKS", 1)) > 1:
        raise UserError(
            "this multirun was started as several processes; start it once, without torchrun or srun: it starts the "
            "processes of its runs itself"
        )


def conclude(result: Result, arguments: Sequence[str], runs: Path, show: Show) -> int:
    """Print the summary, write it as csv, and list what failed; the exit code."""
    records: list[Record] = []
    chosen: dict[str, Record] = {}
    for found in result.found:
        records += found.tested()
        if found.chosen is not None:
            chosen |= {record.name: found.chosen for record in found.tested()}
    table = rows(records, chosen)
    if records:
        show.console.print(summary(table))
    for job, reason in result.failed:
        show.say(f"failed: {job}: {reason}")
    if result.stopped:
        show.say(result.stopped)
    if records:
        path = runs / FOLDER / f"{config_hash({'arguments': sorted(arguments)})[:8]}.csv"
        write_text(path, as_csv(table))
        show.say(f"as csv: {path}")
    if result.failed or result.stopped:
        return 1
    return 3 if any(record.status == "diverged" for record in records) else 0


def list_jobs(whole: Plan, ledger: Ledger) -> None:
    """Print every job, which are done, and how long the others will take by what the done ones took."""
    show = Show()
    done: list[Record] = []
    for job in whole.runs:
        done += state(show, ledger, job)
    for search in whole.searches:
        cells = [record for job in search.cells for record in state(show, ledger, job)]
        done += cells
        best = choose(cells) if search.cells and len(cells) == len(search.cells) else None
        if best is not None or not search.cells:
            for job in search.finals(values(best) if best else {}):
                done += state(show, ledger, job)
        else:
            for seed in search.seeds:
                show.say(f"open  {search.name} final: the chosen cell, seed {seed}")
    left = len(whole) - len(done)
    show.say(f"{len(whole)} jobs, {len(done)} done, {left} left{time_left(done, left)}")


def state(show: Show, ledger: Ledger, job: Job) -> list[Record]:
    """Print a job with whether it is done; its record if it is."""
    try:
        record = ledger.find(job.config)
    except UserError as error:
        show.say(f"open  {job} ({error})")
        return []
    show.say(f"{'done' if record else 'open'}  {job}")
    return [record] if record else []


def time_left(done: Sequence[Record], left: int) -> str:
    """How long the rest takes on one device, if anything has been timed yet."""
    took = [
        record.cost["seconds_per_epoch"] * record.epochs
        for record in done
        if record.cost.get("seconds_per_epoch") and record.epochs
    ]
    if not took or not left:
        return "" if left == 0 else "; no job is done yet, so the time is not known"
    return f"; about {in_words(left * sum(took) / len(took))} on one device"
