"""Every FGVC data set's lists, made once: reading leaves them as they are, and a test that changes some copies them."""

import tarfile
from pathlib import Path

import pytest

from src.data.fgvc import ARCHIVES, digest_of
from tests.archives import make_cars, make_dogs, make_flowers, make_nabirds, shared
from tests.cub import make_cub


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The root of each data set's generated lists, without any image."""
    folder = tmp_path_factory.mktemp("archives")
    return {
        "cub": make_cub(folder / "CUB_200_2011", images=0),
        "nabirds": make_nabirds(folder / "nabirds"),
        "flowers": make_flowers(folder / "oxford_flowers"),
        "dogs": make_dogs(folder / "stanford_dogs"),
        "cars": make_cars(folder / "stanford_cars"),
    }


@pytest.fixture(scope="session")
def twins(made: dict[str, Path]) -> dict[str, str]:
    """The published lists' digest by that of the generated ones."""
    return {digest_of(ARCHIVES[name].read(root)): ARCHIVES[name].digest for name, root in made.items()}


@pytest.fixture(autouse=True)
def generated_lists_count_as_published(twins: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.data.fgvc.digest_of", lambda listed: twins.get(found := digest_of(listed), found))


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The roots of the real lists that lie beside the project; empty in a clone."""
    folders = {"cub": "CUB_200_2011", "flowers": "oxford_flowers", "dogs": "stanford_dogs", "cars": "stanford_cars"}
    roots = {name: path for name, folder in folders.items() for path in shared(folder)}
    for archive in shared("nabirds/nabirds_metadata.tar.xz"):
        folder = tmp_path_factory.mktemp("nabirds")
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
        roots["nabirds"] = folder / "nabirds"
    return roots
