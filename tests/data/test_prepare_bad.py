"""Preparing from archives that are missing, wrong, damaged, hostile or odd."""

import dataclasses
import hashlib
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.data.fgvc import Fgvc
from src.data.prepare.archives import DOWNLOADS
from src.data.prepare.fgvc import prepare
from src.records import UserError
from tests.data.pack import (
    add,
    archives,
    extract,
    leftovers,
    miniature,
    pack,
    take,
)

PROJECT = Path(__file__).parents[2]


def test_what_is_missing_is_named_with_size_and_address(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError) as caught:
        prepare("dogs", tmp_path / "stanford_dogs")
    for word in (f"put into {tmp_path}", "images.tar (793,579,520 bytes)", "lists.tar (481,280", "vision.stanford.edu"):
        assert word in str(caught.value)
    assert "annotation" not in str(caught.value)
    paths = miniature("dogs", made, tmp_path, monkeypatch)
    paths[0].unlink()
    with pytest.raises(UserError, match=r"is missing: images\.tar \(") as caught:
        prepare("dogs", tmp_path / "stanford_dogs")
    assert "lists.tar" not in str(caught.value)
    assert not (tmp_path / "stanford_dogs").exists()
    with pytest.raises(UserError, match=r"data\.archives=.*nowhere is no folder"):
        prepare("dogs", tmp_path / "stanford_dogs", archives=tmp_path / "nowhere")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def page(path: Path) -> None:
    path.write_bytes(b"\n<!DOCTYPE html><title>404</title>")


