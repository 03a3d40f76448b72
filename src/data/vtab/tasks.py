"""VTAB-1k's nineteen tasks: of which data set of tensorflow-datasets, and which of its examples are which split."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from src.records import UserError

TRAIN, VAL = 800, 200
GROUPS = ("natural", "specialized", "structured")


@dataclass(frozen=True)
class Cut:
    """The examples of a split of tensorflow-datasets from a place on, which is the sum of its percentages of them."""

    split: str
    percent: tuple[int, ...] = ()

    def start(self, count: int) -> int:
        """Where it starts among `count` examples; each percentage is rounded down by itself, as VTAB does."""
        return sum(part * count // 100 for part in self.percent)


@dataclass(frozen=True)
class File:
    """One download: its official name, and its size in bytes."""

    name: str
    bytes: int | None = None
    """None for a folder."""


@dataclass(frozen=True)
class Source:
    """A data set of tensorflow-datasets, which one or two tasks are cut from.

    builder, version: of tensorflow-datasets; `config` where it has several. sizes: examples of each split that is used
    (two numbers where both are right). key, image: names of the features that identify an example and hold its picture.
    train: the first 800 of that split; val: 200 from where it starts; test: the rest from where it starts. files: what
    to fetch, from `page`; by_hand: tensorflow-datasets cannot fetch it. needs: packages that the builder imports. raw:
    height, width and channels where the source is an array, whose pixels are then kept as they are.
    """

    builder: str
    version: str
    sizes: Mapping[str, tuple[int, ...]]
    val: Cut
    files: tuple[File, ...]
    page: str
    config: str | None = None
    test: Cut = Cut("test")
    key: str = "file_name"
    by_hand: bool = False
    needs: tuple[str, ...] = ()
    raw: tuple[int, int, int] | None = None
    scale: int = 1
    """What raw values are multiplied by to lie in 0 to 255."""

    @property
    def full_name(self) -> str:
        """What tensorflow-datasets calls it."""
        return f"{self.builder}{f'/{self.config}' if self.config else ''}:{self.version}"


@dataclass(frozen=True)
class Task:
    """One of the nineteen: its group, its source, its classes, and the rule that makes its labels (see labels.py)."""

    name: str
    group: str
    source: str
    classes: int
    rule: str = "label"
    folder: str = ""
    """What the widely shared copy of VTAB-1k as JPEG files calls it, where that differs."""


NINETY = Cut("train", (90,))
VALIDATION = Cut("validation")

SOURCES = {
    source.builder: source
    for source in (
        Source(
            "cifar100", "3.0.2", {"train": (50000,), "test": (10000,)}, NINETY,
            (File("cifar-100-binary.tar.gz", 168_513_733),), "https://www.cs.toronto.edu/~kriz/cifar.html",
            key="id", raw=(32, 32, 3),
        ),
        # A stray file that is no picture may take one of the 30 places of its class.
        Source(
            "caltech101", "3.0.2", {"train": (3060, 3059), "test": (6084,)}, NINETY,
            (File("caltech-101.zip", 137_414_764),), "https://data.caltech.edu/records/mzrjq-6wc02",
            key="image/file_name",
        ),
        Source(
            "dtd", "3.0.1", {"train": (1880,), "validation": (1880,), "test": (1880,)}, VALIDATION,
            (File("dtd-r1.0.1.tar.gz", 625_239_812),), "https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        ),
        Source(
            "oxford_flowers102", "2.1.1", {"train": (1020,), "validation": (1020,), "test": (6149,)}, VALIDATION,
            (File("102flowers.tgz", 344_862_509), File("imagelabels.mat", 502), File("setid.mat", 14_989)),
            "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/", needs=("scipy",),
        ),
        Source(
            "oxford_iiit_pet", "4.0.0", {"train": (3680,), "test": (3669,)}, Cut("train", (80,)),
            (File("images.tar.gz", 791_918_971), File("annotations.tar.gz", 19_173_078)),
            "https://www.robots.ox.ac.uk/~vgg/data/pets/",
        ),
        Source(
            "svhn_cropped", "3.1.0", {"train": (73257,), "test": (26032,)}, NINETY,
            (File("train_32x32.mat", 182_040_794), File("test_32x32.mat", 64_275_384),
             File("extra_32x32.mat", 1_329_278_602)),
            "http://ufldl.stanford.edu/housenumbers/", key="id", needs=("scipy",), raw=(32, 32, 3),
        ),
        # One listed picture cannot be decoded; tensorflow-datasets leaves it out.
        Source(
            "sun397", "4.0.0", {"train": (76127, 76128), "validation": (10875,), "test": (21750,)}, VALIDATION,
            (File("SUN397.tar.gz", 39_077_296_924), File("Partitions.zip", 18_293_705)),
            "https://vision.princeton.edu/projects/2010/SUN/", config="tfds", needs=("cv2",),
        ),
        Source(
            "patch_camelyon", "2.0.0", {"train": (262144,), "validation": (32768,), "test": (32768,)}, VALIDATION,
            tuple(
                File(f"camelyonpatch_level_2_split_{split}_{part}.h5.gz", size)
                for split, sizes in (
                    ("train", (6_421_353_462, 21_378)),
                    ("valid", (805_965_320, 3_038)),
                    ("test", (800_875_929, 3_040)),
                )
                for part, size in zip("xy", sizes, strict=True)
            ),
            "https://zenodo.org/records/2546921", key="id", needs=("h5py",), raw=(96, 96, 3),
        ),
        Source(
            "eurosat", "2.0.0", {"train": (27000,)}, Cut("train", (60,)),
            (File("EuroSAT.zip", 94_280_567),), "https://github.com/phelber/EuroSAT",
            config="rgb", test=Cut("train", (60, 20)), key="filename",
        ),
        Source(
            "resisc45", "3.0.0", {"train": (31500,)}, Cut("train", (60,)),
            (File("NWPU-RESISC45"),), "https://gcheng-nwpu.github.io/#Datasets (unpack NWPU-RESISC45.rar)",
            test=Cut("train", (60, 20)), key="filename", by_hand=True,
        ),
        Source(
            "diabetic_retinopathy_detection", "3.0.0",
            {"train": (35126,), "validation": (10906,), "test": (42670,)}, VALIDATION,
            (File("train"), File("test"), File("sample"), File("trainLabels.csv"),
             File("retinopathy_solution.csv", 1_181_257)),
            "https://www.kaggle.com/c/diabetic-retinopathy-detection/data (unpack its archives)",
            config="btgraham-300", key="name", by_hand=True, needs=("cv2",),
        ),
        Source(
            "clevr", "3.1.0", {"train": (70000,), "validation": (15000,)}, NINETY,
            (File("CLEVR_v1.0.zip", 19_021_600_724),), "https://cs.stanford.edu/people/jcjohns/clevr/",
            test=VALIDATION,
        ),
        Source(
            "dmlab", "2.0.1", {"train": (65550,), "validation": (22628,), "test": (22735,)}, VALIDATION,
            (File("dmlab.tar.gz", 3_017_022_789),), "https://github.com/google-research/task_adaptation",
            key="filename",
        ),
        Source(
            "kitti", "3.3.0", {"train": (6347,), "validation": (423,), "test": (711,)}, VALIDATION,
            (File("data_object_image_2.zip", 12_569_945_557), File("data_object_label_2.zip", 5_601_213),
             File("devkit_object.zip", 63_794)),
            "https://www.cvlibs.net/datasets/kitti/eval_object.php", key="image/file_name", needs=("cv2",),
        ),
        Source(
            "dsprites", "2.1.0", {"train": (737280,)}, Cut("train", (80,)),
            (File("dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5", 28_024_106),),
            "https://github.com/google-deepmind/dsprites-dataset",
            test=Cut("train", (80, 10)), key="id", needs=("h5py",), raw=(64, 64, 1), scale=255,
        ),
        # The validation images show objects of the test half: VTAB's own choice.
        Source(
            "smallnorb", "2.1.0", {"train": (24300,), "test": (24300,)}, Cut("test"),
            tuple(
                File(f"smallnorb-5x{digits}x9x18x6x2x96x96-{part}-{kind}.mat.gz", size)
                for part, digits, sizes in (
                    ("training", "46789", (131_896_188, 348, 71_052)),
                    ("testing", "01235", (130_799_817, 347, 10_428)),
                )
                for kind, size in zip(("dat", "cat", "info"), sizes, strict=True)
            ),
            "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/", test=Cut("test", (50,)), key="id", raw=(96, 96, 1),
        ),
    )
}  # fmt: skip
"""By builder. Sources: facts of tensorflow-datasets 4.9.10; VTAB's task_adaptation for the cuts and the labels."""

