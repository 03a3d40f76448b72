"""TOAST and its rivals: transfer learning of frozen vision transformers."""

from typing import Any


def load(run: str) -> tuple[Any, Any, list[str]]:
    """The model of a run folder, ready to use: (model, transform, class names).

    `model(images).logits` takes (B, 3, H, W); `transform` makes (3, H, W) of a Pillow image or a path.
    Raises UserError if the folder or the backbone's weights cannot be used.
    """
    from pathlib import Path

    from src.training.saved import load_saved

    saved = load_saved(Path(run))
    return saved.method, saved.data.eval_transform(), saved.classes
