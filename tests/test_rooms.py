"""Imports run downwards; Hydra and Lightning stay in their rooms."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
FLOORS = {
    "records": 1, "backbones": 1, "methods": 2, "data": 2, "config": 3,
    "attention": 4, "training": 4, "report": 5, "sweep": 6,
}  # fmt: skip
HYDRA = {"config"}
LIGHTNING = {"training", "data", "sweep"}


def imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return names


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda path: path.relative_to(SRC).as_posix())
def test_imports_run_downwards(path: Path) -> None:
    parts = path.relative_to(SRC).parts
    room = parts[0] if len(parts) > 1 else None
    floor = FLOORS[room] if room else 9
    for name in imports(path):
        package, _, rest = name.partition(".")
        if package == "src" and rest:
            assert FLOORS[rest.split(".")[0]] <= floor, name
        if package in ("hydra", "omegaconf"):
            assert room in HYDRA, name
        if package in ("lightning", "pytorch_lightning"):
            assert room in LIGHTNING, name
