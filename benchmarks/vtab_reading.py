"""python benchmarks/vtab_reading.py [IMAGES]: what reading a prepared VTAB task costs in time and memory.

Makes packs of the size and kind of the largest two, dSprites (arrays of 64 x 64) and Retinopathy (JPEGs of 540 pixels),
with few distinct pictures, opens each as training does and reads its test split once in this process. Prints the time
to open, images a second, the size on disk, and the anonymous memory that opening and reading added at most. IMAGES:
test images of each, for a shorter look.
"""

import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from src.data.prepare.packing import pack
from src.data.vtab.module import Vtab
from src.data.vtab.tasks import SOURCES

TEST = {"dsprites": 73_728, "diabetic_retinopathy_detection": 42_670}
TASKS = {"dsprites": "dspr_loc", "diabetic_retinopathy_detection": "retinopathy"}


def anonymous() -> int:
    """This process's anonymous memory in bytes; mapped pages of files are not in it."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) * 1024


def encoded(seed: int, side: int, kind: str) -> bytes:
    """A smooth picture with grain, or for `PNG` a grey one of zeros and ones."""
    random = np.random.default_rng(seed)
    buffer = io.BytesIO()
    if kind == "PNG":
        Image.fromarray(random.integers(0, 2, (side, side), dtype=np.uint8)).save(buffer, kind)
    else:
        small = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        grain = random.normal(0, 6, (side, side, 3))
        pixels = np.clip(np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)) + grain, 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, kind, quality=72)
    return buffer.getvalue()


def make(source: str, root: Path, test: int) -> None:
    """Write a pack with 800, 200 and `test` images."""
    few = [encoded(seed, *((64, "PNG") if source == "dsprites" else (540, "JPEG"))) for seed in range(16)]

    def examples(split: str, count: int):  # type: ignore[no-untyped-def]
        for number in range(count):
            extra = {"label": 0, "label_x_position": number % 32, "label_orientation": number % 40}
            key = f"{split}_{number}".encode()
            yield {"id": key, "name": key, "image": few[number % len(few)], **extra}

    splits = {split: examples(split, count) for split, count in (("train", 800), ("val", 200), ("test", test))}
    pack(SOURCES[source], splits, None, root / source, official=False, warnings=[], made_with={})


def main(arguments: list[str]) -> None:
    """Print a line a source."""
    torch.set_num_threads(1)
    for source, count in TEST.items():
        test = int(arguments[0]) if arguments else count
        with tempfile.TemporaryDirectory() as folder:
            make(source, Path(folder), test)
            size = sum(path.stat().st_size for path in (Path(folder) / source).iterdir())
            before = anonymous()
            begun = time.perf_counter()
            data = Vtab(TASKS[source], folder, official=False, batch_size=64, workers=0)
            _ = data.table
            opened = time.perf_counter() - begun
            most, begun = 0, time.perf_counter()
            for number, _ in enumerate(data.test_dataloader()):
                if number % 50 == 0:
                    most = max(most, anonymous())
            seconds = time.perf_counter() - begun
        print(
            f"{source}: {test:,} test images, {size / 1e6:,.0f} MB; opened in {1000 * opened:.0f} ms; "
            f"{test / seconds:,.0f} images/s on one core; {(most - before) / 1e6:,.0f} MB of anonymous memory added"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
