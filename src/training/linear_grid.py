"""Every cell of a grid of linear probes trained at once, on features that are computed once.

Cells share head initialisation, order and seed, and differ in learning rate and weight decay alone; each ends as it
would alone, to rounding, and leaves its own record. A cell that diverges touches no other.
"""

import csv
import io
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from src.config.build import build
from src.data.batches import Batch
from src.methods import Linear
from src.records import Busy, Claim, Lost, Record, environment, write_text
from src.training.callbacks import COLUMNS, device_name, peak_memory
from src.training.console import log, speaking
from src.training.frozen_cache import fill
from src.training.loggers import finish, log_record, open_loggers, replay
from src.training.optim import Sgd
from src.training.parts import Parts, check_config, flops_per_image, make_parts, run_folder, set_threads
from src.training.run import finished, prepare_folder, splits_of
from src.training.warm import Warm

KNOWN = {
    "_target_", "accelerator", "devices", "num_nodes", "strategy", "max_epochs", "precision", "accumulate_grad_batches",
    "threads", "tf32",
}  # fmt: skip
"""What a trainer may be told here; any other of Lightning's arguments is for runs one by one."""


@dataclass
class Cell:
    """One probe of the grid: its optimiser, its figures by epoch, and the claim of one that is ours to write.

    record: of a cell that is done or ours; another process's has none.
    """

    optim: Sgd
    record: Record | None = None
    folder: Path = Path()
    claim: Claim | None = None
    rows: list[dict[str, float]] = field(default_factory=list)
    error: str | None = None


