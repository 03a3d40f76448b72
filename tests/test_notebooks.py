"""The notebooks run from top to bottom with no data at hand, say nothing unasked, and are stored without outputs."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from src.records import read_record

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def execute(name: str, short: dict[str, str]) -> dict[str, list[Any]]:
    """Run a notebook where it lies, with some of its text replaced; each code cell's outputs."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    for old, new in short.items():
        (cell,) = [cell for cell in notebook.cells if old in cell.source and cell.cell_type == "code"]
        cell.source = cell.source.replace(old, new)
    place = {"metadata": {"path": str(NOTEBOOKS)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=place).execute()
    return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def printed(outputs: list[Any]) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_your_own_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("TOAST_RUNS", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    monkeypatch.delenv("TOAST_DATA", raising=False)
    folder = tmp_path / "my shapes, a=b"
    short = {'"../data/shapes"': repr(str(folder)), "epochs = 20": "epochs = 2", "EACH = 150": "EACH = 10"}
    outputs = execute("01_your_own_pictures", short)

    assert all(output.get("name") != "stderr" for cell in outputs.values() for output in cell)
    counted = [line.split() for line in printed(outputs["pictures"]).splitlines()]
    assert counted == [[shape, "10", "pictures"] for shape in ("cross", "ring", "triangle")]
    assert printed(outputs["train"]).startswith("python -m src.train experiment=folder/toast backbone=embedded ")
    (run,) = (tmp_path / "toast_runs").iterdir()
    record = read_record(run)
    assert record is not None
    assert (record.status, record.method, record.epochs) == ("finished", "toast", 2)
    assert record.split == {"train": 21, "val": 3, "test": 6}
    result = printed(outputs["result"])
    assert result.count("epoch ") == 2
    assert f"test accuracy {record.metrics['test/accuracy']:.1%} of 6 pictures" in result
    answers = printed(outputs["attention"]).splitlines()
    right = sum("right" in answer for answer in answers)
    assert len(answers) == 6
    assert right / 6 == pytest.approx(record.metrics["test/accuracy"])
    shares = [float(line.split()[1].rstrip("%")) for line in printed(outputs["new"]).splitlines()]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert shares == sorted(shares, reverse=True)
    for cell in ("attention", "new"):
        assert "image/png" in outputs[cell][-1].data


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_stored_notebooks_have_no_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
