"""The golden numbers that are kept here; `python -m tests.parity FOLDER` takes any others of that format."""

from pathlib import Path

import numpy as np
import pytest

from tests.parity.__main__ import main
from tests.parity.compare import compare

FILES = sorted((Path(__file__).parents[1] / "golden").glob("*.npz"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_our_numbers_are_the_authors(path: Path) -> None:
    result = compare(path)
    assert result.arrays > 0
    assert not result.wrong


def test_a_wrong_number_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(FILES[0]) as archive:
        arrays = {key: archive[key] for key in archive.files}
    last = max(key for key in arrays if key.startswith("cosine/"))
    np.savez(tmp_path / FILES[0].name, **(arrays | {last: arrays[last] * (1 + 1e-6)}))
    assert main([str(tmp_path)]) == 1
    assert last in capsys.readouterr().out


def test_nothing_to_compare_is_no_success(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 2
    assert main([]) == 2


def test_a_torn_file_and_one_of_another_kind_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vit_torn_f32.npz").write_bytes(FILES[0].read_bytes()[:1000])
    np.savez(tmp_path / "another_model.npz", logits=np.ones(3))
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "vit_torn_f32: not a whole .npz file" in said
    assert "not covered yet: another_model (1 arrays)" in said
