"""What raw archives are written with: drawn pictures, and their containers, the same bytes in every run."""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat


def rng_of(name: str) -> np.random.Generator:
    """Random numbers that belong to a name, so that no two files are alike and every run writes the same."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def picture(name: str, height: int = 0, width: int = 0) -> Image.Image:
    """A smooth picture in colour; of 32 to 64 pixels a side where no size is asked for."""
    rng = rng_of(name)
    height, width = height or int(rng.integers(32, 65)), width or int(rng.integers(32, 65))
    small = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str = "JPEG") -> bytes:
    """The picture as a file's content."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


def pixels(name: str, count: int, side: int) -> NDArray[np.uint8]:
    """A stack of square pictures."""
    return np.stack([np.asarray(picture(f"{name}{i}", side, side)) for i in range(count)])


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files under their paths below a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def tar(files: Mapping[str, bytes]) -> bytes:
    """A plain tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def gz(content: bytes) -> bytes:
    """Gzip without a date, so that every run writes the same."""
    return gzip.compress(content, compresslevel=1, mtime=0)


def zipped(files: Iterable[tuple[str, bytes]]) -> bytes:
    """A zip without dates."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def mat(**arrays: NDArray[np.generic]) -> bytes:
    """A MATLAB file without the date in its header."""
    buffer = io.BytesIO()
    savemat(buffer, arrays)
    return b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:]


def hdf5(**arrays: NDArray[np.generic]) -> bytes:
    """An HDF5 file of these arrays; two underscores in a name stand for a group."""
    import h5py  # comes with the extra "prepare" only

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name.replace("__", "/"), data=array)
    return buffer.getvalue()


def text(lines: Iterable[str]) -> bytes:
    """Lines, each with its end."""
    return "".join(f"{line}\n" for line in lines).encode()


# The Castagnoli polynomial's remainders of all bytes.
CRC32C = list(range(256))
for _ in range(8):
    CRC32C = [value >> 1 ^ (0x82F63B78 if value & 1 else 0) for value in CRC32C]


def masked(content: bytes) -> bytes:
    """TFRecord's checksum."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = CRC32C[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def field(number: int, content: bytes) -> bytes:
    """A protocol buffer's field of bytes, with its length as a varint."""
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def tfrecord(examples: Iterable[Mapping[str, bytes | int]]) -> Iterator[bytes]:
    """TensorFlow's Example messages, framed; integers below 128 only."""
    for example in examples:
        # bytes_list is field 1 of a Feature, int64_list field 3, and both keep their values in field 1
        features = {key: field(1, field(1, value)) if isinstance(value, bytes) else field(3, field(1, bytes([value])))
                    for key, value in example.items()}  # fmt: skip
        entries = [field(1, field(1, key.encode()) + field(2, feature)) for key, feature in features.items()]
        content = field(1, b"".join(entries))
        size = struct.pack("<Q", len(content))
        yield size + masked(size) + content + masked(content)


def norb_matrix(array: NDArray[np.uint8] | NDArray[np.int32]) -> bytes:
    """NORB's matrix file: a magic number for the type, the number of axes, at least three sizes, the values."""
    magic = 0x1E3D4C55 if array.dtype == np.uint8 else 0x1E3D4C54
    sizes = [*array.shape, 1, 1][: max(3, array.ndim)]
    return np.array([magic, array.ndim, *sizes], dtype="<i4").tobytes() + array.tobytes()
