"""The raw archives behind VTAB-1k in their official layouts and under their official names, with few drawn pictures."""

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.vtab_formats import (
    encode,
    gz,
    hdf5,
    mat,
    norb_matrix,
    picture,
    pixels,
    put,
    rng_of,
    tar,
    text,
    tfrecord,
    zipped,
)  # fmt: skip

# Examples a split where the layout leaves the choice; smallnorb's test has as many as its train, caltech101 60 and 8.
SIZES = {"train": 24, "validation": 8, "test": 8}
# Of the builders that know one split only, "train", which the tasks cut.
UNCUT = {"eurosat": 40, "resisc45": 40, "dsprites": 50}
EUROSAT = {"AnnualCrop": 3000, "Forest": 3000, "HerbaceousVegetation": 3000, "Highway": 2500, "Industrial": 2500,
           "Pasture": 2000, "PermanentCrop": 2500, "Residential": 3000, "River": 2500, "SeaLake": 3000}  # fmt: skip


def cifar_archive(images: Mapping[str, NDArray[np.uint8]]) -> bytes:
    """Coarse byte, fine byte, then the planes of red, green and blue, an image after the other."""
    content = {
        f"cifar-100-binary/{kind}_label_names.txt": text(f"{kind}_{i:02d}" for i in range(count))
        for kind, count in (("coarse", 20), ("fine", 100))
    }
    for split, stack in images.items():
        fine = np.arange(len(stack)) * 37 % 100
        planes = stack.transpose(0, 3, 1, 2).reshape(len(stack), 3072)
        rows = np.concatenate([fine[:, None] // 5, fine[:, None], planes], axis=1, dtype=np.uint8, casting="unsafe")
        content[f"cifar-100-binary/{split}.bin"] = rows.tobytes()
    return gz(tar(content))


def cifar100(folder: Path) -> None:
    """Write cifar-100-binary.tar.gz."""
    images = {split: pixels(f"cifar {split}", SIZES[split], 32) for split in ("train", "test")}
    put(folder, {"cifar-100-binary.tar.gz": cifar_archive(images)})


def cifar100_full(folder: Path) -> None:
    """Write cifar-100-binary.tar.gz with its official 50,000 and 10,000 rows, of few pictures."""
    few = pixels("cifar full", 10, 32)
    images = {split: few[np.arange(count) % len(few)] for split, count in (("train", 50000), ("test", 10000))}
    put(folder, {"cifar-100-binary.tar.gz": cifar_archive(images)})


def caltech101(folder: Path) -> None:
    """Write caltech-101.zip: the builder draws 30 of each class for train, so these are 60 and 8, one of them grey."""
    names = [f"{kind}/image_{i:04d}.jpg" for kind in ("BACKGROUND_Google", "accordion") for i in range(1, 35)]
    images = {f"101_ObjectCategories/{name}": encode(picture(name)) for name in names}
    images[f"101_ObjectCategories/{names[0]}"] = encode(picture(names[0]).convert("L"))
    inner = ("caltech-101/101_ObjectCategories.tar.gz", gz(tar(images)))
    put(folder, {"caltech-101.zip": zipped([inner, ("caltech-101/Annotations.tar", tar({}))])})


def dtd(folder: Path) -> None:
    """Write dtd-r1.0.1.tar.gz, which is a plain tar in spite of its name."""
    files: dict[str, bytes] = {}
    for split, label in (("train", "train1"), ("validation", "val1"), ("test", "test1")):
        kinds = ("banded", "blotchy", "braided", "zigzagged")
        names = [f"{kinds[i % 4]}/{kinds[i % 4]}_{len(files) + i:04d}.jpg" for i in range(SIZES[split])]
        files |= {f"dtd/images/{name}": encode(picture(name)) for name in names}
        files[f"dtd/labels/{label}.txt"] = text(names)
    put(folder, {"dtd-r1.0.1.tar.gz": tar(files)})


def oxford_flowers102(folder: Path) -> None:
    """Write 102flowers.tgz, imagelabels.mat and setid.mat."""
    total = sum(SIZES.values())
    numbers = rng_of("flowers").permutation(total).astype(np.uint16)[None] + 1
    train, valid, test = np.split(numbers, np.cumsum([SIZES["train"], SIZES["validation"]]), axis=1)
    labels = rng_of("flower labels").permutation(np.arange(total) % 102 + 1).astype(np.uint8)[None]
    names = [f"image_{i:05d}.jpg" for i in range(1, total + 1)]
    images = {f"jpg/{name}": encode(picture(name)) for name in names}
    lists = {"imagelabels.mat": mat(labels=labels), "setid.mat": mat(trnid=train, valid=valid, tstid=test)}
    put(folder, {"102flowers.tgz": gz(tar(images)), **lists})


HEAD = """<annotation><size><width>{w}</width><height>{h}</height><depth>3</depth></size><object><name>cat</name>
<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>20</xmax><ymax>25</ymax></bndbox></object></annotation>"""


def oxford_iiit_pet(folder: Path) -> None:
    """Write images.tar.gz and annotations.tar.gz; Abyssinian_34 is no JPEG, and the builder knows it."""
    breeds = [("Abyssinian", 1, 1), ("american_bulldog", 2, 2), ("Bengal", 6, 1), ("yorkshire_terrier", 37, 2)]
    images: dict[str, bytes] = {}
    notes: dict[str, bytes] = {}
    for split, first in (("trainval", 30), ("test", 90)):
        lines = []
        for i in range(SIZES["train" if first == 30 else "test"]):
            breed, label, species = breeds[i % 4]
            name = f"{breed}_{first + i}"
            image = picture(name)
            images[f"images/{name}.jpg"] = encode(image)
            mask = Image.fromarray(rng_of(name).integers(1, 4, image.size[::-1], dtype=np.uint8))
            notes[f"annotations/trimaps/{name}.png"] = encode(mask, "PNG")
            if split == "trainval":
                notes[f"annotations/xmls/{name}.xml"] = HEAD.format(w=image.width, h=image.height).encode()
            lines.append(f"{name} {label} {species} 1")
        notes[f"annotations/{split}.txt"] = text(lines)
    images["images/Abyssinian_34.jpg"] = encode(picture("Abyssinian_34").convert("RGBA"), "PNG")
    put(folder, {"images.tar.gz": gz(tar(images)), "annotations.tar.gz": gz(tar(notes))})


def svhn_cropped(folder: Path) -> None:
    """Write the three 32x32.mat files, the digit 0 as 10."""
    for split, count in (("train", SIZES["train"]), ("test", SIZES["test"]), ("extra", 4)):
        images = pixels(f"svhn {split}", count, 32).transpose(1, 2, 3, 0)
        digits = (np.arange(count, dtype=np.uint8)[:, None] * 7 + 9) % 10 + 1
        put(folder, {f"{split}_32x32.mat": mat(X=images, y=digits)})


def sun397(folder: Path) -> None:
    """Write SUN397.tar.gz and Partitions.zip with names of the lists inside tensorflow-datasets."""
    found = importlib.util.find_spec("tensorflow_datasets")
    assert found is not None and found.origin is not None
    images: dict[str, bytes] = {}
    chosen: dict[str, list[str]] = {}
    for split, short in (("train", "tr"), ("validation", "va"), ("test", "te")):
        listed = Path(found.origin).parent / "image_classification" / f"sun397_tfds_{short}.txt"
        names = listed.read_text().splitlines()
        chosen[split] = names[:: len(names) // SIZES[split]][: SIZES[split]]
        for i, name in enumerate(chosen[split]):
            # The archive holds PNGs under .jpg names, and pictures that the builder makes smaller.
            size = (450, 600) if i == 1 else (0, 0)
            images[f"SUN397{name}"] = encode(picture(name, *size), "PNG" if i == 0 else "JPEG")
    lists = [("Training_01.txt", text(chosen["train"])), ("Testing_01.txt", text(chosen["test"]))]
    put(folder, {"SUN397.tar.gz": gz(tar(images)), "Partitions.zip": zipped(lists)})


def patch_camelyon(folder: Path) -> None:
    """Write the six camelyonpatch_level_2_split_*.h5.gz."""
    for split, short in (("train", "train"), ("validation", "valid"), ("test", "test")):
        labels = (np.arange(SIZES[split]) // 2 % 2).astype(np.uint8).reshape(-1, 1, 1, 1)
        for part, content in (("x", hdf5(x=pixels(f"camelyon {split}", SIZES[split], 96))), ("y", hdf5(y=labels))):
            put(folder, {f"camelyonpatch_level_2_split_{short}_{part}.h5.gz": gz(content)})


def eurosat(folder: Path) -> None:
    """Write EuroSAT.zip with four pictures a class."""
    names = [f"{kind}/{kind}_{i}.jpg" for kind in EUROSAT for i in range(1, UNCUT["eurosat"] // 10 + 1)]
    put(folder, {"EuroSAT.zip": zipped((f"2750/{name}", encode(picture(name, 64, 64))) for name in names)})


def eurosat_full(folder: Path) -> None:
    """Write EuroSAT.zip with its official 27,000 names and one picture a class."""
    few = {kind: encode(picture(kind, 64, 64)) for kind in EUROSAT}
    names = ((kind, f"2750/{kind}/{kind}_{i}.jpg") for kind, count in EUROSAT.items() for i in range(1, count + 1))
    put(folder, {"EuroSAT.zip": zipped((name, few[kind]) for kind, name in names)})


def resisc45(folder: Path) -> None:
    """Write the folder NWPU-RESISC45, as its rar unpacks."""
    kinds = ("airplane", "baseball_diamond", "railway", "wetland")
    names = [f"{kind}/{kind}_{i:03d}.jpg" for kind in kinds for i in range(1, UNCUT["resisc45"] // 4 + 1)]
    put(folder / "NWPU-RESISC45", {name: encode(picture(name, 256, 256)) for name in names})


def diabetic_retinopathy_detection(folder: Path) -> None:
    """Write train, test and sample, as their zips unpack, and the two lists of labels."""
    numbers = {"train": range(10, 10 + SIZES["train"] // 2), "test": range(1, 9), "sample": range(10, 11)}
    names = {part: [f"{i}_{eye}" for i in ids for eye in ("left", "right")] for part, ids in numbers.items()}
    for part, images in names.items():
        put(folder / part, {f"{name}.jpeg": encode(picture(name)) for name in images})
    levels = [f"{name},{i % 5}" for i, name in enumerate(names["train"])]
    solution = [f"{name},{i * 3 % 5},{('Private', 'Public')[i % 2]}" for i, name in enumerate(names["test"])]
    put(folder, {"trainLabels.csv": text(["image,level", *levels]),
                 "retinopathy_solution.csv": text(["image,level,Usage", *solution])})  # fmt: skip


def clevr_scene(name: str, index: int) -> dict[str, object]:
    """Three to ten objects, the nearest of them on, below or above an edge of the distance task."""
    rng = rng_of(name)
    nearest = (7.5, 8.0, 8.2, 8.5, 8.7, 9.2, 9.7, 10.0, 10.5)[index % 9]
    depths = nearest + np.arange(3 + index % 8) * 0.75
    choices = {"color": ("gray", "blue", "cyan"), "material": ("rubber", "metal"), "size": ("small", "large"),
               "shape": ("cube", "sphere", "cylinder")}  # fmt: skip
    objects = [
        {key: str(rng.choice(values)) for key, values in choices.items()}
        | {"rotation": float(rng.uniform(0, 360)), "3d_coords": rng.uniform(-3, 3, 3).tolist()}
        | {"pixel_coords": [int(rng.integers(480)), int(rng.integers(320)), float(depth)]}
        for depth in rng.permutation(depths)
    ]
    return {"image_index": index, "image_filename": name, "objects": objects}


def clevr(folder: Path) -> None:
    """Write CLEVR_v1.0.zip; its test split has no scenes."""
    files: list[tuple[str, bytes]] = []
    for split, count in (("train", SIZES["train"]), ("val", SIZES["validation"]), ("test", SIZES["test"])):
        names = [f"CLEVR_{split}_{i:06d}.png" for i in range(count)]
        answer = {} if split == "test" else {"answer": "yes"}
        asked = [{"image_filename": name, "question": "Are there cubes?"} | answer for name in names]
        scenes = [clevr_scene(name, i) for i, name in enumerate(names)]
        files += [(f"images/{split}/{name}", encode(picture(name, 32, 48), "PNG")) for name in names]
        files.append((f"questions/CLEVR_{split}_questions.json", json.dumps({"questions": asked}).encode()))
        if split != "test":
            files.append((f"scenes/CLEVR_{split}_scenes.json", json.dumps({"scenes": scenes}).encode()))
    put(folder, {"CLEVR_v1.0.zip": zipped((f"CLEVR_v1.0/{name}", content) for name, content in files)})


def dmlab(folder: Path) -> None:
    """Write dmlab.tar.gz, two files a split."""
    files: dict[str, bytes] = {}
    for number, (split, count) in enumerate(SIZES.items()):
        names = [f"video_{number}_{i // 3}_{i * 7}.jpg" for i in range(count)]
        examples: list[dict[str, bytes | int]] = [
            {"image": encode(picture(name, 360, 480)), "filename": name.encode(), "label": i % 6}
            for i, name in enumerate(names)
        ]
        for shard in (0, 1):
            name = f"dmlab-{split}.tfrecord-{shard:05d}-of-00002"
            files[name] = b"".join(tfrecord(examples[shard::2]))
    put(folder, {"dmlab.tar.gz": gz(tar(files))})


def kitti_objects(index: int) -> bytes:
    """A near pedestrian and a nameless region everywhere, and vehicles from a distance on but in each eighth image."""
    nearest = (4.5, 8.0, 8.5, 12.0, 20.0, 20.5, 45.0, None)[index % 8]
    lines = ["Pedestrian 0.00 0 -0.20 10.00 5.00 30.00 35.00 1.89 0.48 1.20 1.84 1.47 2.50 0.01",
             "DontCare -1 -1 -10 50.00 17.00 59.00 19.00 -1 -1 -1 -1000 -1000 -1000 -10"]  # fmt: skip
    for kind, further in (("Van", 30.0), (("Car", "Truck")[index % 2], 0.0)):
        if nearest is not None:
            place = f"1.00 1.70 {nearest + further:.2f}"
            lines.append(f"{kind} 0.00 1 1.85 38.00 18.00 60.00 30.00 1.67 1.87 3.69 {place} 1.57")
    return text(lines)


def kitti(folder: Path) -> None:
    """Write the three zips: five videos of eight images, of which the builder draws one for each small split."""
    total = 5 * SIZES["test"]
    order = rng_of("kitti").permutation(total)
    videos = [f"2011_09_26 2011_09_26_drive_{i // 8 + 1:04d}_sync {i % 8:010d}" for i in range(total)]
    devkit = {"train_rand": text([",".join(str(i + 1) for i in order)]), "train_mapping": text(videos)}
    images = [(f"training/image_2/{i:06d}.png", encode(picture(f"kitti{i}", 40, 124), "PNG")) for i in range(total)]
    images.append(("testing/image_2/000000.png", encode(picture("kitti test", 40, 124), "PNG")))
    # Row by row of the mapping, so that every video has every distance.
    labels = [(f"training/label_2/{i:06d}.txt", kitti_objects(int(row))) for i, row in enumerate(order)]
    put(folder, {"data_object_image_2.zip": zipped(images), "data_object_label_2.zip": zipped(labels),
                 "devkit_object.zip": zipped((f"mapping/{k}.txt", v) for k, v in devkit.items())})  # fmt: skip


def dsprites(folder: Path) -> None:
    """Write dSprites' hdf5: squares of ones on zeros, with classes and values of six latents."""
    rng = rng_of("dsprites")
    limits = np.array([1, 3, 6, 40, 32, 32])
    classes = rng.integers(0, limits, (UNCUT["dsprites"], 6))
    images = np.zeros((len(classes), 64, 64), dtype=np.uint8)
    for image, (*_, x, y) in zip(images, classes, strict=True):
        image[y : y + 24, x : x + 24] = 1
    content = hdf5(imgs=images, latents__classes=classes, latents__values=classes / limits)
    put(folder, {"dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5": content})


def smallnorb(folder: Path) -> None:
    """Write the six matrices: pairs of images, categories, and instance, elevation, azimuth and lighting."""
    for part, digits in (("training", "46789"), ("testing", "01235")):
        count = SIZES["train"]
        grey = pixels(f"norb {part}", 2 * count, 96)[..., 0].reshape(count, 2, 96, 96)
        category = (np.arange(count) % 5).astype(np.int32)
        instance = np.array([int(digit) for digit in digits], dtype=np.int32)[np.arange(count) // 5 % 5]
        rest = rng_of(part).integers(0, [9, 18, 6], (count, 3)) * [1, 2, 1]
        info = np.concatenate([instance[:, None], rest], axis=1, dtype=np.int32, casting="same_kind")
        for kind, array in (("dat", grey), ("cat", category), ("info", info)):
            name = f"smallnorb-5x{digits}x9x18x6x2x96x96-{part}-{kind}.mat.gz"
            put(folder, {name: gz(norb_matrix(array))})


WRITERS: dict[str, Callable[[Path], None]] = {
    writer.__name__: writer
    for writer in (cifar100, caltech101, dtd, oxford_flowers102, oxford_iiit_pet, svhn_cropped, sun397, patch_camelyon,
                   eurosat, resisc45, diabetic_retinopathy_detection, clevr, dmlab, kitti, dsprites, smallnorb)
}  # fmt: skip
