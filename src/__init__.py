"""TOAST and its rivals: transfer learning of frozen vision transformers."""

import os
import tempfile
from pathlib import Path
from typing import Any

# Before torch loads OpenMP: threads that wait for each other sleep instead of spinning. On a machine with anything else
# to do, loader workers for one, spinning made small models ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# torchmetrics imports matplotlib where there is one, which would leave a cache of fonts below the home folder.
if not any((Path.home() / place / "matplotlib").is_dir() for place in (".config", ".cache")):
    os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / f"matplotlib-{os.getuid()}"))


def load(run: str, *arguments: str) -> tuple[Any, Any, list[str]]:
    """The model of a run folder, ready to use: (model, transform, class names).

    `model(images).logits` takes (B, 3, H, W); `transform` makes (3, H, W) of a Pillow image or a path.
    arguments: `key=value` in the place of the run's own config, such as `backbone.file=...`.
    Raises UserError if the folder or the backbone's weights cannot be used.
    """
    from src.training.saved import load_saved

    saved = load_saved(Path(run), arguments)
    return saved.method, saved.data.eval_transform(), saved.classes