def trains_at_once(configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether runs are a grid of linear probes: cells with stage=tune that differ in rate and decay alone."""

    def rest(config: Mapping[str, Any]) -> dict[str, Any]:
        optim = {key: value for key, value in config["optim"].items() if key not in ("lr", "weight_decay")}
        return {**config, "optim": optim, "changed": None}

    one = configs[0]
    return (
        len(configs) > 1
        and one["method"]["_target_"] in ("src.methods.Linear", "src.methods.linear.Linear")
        and one["optim"]["_target_"] == "src.training.optim.Sgd"
        and one["stage"] == "tune"
        and not one["callbacks"]
        and one["trainer"]["_target_"] == "src.training.trainer.Trainer"
        and one["trainer"]["accumulate_grad_batches"] == 1
        and one["trainer"].keys() <= KNOWN
        and all(rest(config) == rest(one) for config in configs)
    )


def run_grid(configs: Sequence[Mapping[str, Any]], warm: Warm) -> list[Record | None]:
    """Train all cells that are neither done nor another process's; each one's record, None where it has none yet.

    Empty if these runs cannot share features. Raises UserError as a run does.
    """
    first = configs[0]
    check_config(first)
    set_threads(first)
    parts = make_parts(first, warm, shared=True)
    if parts.not_cached is not None or not isinstance(parts.method, Linear):
        return []
    trainer = build(first["trainer"], "trainer", logger=False)
    device = trainer.strategy.root_device
    fill(first, parts.data, parts.backbone, parts.method, device, splits_of(parts.record))
    with ExitStack() as stack:
        # Those that are done train along: how many train at once shows in the last bits.
        gone: set[Any] = set()
        cells = [open_cell(config, warm, stack, gone) for config in configs]
        if any(cell.claim for cell in cells):
            begun = time.perf_counter()
            train(cells, parts, first["trainer"]["max_epochs"], device, bool(trainer.precision.startswith("64")))
            close(cells, parts, trainer, time.perf_counter() - begun, first["logger"])
    return [cell.record for cell in cells]


def open_cell(config: Mapping[str, Any], warm: Warm, stack: ExitStack, gone: set[Any]) -> Cell:
    """Claim a cell and make its folder ready, unless it is done or another process is at it."""
    optim: Sgd = build(config["optim"], "optim")
    record = make_parts(config, warm, shared=True).record
    folder = run_folder(config, record)
    if (done := finished(config, folder)) is not None:
        return Cell(optim, done)
    claim = Claim(folder, gone=gone)
    try:
        stack.enter_context(claim)
    except Busy:
        return Cell(optim)
    if (done := finished(config, folder)) is not None:
        return Cell(optim, done)
    prepare_folder(config, folder)
    return Cell(optim, record, folder, claim)


def train(cells: list[Cell], parts: Parts, epochs: int, device: torch.device, double: bool) -> None:
    """Train K heads (K, C, d) side by side, with torch's SGD written out for all at once."""
    dtype = torch.float64 if double else torch.float32
    head = parts.method.head
    weight = head.weight.detach().to(device, dtype).expand(len(cells), -1, -1).clone()
    bias = head.bias.detach().to(device, dtype).expand(len(cells), -1).clone()
    decay = torch.tensor([cell.optim.weight_decay for cell in cells], device=device, dtype=dtype).view(-1, 1, 1)
    momentum = torch.tensor([cell.optim.momentum for cell in cells], device=device, dtype=dtype)
    moved = [torch.zeros_like(weight), torch.zeros_like(bias)]
    loader = parts.data.train_dataloader()
    steps = len(loader)
    for epoch in range(epochs):
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
        tally = Tallies(len(cells), device)
        for step, batch in enumerate(loader):
            logits, labels = scores(batch, weight, bias, device, dtype)
            tally.add(logits, labels)
            slope = (logits.softmax(dim=-1) - F.one_hot(labels, logits.shape[-1]).to(dtype)) / batch.total
            # The head's bias does not decay; see Method.undecayed.
            grad = torch.einsum("kbc,bd->kcd", slope, pooled(batch, device, dtype)).add_(decay * weight)
            rates = [cell.optim.rate(epoch, step, steps, epochs) for cell in cells]
            rate = torch.tensor(rates, device=device, dtype=dtype)
            moved[0].mul_(momentum.view(-1, 1, 1)).add_(grad)
            moved[1].mul_(momentum.view(-1, 1)).add_(slope.sum(dim=1))
            weight.sub_(rate.view(-1, 1, 1) * moved[0])
            bias.sub_(rate.view(-1, 1) * moved[1])
        held = Tallies(len(cells), device)
        for batch in parts.data.val_dataloader() if parts.data.table.splits["val"].labels else ():
            held.add(*scores(batch, weight, bias, device, dtype))
        enter(cells, epoch, (epoch + 1) * steps, rates, tally, held)


def pooled(batch: Batch, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A batch's features (B, d)."""
    return batch.features["pooled"].to(device, dtype)


def scores(
    batch: Batch, weight: Tensor, bias: Tensor, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Logits of every cell (K, B, C), and the labels (B,)."""
    logits = torch.einsum("bd,kcd->kbc", pooled(batch, device, dtype), weight) + bias[:, None]
    return logits, batch.labels.to(device)


class Tallies:
    """Loss and accuracy of every cell over an epoch."""

    def __init__(self, cells: int, device: torch.device) -> None:
        self.loss = torch.zeros(cells, device=device)
        self.correct = torch.zeros(cells, device=device, dtype=torch.long)
        self.count = 0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch in: logits (K, B, C), labels (B,)."""
        wanted = labels.expand(len(logits), -1)
        self.loss += F.cross_entropy(logits.float().transpose(1, 2), wanted, reduction="none").sum(dim=1)
        self.correct += (logits.argmax(dim=-1) == wanted).sum(dim=1)
        self.count += len(labels)

    def figures(self) -> list[tuple[float, float]]:
        """Mean loss and accuracy, a pair a cell."""
        pairs = zip(self.loss.tolist(), self.correct.tolist(), strict=True)
        return [(loss / self.count, correct / self.count) for loss, correct in pairs]


def enter(cells: list[Cell], epoch: int, step: int, rates: list[float], tally: Tallies, held: Tallies) -> None:
    """Note an epoch's figures in every cell that is still in its senses."""
    trained, validated = tally.figures(), held.figures() if held.count else [()] * len(cells)
    for cell, rate, one, other in zip(cells, rates, trained, validated, strict=True):
        if cell.error is not None:
            continue
        row = {"epoch": epoch + 1, "step": step, "lr": rate, "train/loss": one[0], "train/accuracy": one[1]}
        row |= dict(zip(("val/loss", "val/accuracy"), other, strict=False))
        wrong = [split for split in ("train", "val") if not math.isfinite(row.get(f"{split}/loss", 0.0))]
        if wrong:
            cell.error = f"the {wrong[0]} loss is not finite in epoch {epoch + 1}"
        else:
            cell.rows.append(row)


def close(cells: list[Cell], parts: Parts, trainer: Any, seconds: float, nodes: Mapping[str, Any] | None) -> None:
    """Write metrics.csv and record of every cell that is ours, then log them; each cost its share of all.

    nodes: the loggers, as configs have them.
    """
    flops = flops_per_image(parts)
    share = seconds / len(cells) / parts.record.epochs
    written = []
    for cell in cells:
        if cell.record is None or cell.claim is None:
            continue
        end_record(cell, cell.record, trainer, share, flops)
        try:
            cell.claim.require()
            text = io.StringIO()
            table = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="")
            table.writeheader()
            table.writerows(cell.rows)
            write_text(cell.folder / "metrics.csv", text.getvalue())
            cell.record.write(cell.folder)
        except Lost:
            cell.record = None  # another's by now
            continue
        written.append((cell, cell.record))
    for cell, record in written:
        with speaking(cell.folder):
            log.info(f"{record.name}: {record.status}, one of {len(cells)} cells trained at once")
            try:
                log_cell(cell, record, nodes)
            except Exception as error:  # what is computed is not lost for it
                log.warning(f"not logged: {error}")


def end_record(cell: Cell, record: Record, trainer: Any, share: float, flops: int | None) -> None:
    """Enter what a cell came to. share: its seconds an epoch."""
    record.status = "diverged" if cell.error else "finished"
    record.error = cell.error
    record.devices = [{"device": device_name(trainer), "processes": 1, "epochs": len(cell.rows)}]
    record.threads = torch.get_num_threads()
    record.environment = environment(device_name(trainer))
    record.cost = {
        "seconds_per_epoch": share,
        "images_per_second": record.split["train"] / share,
        "data_wait_share": None,
        "peak_memory_bytes": peak_memory(),
        "training_flops_per_image": flops,
    }
    if cell.error is None:
        best = max(cell.rows, key=lambda row: (row.get("val/accuracy", 0.0), -row["epoch"]))
        last = cell.rows[-1]
        record.metrics = {name: last[name] for name in COLUMNS[3:] if name in last}
        record.metrics |= {
            "val/accuracy_best": best.get("val/accuracy"),
            "val/accuracy_best_epoch": int(best["epoch"]) if "val/accuracy" in best else None,
        }


def log_cell(cell: Cell, record: Record, nodes: Mapping[str, Any] | None) -> None:
    """Give a cell's loggers its epochs and its record."""
    loggers = []
    try:
        for logger in open_loggers(nodes, cell.folder, record):
            loggers.append(logger)
            log_record(logger, record, summary=False)
            replay(logger, cell.rows)
    finally:
        finish(loggers, record, "failed" if cell.error else "success")
