"""Compares a golden file with what we compute, at the tolerances of the golden files' own README."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.parity.recompute import LATER, recompute

KINDS = {"outputs": r"", "gradients": r"grad/|momentum/", "parameters": r"param/"}
TOLERANCE = {
    "float32": {"outputs": 1e-5, "gradients": 1e-4, "parameters": 1e-5},
    "float64": {"outputs": 1e-10, "gradients": 1e-9, "parameters": 1e-10},
}
# What a file needs to be computed from, and so is not compared.
INPUTS = r"meta|x|y|trainable|pairs|base_lr|sd/.*|drop/.*"


@dataclass
class Comparison:
    """What came of one file."""

    name: str
    dtype: str
    arrays: int = 0
    largest: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    uncovered: list[str] = field(default_factory=list)


def compare(path: Path) -> Comparison:
    """Recompute one golden file. An array differs by max|a - b| / max|b|, over the whole array."""
    # The optimiser and schedule files' learning rates are float64 in both precisions.
    result = Comparison(path.stem, "float32" if path.stem.endswith("_f32") else "float64")
    try:
        # Opened here, as numpy leaves a broken file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except Exception as error:  # numpy and zipfile raise of every kind on foreign bytes
        result.wrong.append(f"not a whole .npz file ({type(error).__name__})")
        return result
    name = re.sub(r"_f(32|64)$", "", path.stem)
    outputs = [key for key in arrays if not re.fullmatch(INPUTS, key)]
    result.uncovered = [key for key in outputs if re.fullmatch(LATER, f"{name}/{key}")]
    if len(result.uncovered) == len(outputs):
        return result
    try:
        compared = set()
        for key, ours in recompute(name, arrays):
            check(result, key, ours.detach().numpy(), arrays[key])
            compared.add(key)
    except (AssertionError, KeyError, RuntimeError, ValueError) as error:
        result.wrong.append(f"{type(error).__name__}: {error}")
        return result
    result.arrays = len(compared)
    result.wrong += [f"{key}: not computed" for key in outputs if key not in compared and key not in result.uncovered]
    return result


def check(result: Comparison, key: str, ours: np.ndarray, golden: np.ndarray) -> None:
    """Enter the error of one array, and its name if it is above tolerance."""
    kind = next((kind for kind, pattern in reversed(KINDS.items()) if re.match(pattern, key)), "outputs")
    if ours.shape != golden.shape:
        result.wrong.append(f"{key}: shape {ours.shape} instead of {golden.shape}")
        return
    scale = np.abs(golden).max()
    error = float(np.abs(ours - golden).max() / (scale if scale > 0 else 1))
    result.largest[kind] = max(error, result.largest.get(kind, 0.0))
    allowed = TOLERANCE[result.dtype][kind]
    if not error <= allowed:
        result.wrong.append(f"{key}: {error:.1e}, allowed {allowed:.0e}")
