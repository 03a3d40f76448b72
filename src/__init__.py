"""TOAST and its rivals: transfer learning of frozen vision transformers."""

import os
from typing import Any

# Before torch loads OpenMP: threads that wait for each other sleep instead of spinning. On a machine with anything else
# to do, loader workers for one, spinning made small models ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def load(run: str, *arguments: str) -> tuple[Any, Any, list[str]]:
    """The model of a run folder, ready to use: (model, transform, class names).

    `model(images).logits` takes (B, 3, H, W); `transform` makes (3, H, W) of a Pillow image or a path.
    arguments: `key=value` in the place of the run's own config, such as `backbone.file=...`.
    Raises UserError if the folder or the backbone's weights cannot be used.
    """
    from pathlib import Path

    from src.training.saved import load_saved

    saved = load_saved(Path(run), arguments)
    return saved.method, saved.data.eval_transform(), saved.classes