@pytest.mark.parametrize(
    ("name", "spoil", "sentence"),
    [
        ("102flowers.tgz", cut, "bytes instead of .* it is cut off"),
        ("102flowers.tgz", lambda path: path.write_bytes(bytes(10**6)), "1,000,000 bytes .* it is another file"),
        ("102flowers.tgz", flip, "has the sha256 .* instead of .* damaged or changed"),
        ("102flowers.tgz", page, "is a web page and no archive"),
        ("imagelabels.mat", flip, r"imagelabels\.mat has the sha256"),
    ],
)
def test_another_file_under_the_right_name(
    name: str,
    spoil: Callable[[Path], None],
    sentence: str,
    made: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = {path.name: path for path in miniature("flowers", made, tmp_path, monkeypatch)}
    spoil(paths[name])
    root = tmp_path / "oxford_flowers"
    with pytest.raises(UserError, match=sentence) as caught:
        prepare("flowers", root, subset=True)
    assert "\n" not in str(caught.value)
    assert leftovers(tmp_path) == []
    with pytest.raises(UserError):
        _ = Fgvc("flowers", str(root), subset=True).table


def test_a_set_of_which_only_the_md5_is_known(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = archives("nabirds", made["nabirds"], tmp_path)
    with pytest.raises(UserError, match=r"has the md5 .* instead of df21a9e4db349a14e2b08adfd45873bd"):
        prepare("nabirds", tmp_path / "nabirds", subset=True)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(DOWNLOADS, "nabirds", (dataclasses.replace(DOWNLOADS["nabirds"][0], md5=md5),))
    prepare("nabirds", tmp_path / "nabirds", subset=True)


@pytest.mark.parametrize("kind", ["tgz", "tar", "zip"])
@pytest.mark.parametrize("share", [0.0, 0.002, 0.5, 0.9])
def test_a_truncated_archive_is_a_sentence_also_when_nothing_is_known_of_it(
    kind: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"CUB_200_2011/images/{number}.jpg": os.urandom(3000) for number in range(20)}
    path = pack(tmp_path / f"birds.{kind}", files | {"CUB_200_2011/images.txt": os.urandom(40_000)})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"damaged|no tar or zip archive"):
        take(path, tmp_path / "CUB_200_2011", monkeypatch)
    with pytest.raises(UserError, match=r"has no images\.txt"):
        _ = Fgvc("cub", str(tmp_path), subset=True).table


def test_another_data_set_under_the_name_is_not_brought_into_place(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archives("dogs", made["dogs"], tmp_path)[0].rename(tmp_path / "CUB_200_2011.tgz")
    with pytest.raises(UserError, match=r"CUB_200_2011\.tgz has no images\.txt but Images; is it another archive"):
        take(path, tmp_path / "CUB_200_2011", monkeypatch, official=False)
    assert list((tmp_path / "CUB_200_2011").iterdir()) == []


# Hostile and odd ones

SYMLINK, HARDLINK, FIFO, DEVICE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE


@pytest.mark.parametrize(
    ("member", "fields"),
    [
        ("../evil", {}),
        ("CUB_200_2011/../../evil", {}),
        ("/{root}/evil", {}),
        ("C:\\evil", {}),
        ("..\\evil", {}),
        ("../evil", {"type": tarfile.DIRTYPE}),
        ("evil", {"type": SYMLINK, "linkname": "../secret"}),
        ("a/evil", {"type": SYMLINK, "linkname": "../../secret"}),
        ("evil", {"type": SYMLINK, "linkname": "/{root}/secret"}),
        ("evil", {"type": HARDLINK, "linkname": "../secret"}),
        ("evil", {"type": HARDLINK, "linkname": "/{root}/secret"}),
        ("evil", {"type": FIFO}),
        ("evil", {"type": DEVICE}),
    ],
)
def test_a_member_that_leads_outside_is_refused_by_name(
    member: str, fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("secret")
    words = {key: value.format(root=tmp_path) if key == "linkname" else value for key, value in fields.items()}
    path = tmp_path / "downloads" / "birds.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        add(tar, "CUB_200_2011/images.txt", b"1 a\n")
        add(tar, member.format(root=tmp_path), **words)
        add(tar, "evil/more", b"x")
    with pytest.raises(UserError, match=r"is not unpacked: its member .*evil .*(outside|neither)"):
        take(path, tmp_path / "data" / "CUB_200_2011", monkeypatch)
    found = {str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*") if one.is_file() or one.is_symlink()}
    assert {name for name in found if ".partial" not in name} == {"secret", "downloads/birds.tar"}


@pytest.mark.parametrize(("member", "kind"), [("../evil", 0o100644), ("evil", 0o120777), ("evil", 0o020644)])
def test_and_of_a_zip(member: str, kind: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "birds.zip"
    with zipfile.ZipFile(path, "w") as packed:
        info = zipfile.ZipInfo(member)
        info.external_attr = kind << 16
        packed.writestr("images.txt", b"")
        packed.writestr(info, "../../secret")
    with pytest.raises(UserError, match=r"its member .*evil"):
        take(path, tmp_path / "CUB_200_2011", monkeypatch)
    assert not any(one.is_symlink() or one.name == "evil" for one in tmp_path.rglob("*"))


def test_a_link_within_becomes_a_copy_and_one_to_nothing_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "birds.tar", "w") as tar:
        add(tar, "./CUB_200_2011/images/a.jpg", b"picture")
        add(tar, "CUB_200_2011/images/b.jpg", type=HARDLINK, linkname="CUB_200_2011/images/a.jpg")
        add(tar, "CUB_200_2011/c.jpg", type=SYMLINK, linkname="images/../images/a.jpg")
    (tmp_path / "out").mkdir()
    extract(tmp_path / "birds.tar", tmp_path / "out")
    for name in ("images/a.jpg", "images/b.jpg", "c.jpg"):
        path = tmp_path / "out" / name
        assert (path.read_bytes(), path.is_symlink(), path.stat().st_nlink) == (b"picture", False, 1)
    with tarfile.open(tmp_path / "birds.tar", "a") as tar:
        add(tar, "d.jpg", type=SYMLINK, linkname="images")
    with pytest.raises(UserError, match=r"d\.jpg in the archive is a link to what is not in it"):
        extract(tmp_path / "birds.tar", tmp_path / "out")


def test_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = os.fsdecode(b"caf\xe9.jpg")
    with tarfile.open(tmp_path / "birds.tgz", "w:gz", errors="surrogateescape") as tar:
        for name in (f"CUB_200_2011/{odd}", "CUB_200_2011//a b/ü.jpg", "CUB_200_2011/A.jpg", "CUB_200_2011/a.jpg"):
            add(tar, name, name.encode(errors="surrogateescape"))
    with zipfile.ZipFile(tmp_path / "birds.zip", "w") as packed:
        packed.writestr("CUB_200_2011\\images\\1.jpg", b"1")
    for kind, names in (("tgz", {odd, "a b/ü.jpg", "A.jpg", "a.jpg"}), ("zip", {"images/1.jpg"})):
        folder = tmp_path / kind
        folder.mkdir()
        extract(tmp_path / f"birds.{kind}", folder)
        assert {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()} == names
    # A disk that ignores case would let the one overwrite the other.
    monkeypatch.setattr(Path, "samefile", lambda one, other: True)
    with pytest.raises(UserError, match=r"a\.jpg and A\.jpg are the same file to the disk"):
        extract(tmp_path / "birds.tgz", tmp_path / "tgz")
