"""What to fetch for each FGVC data set: names, sizes, checksums, what it unpacks to, and where it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")

CALTECH = "https://data.caltech.edu/records/"
NABIRDS = "https://dl.allaboutbirds.org/nabirds, behind a form with terms of use"
OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
DOGS = "http://vision.stanford.edu/aditya86/ImageNetDogs/, with a browser, as it may refuse scripts"
CARS = "a mirror that you find, as ai.stanford.edu/~jkrause is dead since 2023"


@dataclass(frozen=True)
class Download:
    """One file to fetch, as its authors published it. Sizes in bytes; None where nothing is known."""

    name: str
    makes: tuple[str, ...]
    """Paths below the data set's folder, any of which is there once it is unpacked; the file itself if it is none."""
    where: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    use: str = ""
    """What it is for, of one that can be done without."""
    replaces: tuple[str, ...] = ()
    """Downloads that are not needed when all that replace them are there."""

    @property
    def is_archive(self) -> bool:
        return self.name not in self.makes

    def names(self) -> list[str]:
        """What it may be called: the original name, or that of a mirror's other packing."""
        ending = next((suffix for suffix in SUFFIXES if self.name.endswith(suffix)), None)
        if ending is None:
            return [self.name]
        stem = self.name.removesuffix(ending)
        return [self.name, *(stem + suffix for suffix in SUFFIXES if suffix != ending)]

    def find(self, places: list[Path]) -> Path | None:
        """Where it lies, in the first of the places that has it."""
        paths = [place / name for place in places for name in self.names()]
        return next((path for path in paths if path.is_file()), None)


def fetch(downloads: Sequence[Download]) -> str:
    """Names, sizes and addresses in words."""
    places: dict[str, list[str]] = {}
    for one in downloads:
        size = f" ({one.size:,} bytes)" if one.size is not None else ""
        places.setdefault(one.where, []).append(f"{one.name}{size}")
    return "; ".join(f"{', '.join(names)} from {where}" for where, names in places.items())


KITS = ("devkit/", "car_devkit/devkit/", "")
LABELLED = "cars_test_annos_withlabels.mat"

# Sizes and sha256 are tensorflow/datasets', md5 torchvision's and pytorch-fgvc-dataset's. Images come before lists, so
# that nothing looks like a data set before its images are there.
DOWNLOADS: dict[str, tuple[Download, ...]] = {
    "cub": (
        Download(
            name="CUB_200_2011.tgz",
            makes=("images.txt",),
            where=f"{CALTECH}65de6-vp158",
            size=1_150_585_339,
            sha256="0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
            md5="97eceeb196236b17998738112f37df78",
        ),
        Download(
            name="segmentations.tgz",
            makes=("segmentations", "../segmentations"),
            where=f"{CALTECH}w9d68-gec53",
            size=39_272_883,
            sha256="dc77f6cffea0cbe2e41d4201115c8f29a6320ecb04fffd2444f51b8066e4b84f",
            md5="4d47ba1228eae64f2fa547c47bc65255",
            use="masks of the birds, for the attention figures",
        ),
    ),
    "nabirds": (
        Download(
            name="nabirds.tar.gz",
            makes=("images.txt",),
            where=NABIRDS,
            md5="df21a9e4db349a14e2b08adfd45873bd",
        ),
    ),
    "flowers": (
        Download(
            name="102flowers.tgz",
            makes=("jpg", "102flowers/jpg"),
            where=OXFORD,
            size=344_862_509,
            sha256="2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
            md5="52808999861908f626f3c1f4e79d11fa",
        ),
        Download(
            name="imagelabels.mat",
            makes=("imagelabels.mat",),
            where=OXFORD,
            size=502,
            sha256="4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
            md5="e0620be6f572b9609742df49c70aed4d",
        ),
        Download(
            name="setid.mat",
            makes=("setid.mat",),
            where=OXFORD,
            size=14_989,
            sha256="46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd",
            md5="a5357ecc9cb78c4bef273ce3793fc85c",
        ),
    ),
    "dogs": (
        Download(
            name="images.tar",
            makes=("Images", "images/Images"),
            where=DOGS,
            size=793_579_520,
            sha256="a443fc2f9a851aa1a7b8e4fa4af94b8459fce2c9f5a2f4dd4669cf9673a4ec58",
        ),
        Download(
            name="annotation.tar",
            makes=("Annotation", "annotation/Annotation"),
            where=DOGS,
            size=21_852_160,
            sha256="662ed36f707be6b195c2fda392d8e153e83af28cedc8e2134a649f198def30fd",
            use="boxes of the dogs",
        ),
        Download(
            name="lists.tar",
            makes=("train_list.mat", "lists/train_list.mat"),
            where=DOGS,
            size=481_280,
            sha256="34b47cacd9a98b5d150e084f24d29391c084c55272295ec65c85651bc35f4d6c",
        ),
    ),
    "cars": (
        Download(
            name="cars_train.tgz",
            makes=("cars_train",),
            where=CARS,
            size=979_269_282,
            sha256="512b227b30e2f0a8aab9e09485786ab4479582073a144998da74d64b801fd288",
            md5="065e5b463ae28d29e77c1b4b166cfe61",
        ),
        Download(
            name="cars_test.tgz",
            makes=("cars_test",),
            where=CARS,
            size=977_350_468,
            sha256="bffea656d6f425cba3c91c6d83336e4c5f86c6cffd8975b0f375d3a10da8e243",
            md5="4ce7ebf6a94d07f1952d94dd34c4d501",
        ),
        Download(
            name="car_ims.tgz",
            makes=("car_ims",),
            where=CARS,
            md5="d5c8f0aa497503f355e17dc7886c3f14",
            replaces=("cars_train.tgz", "cars_test.tgz"),
        ),
        Download(
            name="cars_annos.mat",
            makes=tuple(f"{kit}cars_annos.mat" for kit in KITS),
            where=CARS,
            md5="b407c6086d669747186bd1d764ff9dbc",
            replaces=("cars_train.tgz", "cars_test.tgz"),
        ),
        Download(
            name=LABELLED,
            makes=tuple(f"{kit}{LABELLED}" for kit in KITS),
            where=CARS,
            size=185_758,
            sha256="790f75be8ea34eeded134cc559332baf23e30e91367e9ddca97d26ed9b895f05",
            md5="b0a2b23655a3edd16d84508592a98d10",
        ),
        Download(
            name="car_devkit.tgz",
            makes=tuple(f"{kit}cars_train_annos.mat" for kit in KITS),
            where=CARS,
            size=330_960,
            sha256="b97deb463af7d58b6bfaa18b2a4de9829f0f79e8ce663dfa9261bf7810e9accd",
            md5="c3b158d763b6e2245038c8ad08e45376",
        ),
    ),
}


def to_fetch() -> str:
    """Every data set with its files and where they come from, for `--help`; sizes in bytes."""
    lines = []
    for name, downloads in DOWNLOADS.items():
        lines.append(f"data=fgvc/{name}")
        for where in dict.fromkeys(download.where for download in downloads):
            lines.append(f"  from {where}")
            for one in (download for download in downloads if download.where == where):
                size = f"{one.size:,}" if one.size is not None else "size not known"
                lines.append(f"    {one.name:<31}{size:>15}{note(one)}")
    return "\n".join(lines)


def note(download: Download) -> str:
    """What to know before fetching it."""
    if download.use:
        return f"  can be left out: {download.use}"
    return f"  in the place of {' and '.join(download.replaces)}" if download.replaces else ""
