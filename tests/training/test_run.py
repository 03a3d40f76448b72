"""One run from config to record: what it leaves, what it returns, how it goes on, how it fails."""

import csv
import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback

import src
from src.config.saved import load_config
from src.records import Claim, Record, UserError, read_record
from src.training import run as run_module
from src.training.evaluate import evaluate
from src.training.run import run
from src.training.saved import load_saved
from src.training.trainer import read_checkpoint
from tests.tiny import tiny

METHODS = ["linear", "finetune", "vpt", "lora", "toast", "toast_lite", "toast_late"]


def folder_of(config: dict[str, Any], record: Record) -> Path:
    return Path(config["paths"]["runs"]) / record.name


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
    return state


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_leaves_a_whole_folder(method: str, tmp_path: Path) -> None:
    config = tiny(tmp_path, method=method)
    record = run(config)
    folder = folder_of(config, record)
    assert record.status == "finished"
    assert read_record(folder) == record
    files = {path.name for path in folder.iterdir()}
    assert files == {"config.yaml", "result.json", "metrics.csv", "run.log", "checkpoints"}
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.ckpt"]
    rows = table(folder / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["3", "6", "9"]
    assert float(rows[-1]["val/accuracy"]) == record.metrics["val/accuracy"]
    accuracy = record.metrics["test/accuracy"]
    assert accuracy is not None
    assert (accuracy * 21) == pytest.approx(round(accuracy * 21), abs=1e-9)
    assert record.cost["training_flops_per_image"] > 0
    assert record.parameters["total"] >= record.parameters["trained"] + record.parameters["head"]
    # Nothing but trained parameters, twice: the weights and their momentum.
    trained = record.parameters["trained"] + record.parameters["head"]
    assert sum(value.numel() for value in weights(folder).values()) == trained


def test_a_finished_run_is_returned_and_force_repeats_it_bit_for_bit(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    record = run(config)
    folder = folder_of(config, record)
    state, stamp = weights(folder), (folder / "result.json").stat().st_mtime_ns
    assert run(config) == record
    assert (folder / "result.json").stat().st_mtime_ns == stamp
    again = run(config | {"force": True})
    assert again.metrics == record.metrics
    assert same(weights(folder), state)


def test_what_ran_before_changes_nothing(tmp_path: Path) -> None:
    alone = run(tiny(tmp_path / "a"))
    run(tiny(tmp_path / "b", method="lora"))
    torch.manual_seed(123)
    after = run(tiny(tmp_path / "b"))
    assert after.name == alone.name
    assert same(weights(tmp_path / "a" / alone.name), weights(tmp_path / "b" / after.name))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_no_result(tmp_path: Path, workers: int) -> None:
    alone = run(tiny(tmp_path / "alone", "method.drop_path=0.3"))
    many = run(tiny(tmp_path / "many", "method.drop_path=0.3", f"data.workers={workers}"))
    assert (many.name, many.metrics) == (alone.name, alone.metrics)
    assert same(weights(tmp_path / "many" / many.name), weights(tmp_path / "alone" / alone.name))


class StopAfter(Callback):
    """Ends training as a crash would, in the middle of an epoch."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("crashed")


@pytest.mark.parametrize("step", [1, 3, 4, 8])
@pytest.mark.parametrize(("schedule", "workers"), [("epoch", 0), ("step", 1)])
def test_a_crashed_run_goes_on_bit_for_bit(tmp_path: Path, step: int, schedule: str, workers: int) -> None:
    whole = run(tiny(tmp_path / "whole", f"optim.schedule={schedule}", "method.drop_path=0.3"))
    options = [f"optim.schedule={schedule}", "method.drop_path=0.3", f"data.workers={workers}"]
    config = tiny(tmp_path / "torn", *options)
    crash = {"callbacks": {"stop": {"_target_": "tests.training.test_run.StopAfter", "step": step}}}
    with pytest.raises(RuntimeError, match="crashed"):
        run(config | crash)
    folder = folder_of(config, whole)
    failed = read_record(folder)
    assert failed is not None
    assert (failed.status, failed.error) == ("failed", "RuntimeError: crashed")
    assert "crashed" in (folder / "run.log").read_text()
    record = run(config)
    assert record.metrics == whole.metrics
    for name in ("metrics.csv",):
        assert (folder / name).read_text() == (tmp_path / "whole" / whole.name / name).read_text()
    assert same(weights(folder), weights(tmp_path / "whole" / whole.name))


def test_a_saved_config_starts_the_same_run(tmp_path: Path) -> None:
    config = tiny(tmp_path / "a", "trainer.max_epochs=1")
    record = run(config)
    again = load_config(folder_of(config, record) / "config.yaml", [f"paths.runs={tmp_path / 'b'}"])
    repeated = run(again)
    assert (repeated.name, repeated.metrics) == (record.name, record.metrics)


def test_a_loss_that_is_not_a_number_is_a_result(tmp_path: Path) -> None:
    config = tiny(tmp_path, "optim.lr=1e30", "optim.warmup_epochs=0")
    record = run(config)
    assert record.status == "diverged"
    assert "not finite" in str(record.error)
    assert "test/accuracy" not in record.metrics
    assert run(config).status == "diverged"


def test_a_last_step_that_blows_up_is_divergence_too(tmp_path: Path) -> None:
    config = tiny(tmp_path, "optim.lr=1e38", "trainer.max_epochs=1", "data.batch_size=64", method="linear")
    assert run(config).status == "diverged"


def test_an_epoch_without_validation_has_no_validation_figures(tmp_path: Path) -> None:
    config = tiny(tmp_path, "trainer.check_val_every_n_epoch=2")
    record = run(config)
    assert [bool(row["val/loss"]) for row in table(folder_of(config, record) / "metrics.csv")] == [False, True, False]
    assert "val/accuracy" not in record.metrics


def test_heads_of_a_backbone_are_part_of_what_it_is(tmp_path: Path) -> None:
    config = tiny(tmp_path, "trainer.max_epochs=1")
    record = run(config)
    other = run(tiny(tmp_path, "trainer.max_epochs=1", "backbone.architecture.num_heads=4"))
    assert other.name != record.name
    with pytest.raises(UserError, match="3 heads, not 4"):
        load_saved(folder_of(config, record), ["backbone.architecture.num_heads=4"])


def test_the_second_start_of_a_run_is_refused(tmp_path: Path) -> None:
    config = tiny(tmp_path, "trainer.max_epochs=1")
    record = run(config)
    (folder_of(config, record) / "result.json").unlink()
    with Claim(folder_of(config, record)), pytest.raises(UserError, match="being computed by process"):
        run(config)


def test_a_run_without_a_step_is_not_finished(tmp_path: Path) -> None:
    config = tiny(tmp_path, "trainer.limit_train_batches=0")
    with pytest.raises(UserError, match="no optimiser step"):
        run(config)
    records = [read_record(folder) for folder in tmp_path.iterdir()]
    assert [record.status for record in records if record] == ["failed"]


def test_fewer_images_than_a_batch_train_on_what_there_is(tmp_path: Path) -> None:
    record = run(tiny(tmp_path, "data.train=5", "data.batch_size=64", "data.test=3", "data.val=1"))
    assert record.status == "finished"
    assert record.split == {"train": 5, "val": 1, "test": 3}


def test_a_batch_smaller_than_its_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be shared"):
        run(tiny(tmp_path, "data.batch_size=2", "trainer.accumulate_grad_batches=3"))


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_is_the_same_batch(tmp_path: Path, parts: int) -> None:
    whole = run(tiny(tmp_path / "a", "method.drop_path=0.3"))
    config = tiny(tmp_path / "b", "method.drop_path=0.3", f"trainer.accumulate_grad_batches={parts}")
    record = run(config)
    one = table(tmp_path / "a" / whole.name / "metrics.csv")
    other = table(folder_of(config, record) / "metrics.csv")
    assert [(row["step"], row["lr"]) for row in one] == [(row["step"], row["lr"]) for row in other]
    for a, b in zip(one, other, strict=True):
        assert float(a["train/loss"]) == pytest.approx(float(b["train/loss"]), rel=1e-4)


@pytest.mark.filterwarnings("ignore:.*AMP with fp16")
def test_16_bit_on_the_cpu_is_refused_and_bf16_is_not(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a GPU"):
        run(tiny(tmp_path, "trainer.precision=16-mixed"))
    for precision in ("bf16-mixed", "bf16-true", "64-true"):
        config = tiny(tmp_path, f"trainer.precision={precision}", "trainer.max_epochs=1", method="toast_lite")
        record = run(config)
        assert (record.status, record.precision) == ("finished", precision)
        assert evaluate(folder_of(config, record), [])["accuracy"] == record.metrics["test/accuracy"]


class Meddler(Callback):
    """Changes a frozen weight behind the optimiser's back."""

    def on_train_end(self, trainer: Any, module: Any) -> None:
        with torch.no_grad():
            module.method.backbone.cls_token.add_(1)


def test_a_changed_frozen_parameter_is_noticed(tmp_path: Path) -> None:
    meddler = {"callbacks": {"meddler": {"_target_": "tests.training.test_run.Meddler"}}}
    with pytest.raises(RuntimeError, match="changed a frozen parameter"):
        run(tiny(tmp_path, "trainer.max_epochs=1") | meddler)


def test_out_of_memory_names_the_argument_to_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr("src.training.module.TransferModule.losses", full)
    with pytest.raises(UserError, match=r"accumulate_grad_batches.*data\.batch_size"):
        run(tiny(tmp_path))


def test_a_disk_that_fills_while_saving_keeps_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second checkpoint meets the largest file that the process may write."""
    config = tiny(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    serialise, calls = torch.save, []

    def fill(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        serialise(*arguments, **options)
        if len(calls) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, limits[1]))

    monkeypatch.setattr(torch, "save", fill)
    try:
        with pytest.raises(UserError, match="no space left"):
            run(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    (folder,) = tmp_path.iterdir()
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.ckpt"]
    assert len(read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]) > 0
    monkeypatch.undo()
    record = run(config)
    assert record.metrics == run(tiny(tmp_path / "whole")).metrics


def test_an_undecodable_image_ends_the_run_with_its_path(tmp_path: Path) -> None:
    from tests.cub import make_cub

    root = make_cub(tmp_path / "CUB_200_2011", images=4)
    bad = sorted((root / "images").rglob("train_*.jpg"))[2]
    bad.write_bytes(b"")
    arguments = [f"data.root={root}", "data.subset=true", "data.workers=1", "optim.lr=0.01"]
    config = tiny(tmp_path / "runs")
    data = {"_target_": "src.data.fgvc.Fgvc", "name": "cub", "root": str(root), "subset": True, "batch_size": 4}
    for workers in (0, 1):
        with pytest.raises(UserError) as caught:
            run(config | {"data": data | {"workers": workers}})
        assert str(caught.value) == f"the image {bad} is empty (0 bytes); fetch it again", arguments


# What a run folder gives back


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_model_tests_as_it_did(tmp_path: Path, method: str) -> None:
    config = tiny(tmp_path, method=method)
    record = run(config)
    folder = folder_of(config, record)
    assert evaluate(folder, [])["accuracy"] == record.metrics["test/accuracy"]
    rows = table(folder / "predictions.csv")
    assert len(rows) == 21
    assert sum(int(row["correct"]) for row in rows) / 21 == record.metrics["test/accuracy"]
    model, transform, classes = src.load(str(folder))
    assert classes == ["0", "1", "2", "3", "4"]
    from PIL import Image

    logits = model(transform(Image.new("RGB", (80, 70), "red"))[None]).logits
    assert logits.shape == (1, 5)


def test_a_checkpoint_of_other_weights_is_refused(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    folder = folder_of(config, run(config))
    with pytest.raises(UserError, match="other frozen weights"):
        load_saved(folder, ["backbone.seed=5"])
    with pytest.raises(UserError, match="another size"):
        load_saved(folder, ["backbone.architecture.embed_dim=48"])
    with pytest.raises(UserError, match="another method or other options"):
        load_saved(folder, ["method.rank=2"])


def test_a_lite_checkpoint_proves_its_frozen_feedback(tmp_path: Path) -> None:
    config = tiny(tmp_path, method="toast_lite")
    folder = folder_of(config, run(config))
    saved = load_saved(folder)
    assert not any("chain.weight" in name for name in weights(folder))
    assert any("chain.weight" in name for name in dict(saved.method.named_parameters()))
    with pytest.raises(UserError, match="other frozen weights"):
        load_saved(folder, ["seed=43", "backbone.seed=42"])


@pytest.mark.parametrize("damage", ["torn", "pickle", "gone", "other"])
def test_a_bad_checkpoint_is_a_sentence_and_runs_nothing(tmp_path: Path, damage: str) -> None:
    config = tiny(tmp_path, "trainer.max_epochs=1")
    folder = folder_of(config, run(config))
    path = folder / "checkpoints" / "last.ckpt"
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "gone":
        path.unlink()
    elif damage == "other":
        torch.save({"weights": torch.zeros(1)}, path)
    else:
        torch.save({"state_dict": Hostile(str(tmp_path / "was_run"))}, path)
    with pytest.raises(UserError, match="checkpoint"):
        load_saved(folder)
    assert not (tmp_path / "was_run").exists()


class Hostile:
    """A pickle that would run code."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


def test_a_strangers_class_is_not_imported(tmp_path: Path) -> None:
    config = tiny(tmp_path, "trainer.max_epochs=1")
    folder = folder_of(config, run(config))
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    ways = [
        ("method._target_", saved | {"method": saved["method"] | {"_target_": "tests.hostile.Method"}}),
        ("data._target_", saved | {"data": saved["data"] | {"_target_": "src.records.environment.subprocess.run"}}),
        ("backbone._target_", saved | {"backbone": {"_target_": "src.train.main", "arguments": []}}),
        (
            "trainer.plugins.0._target_",
            saved | {"trainer": saved["trainer"] | {"plugins": [{"_target_": "tests.hostile.X"}]}},
        ),
    ]
    for key, changed in ways:
        (folder / "config.yaml").write_text(yaml.safe_dump(changed))
        for more in ([], ["seed=1"], ["method.anything=1"]):
            with pytest.raises(UserError, match=rf"repeat {key}="):
                load_saved(folder, more)
    assert "tests.hostile" not in sys.modules


def test_records_say_what_was_there(tmp_path: Path) -> None:
    config = tiny(tmp_path, "trainer.max_epochs=1", "debug=fast", "trainer.limit_train_batches=1")
    record = run(config)
    assert set(record.marks) == {"own recipe", "not pre-tuned", "debug", "partial"}
    values = json.loads((folder_of(config, record) / "result.json").read_text())
    assert values["backbone"]["source"] == "random"
    assert values["environment"]["torch"] == torch.__version__.split("+")[0]
    assert (
        run_module.plain(UserError("Caught X\nOriginal Traceback\nsrc.records.errors.UserError: the image\n"))
        == "the image"
    )


@pytest.mark.parametrize(
    "setting",
    ["accelerator=tpu", "devices=[7]", "devices=0", "threads=99999999", "limit_train_batches=-1", "num_nodes=0"],
)
def test_a_trainer_that_cannot_be_is_a_sentence_before_anything_is_read(
    tmp_path: Path, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "make_parts", None)
    with pytest.raises(UserError, match="trainer"):
        run(tiny(tmp_path, f"trainer.{setting}"))


def test_a_run_that_was_cut_short_says_so(tmp_path: Path) -> None:
    record = run(tiny(tmp_path, "trainer.max_epochs=3", "++trainer.max_steps=1"))
    assert "partial" in record.marks
    assert record.epochs == 1
    assert "partial" not in run(tiny(tmp_path, "trainer.max_epochs=1", "trainer.limit_train_batches=1.0")).marks


def test_two_ways_to_say_one_block_are_one_run(tmp_path: Path) -> None:
    records = [
        run(tiny(tmp_path, "method=toast_late", "trainer.max_epochs=1", f"method.first_block={block}"))
        for block in ("-1", "2", "null")
    ]
    assert len({record.name for record in records}) == 1
    assert records[0].options["first_block"] == 2


def test_an_evaluation_is_of_the_whole_split(tmp_path: Path) -> None:
    config = tiny(tmp_path, "trainer.max_epochs=1", "trainer.limit_test_batches=1", "data.batch_size=2")
    record = run(config)
    evaluate(folder_of(config, record), [])
    assert len(table(folder_of(config, record) / "predictions.csv")) == record.split["test"] > 2
