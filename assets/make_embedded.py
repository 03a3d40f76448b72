"""python assets/make_embedded.py <run folder>: the embedded backbone's file, from the run that trained it."""

import json
import sys
from pathlib import Path

from safetensors.torch import save

from src.records import atomic
from src.training.saved import load_saved


def main(folder: Path) -> None:
    """Write the backbone of a fine-tuning run, without its classifier, with what `src.backbones` needs to build it."""
    saved = load_saved(folder)
    metadata = {
        "architecture": json.dumps(saved.config["backbone"]["architecture"]),
        "mean": json.dumps(saved.data.mean),
        "std": json.dumps(saved.data.std),
    }
    tensors = {name: value.contiguous() for name, value in saved.method.backbone.state_dict().items()}
    with atomic(Path(__file__).with_name("embedded_vit.safetensors")) as file:
        file.write(save(tensors, metadata))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