TASKS = {
    task.name: task
    for task in (
        Task("cifar100", "natural", "cifar100", 100, folder="cifar"),
        Task("caltech101", "natural", "caltech101", 102),
        Task("dtd", "natural", "dtd", 47),
        Task("flowers102", "natural", "oxford_flowers102", 102, folder="oxford_flowers102"),
        Task("pets", "natural", "oxford_iiit_pet", 37, folder="oxford_iiit_pet"),
        Task("svhn", "natural", "svhn_cropped", 10),
        Task("sun397", "natural", "sun397", 397),
        Task("camelyon", "specialized", "patch_camelyon", 2, folder="patch_camelyon"),
        Task("eurosat", "specialized", "eurosat", 10),
        Task("resisc45", "specialized", "resisc45", 45),
        Task("retinopathy", "specialized", "diabetic_retinopathy_detection", 5, folder="diabetic_retinopathy"),
        Task("clevr_count", "structured", "clevr", 8, "clevr_count"),
        Task("clevr_dist", "structured", "clevr", 6, "clevr_dist"),
        Task("dmlab", "structured", "dmlab", 6),
        Task("kitti_dist", "structured", "kitti", 4, "kitti_dist", "kitti"),
        Task("dspr_loc", "structured", "dsprites", 16, "dspr_loc", "dsprites_loc"),
        Task("dspr_ori", "structured", "dsprites", 16, "dspr_ori", "dsprites_ori"),
        Task("snorb_azim", "structured", "smallnorb", 18, "label_azimuth", "smallnorb_azi"),
        Task("snorb_elev", "structured", "smallnorb", 9, "label_elevation", "smallnorb_ele"),
    )
}


@dataclass(frozen=True)
class Golden:
    """What is known of the 1,000 examples: sha256 of their keys, and of keys with labels."""

    keys: Mapping[str, Mapping[str, str]]
    """By source, then split (train, val). Nobody's Caltech101 can be proved, so it is not here."""
    labels: Mapping[str, str]
    """By task, of train and val together, where known."""


@cache
def golden() -> Golden:
    """The committed checksums."""
    content = json.loads((Path(__file__).parent / "golden.json").read_text())
    return Golden(content["keys"], content["labels"])


def find_task(name: str) -> Task:
    """The task of that name. Raises UserError naming the nearest ones."""
    if name not in TASKS:
        near = difflib.get_close_matches(str(name), TASKS, n=3, cutoff=0.5) or list(TASKS)
        raise UserError(f"data.task={name} is none of VTAB's tasks; near it are {', '.join(near)}")
    return TASKS[name]


def tasks_of(source: str) -> list[Task]:
    """The tasks that are cut from a source."""
    return [task for task in TASKS.values() if task.source == source]
