"""CUB's own layout with its published lists, and images only where a test puts them."""

from pathlib import Path

import numpy as np
from PIL import Image

from src.data.lists import held_out

CLASSES = 200
TRAIN, TEST = 5994, 5794


def picture(seed: int, height: int = 70, width: int = 90) -> Image.Image:
    """A smooth random picture, as photographs are and noise is not."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def make_cub(root: Path, images: int) -> Path:
    """Write the full lists of CUB, under invented names but for the validation images, and the first images of each."""
    chosen = sorted(name.removeprefix("images/") for name in held_out("cub", "images"))
    folders = sorted({name.split("/")[0] for name in chosen})
    assert len(folders) == CLASSES
    train = chosen + [f"{folders[i % CLASSES]}/train_{i:04d}.jpg" for i in range(TRAIN - len(chosen))]
    test = [f"{folders[i % CLASSES]}/test_{i:04d}.jpg" for i in range(TEST)]
    listed = [(name, 1) for name in train] + [(name, 0) for name in test]
    lines = {
        "images.txt": [f"{i} {name}" for i, (name, _) in enumerate(listed, 1)],
        "image_class_labels.txt": [f"{i} {int(name[:3])}" for i, (name, _) in enumerate(listed, 1)],
        "train_test_split.txt": [f"{i} {flag}" for i, (_, flag) in enumerate(listed, 1)],
        "classes.txt": [f"{i} {folder}" for i, folder in enumerate(folders, 1)],
    }
    root.mkdir(parents=True, exist_ok=True)
    for name, text in lines.items():
        (root / name).write_text("\n".join(text) + "\n")
    own = train[len(chosen) :]
    for seed, name in enumerate(chosen[:images] + own[:images] + test[:images]):
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(path, quality=95)
    return root
