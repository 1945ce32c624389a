"""Data sets: finding and reading photos, drawings that stand in, the cache, ImageDataset.

The photo folders are made here, of a few pixels; tests marked `photos` need real ones in COURSE_DATA_DIR.
"""

import os
import pickle
import re
import shutil
import struct
import sys
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms, tv_tensors
from torchvision.models import MobileNet_V2_Weights
from torchvision.transforms import v2

from utils import critters, datasets
from utils.datasets import ImageDataset, photos
from utils.datasets.read import Photo, read


@pytest.fixture(autouse=True)
def data(empty_checkout) -> Path:
    return empty_checkout / "data"


def save(path: Path, seed: int, size: tuple[int, int] = (50, 40), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 10, size[0] // 10, 3), np.uint8)
    Image.fromarray(pixels).resize(size).save(path, **options)
    return path


def filtered(root: Path, num: int = 10) -> None:
    for k, split in enumerate(("train", "validation")):
        for j, name in enumerate(("cat", "dog")):
            for i in range(num):
                save(root / f"cats_and_dogs_filtered/{split}/{name}s/{name}.{i}.jpg", 1000 * k + 100 * j + i)


def pets_like(root: Path, trimaps: bool = True) -> None:
    """Oxford-IIIT Pet of 4 breeds with 5 + 5 photos; heads are annotated for trainval only."""
    notes = root / "oxford-iiit-pet/annotations"
    (notes / "xmls").mkdir(parents=True)
    for k, split in enumerate(("trainval", "test")):
        lines = ["# comment"]
        for breed, name in enumerate(("Abyssinian", "beagle", "Bengal", "pug")):
            for i in range(5):
                stem = f"{name}_{split[:2]}{i}"
                save(root / f"oxford-iiit-pet/images/{stem}.jpg", 100 * k + 10 * breed + i, (80, 40))
                lines.append(f"{stem} {breed + 1} {1 if name[0].isupper() else 2} 1")
                if trimaps:
                    trimap = np.full((40, 80), 2, np.uint8)
                    trimap[10:30, 30:60], trimap[12:28, 32:58] = 3, 1
                    (notes / "trimaps").mkdir(exist_ok=True)
                    Image.fromarray(trimap).save(notes / f"trimaps/{stem}.png")
                if split == "trainval":
                    box = "<xmin>30</xmin><ymin>10</ymin><xmax>70</xmax><ymax>20</ymax>"
                    text = f"<annotation><object><bndbox>{box}</bndbox></object></annotation>"
                    (notes / f"xmls/{stem}.xml").write_text(text)
        (notes / f"{split}.txt").write_text("\n".join(lines) + "\n")


def pixels(dataset: ImageDataset) -> set[bytes]:
    return {image.numpy().tobytes() for image in dataset.images}


def assert_apart(splits: datasets.Splits) -> None:
    """No picture is in two splits."""
    train, val, test = (pixels(split) for split in splits)
    assert not (train & val or train & test or val & test)


# ---- which source ----------------------------------------------------------------------------------------------------


def test_source(monkeypatch):
    assert datasets.source() == "auto"
    assert datasets.source_line() == "data: drawings (COURSE_DATA=photos for photos)"
    for value in ("auto", "critters", "photos"):
        monkeypatch.setenv("COURSE_DATA", value)
        assert datasets.source() == value and datasets.source_line().startswith("data: ")
    monkeypatch.setenv("COURSE_DATA", "photo")
    with pytest.raises(ValueError, match="COURSE_DATA='photo': expected auto, critters .* or photos"):
        datasets.dogs_vs_cats()


def test_data_dir(data, tmp_path, monkeypatch):
    assert datasets.data_dir() == data
    monkeypatch.setenv("COURSE_DATA_DIR", str(save(tmp_path / "a.png", 0)))
    with pytest.raises(NotADirectoryError, match="a.png' is a file: expected the folder"):
        datasets.data_dir()
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "no"))
    assert datasets.dogs_vs_cats(2, 2, 2, 32).train.noun == "drawing"
    monkeypatch.setenv("COURSE_DATA", "photos")
    with pytest.raises(FileNotFoundError, match="lesions: no photos are in .*no; data/README.md says what goes there"):
        datasets.lesions()


def test_critters_leaves_photos_alone(data, monkeypatch):
    filtered(data)
    assert datasets.dogs_vs_cats().train.noun == "photo"
    monkeypatch.setenv("COURSE_DATA", "critters")
    assert datasets.dogs_vs_cats(2, 2, 2, 32).train.noun == "drawing"


def test_platform(monkeypatch):
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    assert datasets.platform() == "other"
    monkeypatch.setitem(sys.modules, "google.colab", type(sys)("google.colab"))
    assert datasets.platform() == "colab"
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    assert datasets.platform() == "kaggle"


# ---- the layouts -----------------------------------------------------------------------------------------------------


def test_filtered_subset(data):
    filtered(data)
    splits = datasets.dogs_vs_cats()
    assert splits.test.counts() == {"cat": 10, "dog": 10} and len(splits.train) + len(splits.val) == 20
    assert repr(splits.test) == "20 photos of cat, dog, 128 x 128, (label)" and splits.test.source == "photos"
    assert splits.test.images.shape == (20, 3, 128, 128) and splits.test.images.dtype == torch.uint8
    assert_apart(splits)
    again = datasets.dogs_vs_cats()
    assert all(torch.equal(a.images, b.images) for a, b in zip(splits, again, strict=True))


def test_microsoft_archive(data, capsys):
    for i in range(20):
        save(data / f"PetImages/Cat/{i}.jpg", i)
        save(data / f"PetImages/Dog/{i}.jpg", 100 + i)
    (data / "PetImages/Cat/666.jpg").touch()
    (data / "PetImages/Dog/Thumbs.db").write_bytes(b"no picture")
    splits = datasets.dogs_vs_cats(size=32)
    assert sum(map(len, splits)) == 40 and all(min(split.counts().values()) for split in splits)
    assert splits.train.classes == ["cat", "dog"]
    assert re.search(
        r"^dogs_vs_cats: left out: 1 unreadable \(first: 666.jpg: Unid.* cannot identify .*\), 1 .db.$",
        capsys.readouterr().out,
        re.M,
    )
    assert_apart(splits)


@pytest.mark.parametrize("place", [
    "checkout/data/dogs-vs-cats", "kaggle/dogs-vs-cats", "kaggle/competitions/dogs-vs-cats", "kaggle/datasets/me/mine",
])  # fmt: skip
@pytest.mark.parametrize("packed", [True, False])
def test_kaggle_competition(tmp_path, place, packed):
    for i in range(20):
        for j, name in enumerate(("cat", "dog")):
            save(tmp_path / place / f"train/{name}.{i}.jpg", 100 * j + i)
    if packed:
        with zipfile.ZipFile(tmp_path / place / "train.zip", "w") as archive:
            for file in (tmp_path / place / "train").iterdir():
                archive.write(file, f"train/{file.name}")
                file.unlink()
        (tmp_path / place / "train").rmdir()
    else:
        (tmp_path / place / "train.zip").write_bytes(b"half of one")  # is not looked at, as the photos are there
    splits = datasets.dogs_vs_cats(num_train=10, size=32)
    assert splits.train.counts() == {"cat": 5, "dog": 5} and splits.train.source == "photos"


@pytest.mark.parametrize("layout", [
    "PetImages/{Name}/{i}.jpg", "dogs-vs-cats/train/{name}.{i}.jpg", "cats_and_dogs_filtered/{split}/{name}s/{i}.jpg",
])  # fmt: skip
def test_dark_cats_are_cats_and_bright_dogs_are_dogs(data, layout):
    for k, split in enumerate(("train", "validation")):
        for name, level in (("cat", 40), ("dog", 200)):
            for i in range(8):
                file = data / layout.format(split=split, name=name, Name=name.title(), i=10 * k + i)
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (40, 40), (level, 10 * k + i, 0)).save(file)
    for split in datasets.dogs_vs_cats(size=16):
        assert ((split.images[:, 0].float().mean(dim=(1, 2)) > 120).long() == split.targets["label"]).all() and len(
            split
        )
        assert split.classes == ["cat", "dog"]


LAYOUTS = {
    "dogs_vs_cats": [
        "dogs-vs-cats/{split}/{name}s/{name}.{i}.jpg", "PetImages/{Name}/{i}.jpg",
        "cat-and-dog/{split}ing_set/{split}ing_set/{name}s/{i}.jpg",
        "dogs-cats-images/dataset/{split}ing_set/{name}s/{i}.jpg",
        "microsoft-catsvsdogs-dataset/PetImages/{Name}/{i}.jpg",
        "dogs-vs-cats/{split}/{split}/{name}.{i}.jpg",
        "kagglecatsanddogs_5340/PetImages/{Name}/{i}.jpg", "Cats and Dogs/{name}/{i}.jpg",
        "cats_and_dogs_filtered/cats_and_dogs_filtered/{split}/{name}s/{i}.jpg",
    ],
    "lesions": ["Dataset_BUSI_with_GT/{name}/{i}.jpg",
    "breast-ultrasound-images-dataset/Dataset_BUSI_with_GT/{name}/{i}.jpg"],
}  # fmt: skip


@pytest.mark.parametrize("name, layout", [(name, layout) for name, layouts in LAYOUTS.items() for layout in layouts])
@pytest.mark.parametrize(
    "place", ["checkout/data", "kaggle", "kaggle/competitions", "kaggle/datasets/someone", "kaggle/mine"]
)
def test_other_layouts(tmp_path, place, name, layout):
    for k, split in enumerate(("train", "test")):
        for j, label in enumerate(datasets._CLASSES[name]):
            for i in range(5):
                save(
                    tmp_path / place / layout.format(split=split, name=label, Name=label.title(), i=i + 5 * k),
                    100 * k + 10 * j + i,
                )
                if name == "lesions":
                    file = tmp_path / place / layout.format(name=label, i=i + 5 * k)
                    Image.new("1", (50, 40)).save(file.with_name(f"{file.stem}_mask.png"))
    splits = getattr(datasets, name)(size=16)
    assert splits.train.source == "photos" and sum(map(len, splits)) == (
        10 if "train/train" in layout.format(split="train", name="", Name="", i=0) and "ing_set" not in layout else 20
    )


@pytest.mark.parametrize("nested", [True, False])
def test_pets_as_they_are_attached_on_kaggle(tmp_path, nested):
    pets_like(tmp_path)
    place = tmp_path / "kaggle/cats-and-dogs-breeds-classification-oxford-dataset"
    for part in ("images", "annotations"):
        target = place / part / part if nested else place / part
        shutil.copytree(tmp_path / "oxford-iiit-pet" / part, target)
    assert sum(map(len, datasets.pets(size=32))) == 40
    assert datasets.dogs_vs_cats(2, 2, 2, 32).train.source == "critters"


def pack(root: Path, archive: Path) -> None:
    """A zip of what is in a folder."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted(path for path in root.rglob("*") if path.is_file()):
            packed.write(file, file.relative_to(root))


@pytest.mark.parametrize("name, layout, archive", [
    ("dogs_vs_cats", "PetImages/{Name}/{i}.jpg", "kagglecatsanddogs_5340.zip"),
    ("dogs_vs_cats", "PetImages/{Name}/{i}.jpg", "archive.zip"),
    ("dogs_vs_cats", "PetImages/{Name}/{i}.jpg", "kagglecatsanddogs_5340 (1).zip"),
    ("dogs_vs_cats", "{Name}/{i}.jpg", "PetImages.zip"),
    ("dogs_vs_cats", "train/{name}.{i}.jpg", "dogs-vs-cats/train.zip"),
    ("dogs_vs_cats", "train/{name}.{i}.jpg", "train.zip"),
    ("lesions", "Dataset_BUSI_with_GT/{name}/{i}.jpg", "Dataset_BUSI.zip"),
    ("lesions", "Dataset_BUSI_with_GT/{name}/{i}.jpg", "archive (2).zip"),
])  # fmt: skip
@pytest.mark.parametrize("mode", ["auto", "photos"])
def test_archives_at_hand_are_unpacked_once(data, tmp_path, monkeypatch, capsys, name, layout, archive, mode):
    for j, label in enumerate(datasets._CLASSES[name]):
        for i in range(6):
            file = save(tmp_path / "made" / layout.format(name=label, Name=label.title(), i=i), 10 * j + i)
            if name == "lesions":
                Image.new("1", (50, 40)).save(file.with_name(f"{file.stem}_mask.png"))
    pack(tmp_path / "made", data / archive)
    monkeypatch.setenv("COURSE_DATA", mode)
    for _ in range(2):
        assert sum(map(len, getattr(datasets, name)(size=16))) == 12
    assert capsys.readouterr().out.count("Unpacking ") == 1


def test_a_zip_in_a_zip_and_one_that_is_no_data_set(data, tmp_path, capsys):
    for j, name in enumerate(("cat", "dog")):
        for i in range(6):
            save(tmp_path / f"made/train/{name}.{i}.jpg", 10 * j + i)
    pack(tmp_path / "made", tmp_path / "outer/train.zip")
    (tmp_path / "outer/sampleSubmission.csv").write_text("id,label")
    pack(tmp_path / "outer", data / "dogs-vs-cats.zip")
    save(tmp_path / "holiday/business in Oxford/vacation with dogs/dog.jpg", 1)
    pack(tmp_path / "holiday", data / "holiday.zip")
    assert sum(map(len, datasets.dogs_vs_cats(size=16))) == 12
    assert datasets.pets(2, 2, 2).train.source == datasets.lesions(2, 2, 2).train.source == "critters"
    assert not (data / "holiday").exists()
    assert capsys.readouterr().out.count("Unpacking ") == 2


def test_the_pets_two_archives_at_hand(data, tmp_path):
    pets_like(tmp_path)
    for part in ("images", "annotations"):
        shutil.make_archive(str(data / part), "gztar", tmp_path / "oxford-iiit-pet", part)
    assert sum(map(len, datasets.pets(size=32))) == 40


def test_a_folder_that_was_asked_for_and_has_nothing_is_named(tmp_path, monkeypatch, capsys):
    for folder in ("gone", "empty"):
        monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / folder))
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert datasets.source_line().startswith("data: drawings")
        assert datasets.pets(2, 2, 2, 32).train.source == "critters"
        assert (
            f"pets: no photos are in {tmp_path / folder}; data/README.md says what goes there.\nDrawings are used"
            in capsys.readouterr().out
        )


def test_a_relative_data_dir_begins_at_the_checkout(empty_checkout, tmp_path, monkeypatch):
    filtered(empty_checkout / "photos")
    monkeypatch.setenv("COURSE_DATA_DIR", "photos")
    monkeypatch.chdir(tmp_path)
    assert datasets.data_dir() == empty_checkout / "photos" and "dogs_vs_cats" in datasets.source_line()


def test_the_size_is_said_where_nobody_chose_it(data, capsys):
    datasets.pets(2, 2, 2)
    assert capsys.readouterr().out == "pets: drawings of 64 x 64 pixels; size=... gives others.\n"
    filtered(data)
    datasets.dogs_vs_cats()
    assert capsys.readouterr().out == "dogs_vs_cats: photos of 128 x 128 pixels; size=... gives others.\n"


def test_mounted_data_set_of_the_filtered_subset(tmp_path):
    filtered(tmp_path / "kaggle/cats-and-dogs")
    assert datasets.dogs_vs_cats().train.source == "photos"


def test_numbers_are_balanced_nested_and_only_they_are_read(data, monkeypatch, capsys):
    filtered(data)
    names, plain = [], datasets.read.read
    monkeypatch.setattr(datasets.read, "read", lambda photo, size: names.append(photo.file.name) or plain(photo, size))
    few = datasets.dogs_vs_cats(5, 2, 4, size=128)
    assert [len(split) for split in few] == [5, 2, 4] and len(names) == 11
    assert sorted(few.train.counts().values()) == [2, 3] and few.test.counts() == {"cat": 2, "dog": 2}
    more = datasets.dogs_vs_cats(8, 2, 4, size=128)
    assert pixels(few.train) < pixels(more.train) and pixels(few.test) == pixels(more.test)
    assert capsys.readouterr().out == ""
    num = len(datasets.dogs_vs_cats(1000, 0, 4).train)
    assert f"1,000 were asked for in train, and all {num} that are there are used" in capsys.readouterr().out
    assert [len(split) for split in datasets.dogs_vs_cats(*np.array([5, 2, 4]), size=np.int64(64))] == [5, 2, 4]
    for number in (-1, 2.5, "all", np.int64(-1)):
        with pytest.raises(ValueError, match="train=.*: expected a whole number"):
            datasets.dogs_vs_cats(number)
    with pytest.raises(ValueError, match="size='64'"):
        datasets.dogs_vs_cats(size="64")


def test_pets(data):
    pets_like(data)
    splits = datasets.pets(size=64)
    assert len(splits.train) + len(splits.val) == 20 == len(splits.test) and splits.train.classes == ["cat", "dog"]
    targets = splits.train.targets
    assert list(targets) == ["label", "mask", "box", "breed"]
    assert set(zip(targets["label"].tolist(), targets["breed"].tolist(), strict=True)) == {
        (0, 0),
        (1, 1),
        (0, 2),
        (1, 3),
    }
    # 80 x 40 -> the middle 40 x 40, columns 20 to 60 -> 64 x 64
    assert targets["mask"].dtype == torch.bool and targets["mask"][0].nonzero().amin(0).tolist() == [16, 16]
    assert targets["mask"][0].nonzero().amax(0).tolist() == [47, 63]
    assert targets["box"][0].tolist() == [16, 16, 64, 32]  # cut at the right edge
    assert splits.test.targets["box"].isnan().all() and splits.test.targets["mask"].any()


def test_pets_without_trimaps_have_no_masks(data):
    pets_like(data, trimaps=False)
    assert list(datasets.pets(num_train=4).train.targets) == ["label", "box", "breed"]


def test_pets_that_lack_a_trimap_or_photo_are_left_out(data, capsys):
    pets_like(data)
    (data / "oxford-iiit-pet/annotations/trimaps/pug_te0.png").unlink()
    (data / "oxford-iiit-pet/images/pug_te1.jpg").unlink()
    assert len(datasets.pets().test) == 18
    assert "pets: left out: 2 unreadable (first: pug_te" in capsys.readouterr().out


def test_masks_boxes_and_xml_that_do_not_fit_are_left_out_and_counted(data, capsys):
    pets_like(data)
    notes = data / "oxford-iiit-pet/annotations"
    Image.fromarray(np.full((40, 40), 1, np.uint8)).save(notes / "trimaps/pug_te0.png")  # of another size
    (notes / "trimaps/pug_te1.png").write_bytes(b"no picture")
    box = "<annotation><object><bndbox>{}</bndbox></object></annotation>"
    corners = "<xmin>30</xmin><ymin>10</ymin><xmax>700</xmax><ymax>20</ymax>"
    (notes / "xmls/pug_tr0.xml").write_text(box.format(corners))
    (notes / "xmls/pug_tr1.xml").write_text(box.format(corners.replace("700", "many")))
    (notes / "xmls/pug_tr2.xml").write_text(box.format(corners)[:-20])  # cut short
    entities = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(9))
    (notes / "xmls/pug_tr3.xml").write_text(f'<!DOCTYPE x [<!ENTITY a0 "ha">{entities}]><x>&a9;</x>')
    splits = datasets.pets(size=32)
    assert len(splits.train) + len(splits.val) == 16 and len(splits.test) == 18
    assert "pets: left out: 6 unreadable (first: " in capsys.readouterr().out
    for corner, number in (("xmin", -20), ("ymin", -20), ("xmax", 700), ("ymax", 700)):  # each leads out by itself
        fitting = corners.replace("700", "70")
        odd = re.sub(rf"(<{corner}>)\d+", rf"\g<1>{number}", fitting)
        (notes / "xmls/odd.xml").write_text(box.format(odd))
        with pytest.raises(ValueError, match=f"box .*{number}.* leads out"):
            read(Photo(data / "oxford-iiit-pet/images/pug_tr4.jpg", 1, (), notes / "xmls/odd.xml"), 32)
    for name, reason in {
        "te0": r"mask is of \(40, 40\) pixels, and the picture of \(80, 40\)",
        "tr0": "box .*700.* leads out",
    }.items():
        box = notes / f"xmls/pug_{name}.xml"
        photo = Photo(data / f"oxford-iiit-pet/images/pug_{name}.jpg", 1, (notes / f"trimaps/pug_{name}.png",), box, 0)
        with pytest.raises(ValueError, match=reason):
            read(photo._replace(box=box if box.exists() else None), 32)


@pytest.mark.parametrize("content", ["pug_1 4 2", "pug_1 4 3 1", "half a li", "\0\xff"])
def test_a_list_of_breeds_that_is_cut_short(data, capsys, content):
    pets_like(data)
    with open(data / "oxford-iiit-pet/annotations/test.txt", "a", encoding="latin1") as opened:
        opened.write(content)
    assert sum(map(len, datasets.pets(size=32))) == 40
    assert "pets: left out: 1 lines of test.txt that make no sense." in capsys.readouterr().out


def test_a_list_with_some_of_the_breeds_is_used_as_it_is(data):
    pets_like(data)
    for file in (data / "oxford-iiit-pet/annotations").glob("*.txt"):
        file.write_text("".join(line for line in file.read_text().splitlines(True) if not line.startswith("pug")))
    assert set(datasets.pets(size=32).train.targets["breed"].tolist()) == {0, 1, 2}


def test_a_drive_that_is_gone(data, monkeypatch, capsys):
    filtered(data)

    def gone(*args):
        raise OSError(112, "Host is down", str(data))

    monkeypatch.setattr(photos, "_dogs_vs_cats", gone)
    assert "dogs_vs_cats" not in datasets.source_line()
    assert datasets.dogs_vs_cats(2, 2, 2, 32).train.source == "critters"
    assert f"Host is down: '{data}'\nDrawings are used instead.\n" in capsys.readouterr().out
    monkeypatch.setenv("COURSE_DATA", "photos")
    with pytest.raises(OSError, match="Host is down"):
        datasets.dogs_vs_cats(2, 2, 2, 32)


@pytest.mark.parametrize("list_name", ["trainval.txt", "test.txt"])
def test_a_list_of_breeds_without_any_cat_is_refused(data, monkeypatch, list_name):
    pets_like(data)
    file = data / "oxford-iiit-pet/annotations" / list_name
    file.write_text(
        "".join(line for line in file.read_text().splitlines(True) if line.startswith("#") or line.split()[2] != "1")
    )
    assert datasets.pets(2, 2, 2, 32).train.source == "critters"
    monkeypatch.setenv("COURSE_DATA", "photos")
    with pytest.raises(ValueError, match=f"{list_name} names no cats or no dogs: expected both. Copy the file anew."):
        datasets.pets()


@pytest.mark.parametrize("fault", ["missing", "empty", "misspelt"])
@pytest.mark.parametrize("name, part", [
    ("dogs_vs_cats", "cats_and_dogs_filtered/train/dogs"), ("dogs_vs_cats", "PetImages/Dog"),
    ("pets", "oxford-iiit-pet/images"), ("lesions", "Dataset_BUSI_with_GT/malignant"),
])  # fmt: skip
def test_a_class_folder_that_is_missing_empty_or_misspelt(data, capsys, fault, name, part):
    if "filtered" in part:
        filtered(data)
    elif name == "pets":
        pets_like(data)
    else:
        for other in (part, part.replace("malignant", "benign").replace("Dog", "Cat")):
            for i in range(5):
                save(data / other / f"{i}.png", i + len(other))
    (data / part).rename(data / f"{part}z")
    if fault == "empty":
        (data / part).mkdir()
    elif fault == "missing":
        shutil.rmtree(data / f"{part}z")
    assert datasets.source_line() == "data: drawings (COURSE_DATA=photos for photos)"
    assert getattr(datasets, name)(2, 2, 2, 32).train.source == "critters"
    there = re.escape(str(data / part.partition("/")[0]))
    fault = "has not the folders for .*: look at|has not images/ with pictures|the class .* has no pictures in"
    out = capsys.readouterr().out
    assert re.search(f"{there}.* ({fault})|({fault}).*{there}", out) and out.endswith("\nDrawings are used instead.\n")
    assert out.count("\n") == 2


def test_a_zip_of_photos_that_is_cut_short(data, monkeypatch, capsys):
    (data / "dogs-vs-cats").mkdir()
    (data / "dogs-vs-cats/train.zip").write_bytes(b"PK\x03\x04 and no end")
    assert datasets.dogs_vs_cats(2, 2, 2, 32).train.source == "critters"
    assert re.search(
        r"Unpacking .*train.zip, once, to .*\n.*train could not be made: .*\nDrawings", capsys.readouterr().out
    )
    assert sorted(os.listdir(data / "dogs-vs-cats")) == [".train.lock", "train.zip"]
    monkeypatch.setenv("COURSE_DATA", "photos")
    with pytest.raises(OSError, match="train could not be made: File is not a zip file"):
        datasets.dogs_vs_cats()


def test_lesions(data):
    for label in ("benign", "malignant"):
        for i in range(10):
            save(data / f"Dataset_BUSI_with_GT/{label}/{label} ({i}).png", i + 100 * len(label))
            for part in ("_mask", "_mask_1") if i else ("_mask",):
                mask = np.zeros((40, 50), np.uint8)
                mask[5:15, 10 if part == "_mask" else 30 :][:, :8] = 255
                Image.fromarray(mask).save(data / f"Dataset_BUSI_with_GT/{label}/{label} ({i}){part}.png")
    save(data / "Dataset_BUSI_with_GT/normal/normal (1).png", 1)
    splits = datasets.lesions(size=40)
    assert sum(map(len, splits)) == 20 and all(min(split.counts().values()) for split in splits)
    assert splits.train.noun == "ultrasound image" and list(splits.train.targets) == ["label", "mask"]
    areas = torch.cat([split.targets["mask"].sum(dim=(1, 2)) for split in splits])
    assert sorted(areas.tolist()) == [80] * 2 + [160] * 18  # two masks of one picture are merged


# ---- drawings that stand in ------------------------------------------------------------------------------------------


def test_drawings():
    splits = datasets.dogs_vs_cats(6, 4, 5, size=32)
    assert [len(split) for split in splits] == [6, 4, 5] and splits.train.classes == ["cat", "dog"]
    assert splits.train.noun == "drawing" and splits.train.source == "critters"
    assert list(splits.train.targets) == ["label", "mask", "box", "parts"] and splits.train.counts() == {
        "cat": 3,
        "dog": 3,
    }
    assert_apart(splits)
    assert pixels(splits.train) < pixels(datasets.pets(9, 1, 1, size=32).train)  # nested, and the same in both
    assert list(datasets.pets(2, 2, 2, size=32).train.targets) == ["label", "mask", "box", "parts"]
    assert len(datasets.dogs_vs_cats(2, 0, 2, size=32).val) == 0


def test_critters():
    splits = datasets.critters(["owl", "cat", "frog"], 7, 3, 3, size=32, seed=1)
    assert splits.train.classes == ["owl", "cat", "frog"] and splits.train.counts() == {"owl": 3, "cat": 2, "frog": 2}
    assert_apart(splits)
    assert pixels(datasets.critters(["owl", "cat", "frog"], *np.array([7, 3, 3]), np.int64(32), 1).train) == pixels(
        splits.train
    )
    other = datasets.critters(["owl", "cat", "frog"], 7, 3, 3, size=32, seed=2)
    assert not pixels(splits.train) & pixels(other.train) and not pixels(splits.train) & pixels(other.val)
    boxes = splits.train.targets["box"]
    assert boxes.shape == (7, 4) and (boxes[:, :2] < boxes[:, 2:]).all()
    for species, message in (([], "species is empty"), (["unicorn"], "unknown species 'unicorn'")):
        with pytest.raises(ValueError, match=message):
            datasets.critters(species, 2, 2, 2)
    with pytest.raises(ValueError, match="size is 200"):
        datasets.dogs_vs_cats(size=200)


def test_parts_are_a_mask_that_moves_with_the_picture():
    train = datasets.critters(["cat"], 3, 0, 0, size=32).train.with_transform(
        v2.RandomHorizontalFlip(1), ["parts", "mask"]
    )
    _, target = train[0]
    assert type(target["parts"]) is tv_tensors.Mask and target["parts"].dtype == torch.uint8
    assert torch.equal(target["parts"], train.targets["parts"][0].flip(-1))
    assert torch.equal(target["parts"] >= critters.PARTS.index("animal"), target["mask"])


def test_drawn_lesions_say_so():
    splits = datasets.lesions(6, 4, 4, size=32)
    assert repr(splits.train) == "6 drawings of benign, malignant, 32 x 32, (label)"
    assert splits.train.images.shape == (6, 3, 32, 32) and splits.train.targets["mask"].any()
    assert_apart(splits)


def test_digits():
    splits = datasets.digits()
    assert [len(split) for split in splits] == [1200, 200, 397]
    assert repr(splits.train) == "1,200 digits of 10 classes, 8 x 8, (label)"
    assert splits.train.images.shape == (1200, 1, 8, 8) and splits.train.images.max() == 255
    assert splits.train.classes[3] == "3" and min(splits.val.counts().values()) >= 19
    assert_apart(splits)


# ---- a folder of your own --------------------------------------------------------------------------------------------


def test_folder_is_divided(tmp_path, capsys):
    for j, name in enumerate(("übung mit Leerzeichen", "b")):
        for i in range(20):
            save(tmp_path / f"own/{name}/deeper/Foto {i} ä.JPG", 100 * j + i, format="JPEG")
    save(tmp_path / "own/.ipynb_checkpoints/x.jpg", 0)
    (tmp_path / "own/b/._hidden.jpg").write_bytes(b"macOS")
    (tmp_path / "own/b/notes.txt").write_text("no picture")
    splits = datasets.folder(tmp_path / "own", size=32)
    assert sum(map(len, splits)) == 40 and splits.train.classes == ["b", "übung mit Leerzeichen"]
    assert all(min(split.counts().values()) for split in splits)
    assert splits.train.source == "folder" and splits.train.noun == "photo"
    assert capsys.readouterr().out == "folder: left out: 1 .txt.\n"
    assert_apart(splits)


@pytest.mark.parametrize("parts, sizes", [
    (("train", "val", "test"), [20, 20, 20]), (("train", "validation", "test"), [20, 20, 20]),
    (("train", "val"), [None, None, 20]), (("train", "test"), [None, None, 20]), (("train",), [None, None, None]),
])  # fmt: skip
def test_folder_with_splits(tmp_path, parts, sizes):
    for k, part in enumerate(parts):
        for i in range(10):
            save(tmp_path / part / f"a/{i}.png", 100 * k + i)
            save(tmp_path / part / f"b/{i}.png", 100 * k + 50 + i)
    splits = datasets.folder(tmp_path, size=32)
    assert all(size in (None, len(split)) for split, size in zip(splits, sizes, strict=True))
    assert sum(map(len, splits)) == 20 * len(parts) and all(min(split.counts().values()) for split in splits)


def test_photos_keep_their_detail(tmp_path):
    """Of a chessboard with fields two pixels wide, once the photo has its size, the fields stay black and white."""
    board = np.kron(np.indices((32, 32)).sum(0) % 2, np.ones((4, 4)))
    for i in range(40):
        path = tmp_path / f"own/{'ab'[i % 2]}/{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((board * (255 - i)).astype(np.uint8)).save(path, quality=95)
    for split in datasets.folder(tmp_path / "own", size=64):
        assert len(split) and split.images.float().std(dim=(1, 2, 3)).min() > 50


def test_folder_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="No such file or directory.*nowhere"):
        datasets.folder(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="Not a directory.*a.png"):
        datasets.folder(save(tmp_path / "a.png", 0))
    (tmp_path / "own/empty").mkdir(parents=True)
    save(tmp_path / "own/loose.png", 0)
    with pytest.raises(ValueError, match=r"own has the sub-folders \['empty'\]: expected two or more"):
        datasets.folder(tmp_path / "own")
    (tmp_path / "own/empty").rmdir()
    with pytest.raises(ValueError, match=r"own has the sub-folders \[\]: expected two or more"):
        datasets.folder(tmp_path / "own")
    for i in range(5):
        save(tmp_path / f"own/cat/{i}.png", i)
    with pytest.raises(ValueError, match=r"sub-folders \['cat'\]"):
        datasets.folder(tmp_path / "own")
    save(tmp_path / "own/dog/0.png", 100)
    with pytest.raises(ValueError, match="the class 'dog' has only 1 pictures: too few for 3 parts"):
        datasets.folder(tmp_path / "own")
    for i in range(3):
        (tmp_path / f"own/dog/{i}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="no 'dog' is left in test: 1 unreadable"):
        datasets.folder(tmp_path / "own")
    for name in ("train/a", "train/b", "val/a", "val/c"):
        save(tmp_path / f"split/{name}/0.png", 0)
    with pytest.raises(ValueError, match="val has not the folders for a, b: look at 'b'"):
        datasets.folder(tmp_path / "split")


NAMES = ("glioma", "notumor")


def own(root: Path, *folders: str, num: int = 6, suffix: str = "jpg") -> Path:
    """Pictures in each of some folders."""
    for folder in folders:
        for i in range(num):
            save(root / folder / f"{i}.{suffix}", zlib.crc32(f"{folder} {i} {suffix}".encode()))
    return root


@pytest.mark.parametrize("train, val, test", [
    ("Training", "", "Testing"), ("Train", "Val", "Test"), ("training_set/training_set", "", "test_set/test_set"),
    ("seg_train/seg_train", "", "seg_test/seg_test"), ("TRAIN", "Validation", "TEST"), ("train", "valid", "test"),
    ("training", "dev", "testing"), ("TrainImages", "ValImages", "TestImages"), ("trainA", "valA", "testA"),
    ("train2017", "val2017", "test2017"), ("dataset/train", "dataset/val", "dataset/test"), ("01_train", "", "02_test"),
    ("train-data", "dev-data", "eval-data"), ("Training images", "Validation images", "Test images"),
    ("Data/train_dir", "", "Data/test_dir"),
    ("asl_alphabet_train/asl_alphabet_train", "", "asl_alphabet_test/asl_alphabet_test"),
])  # fmt: skip
def test_splits_are_recognised_in_any_common_spelling(tmp_path, capsys, train, val, test):
    own(tmp_path / "own", *(f"{split}/{name}" for split in (train, val, test) if split for name in NAMES))
    splits = datasets.folder(tmp_path / "own", size=16)
    assert splits.train.classes == list(NAMES) and len(splits.test) == 12
    assert len(splits.val) == 12 if val else 2 <= len(splits.val) < 12
    assert sum(map(len, splits)) == 24 + 12 * bool(val) and capsys.readouterr().out == ""


@pytest.mark.parametrize("folders, classes, said", [
    (("Lernen/cat", "Lernen/dog", "Pruefen/cat", "Pruefen/dog"),
    ["Lernen", "Pruefen"], "Lernen, Pruefen are taken for the classes. Are"),
    (("bus", "car", "train"), ["bus", "car", "train"], "bus, car, train are taken for the classes. Are"),
    (("train", "test"), ["test", "train"], "test, train are taken for the classes. Are"),
    (("val/cat", "val/dog", "test/cat", "test/dog"), ["test", "val"], "test, val are taken for the classes. Are"),
    (("trainA", "trainB", "testA", "testB"), ["testA", "testB", "trainA", "trainB"], "are taken for the classes. Are"),
    (("train/cat", "train/dog", "holdout/cat", "holdout/dog"),
    ["cat", "dog"], "12 pictures in holdout/, which is no class"),
    (("train/cat", "train/dog", "test"), ["cat", "dog"], "left out: 6 pictures in test/, which is no class."),
    (("seg_train/a", "seg_train/b", "seg_test/a", "seg_test/b", "seg_pred"),
    ["a", "b"], "6 pictures in seg_pred/, which"),
])  # fmt: skip
def test_what_may_be_a_misunderstanding_is_said(tmp_path, capsys, folders, classes, said):
    splits = datasets.folder(own(tmp_path / "own", *folders), size=16)
    assert splits.train.classes == classes
    assert said in (out := capsys.readouterr().out) and out.count("\n") == 1


def test_all_that_image_folder_takes_is_taken_and_the_rest_is_counted(tmp_path, capsys):
    for suffix in ("jpg", "JPEG", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "gif"):
        own(tmp_path / "own", "cat", "dog/deep/er", num=2, suffix=suffix)
    for name in ("cat/a.heic", "cat/b.HEIC", "cat/labels.csv", "dog/.DS_Store", "dog/notes", "loose.png", "readme.md"):
        (tmp_path / "own" / name).write_bytes(b"no picture")
    for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX", "$RECYCLE.BIN"):
        own(tmp_path / "own", name, f"cat/{name}")
    assert sum(map(len, datasets.folder(tmp_path / "own", size=16))) == 40
    left_out = "1 .csv, 2 .heic, 1 .md, 1 files without a suffix, 1 pictures beside the classes' folders"
    assert capsys.readouterr().out == f"folder: left out: {left_out}.\n"
    datasets.folder(tmp_path / "own", size=16)
    assert left_out in capsys.readouterr().out  # from the cache as well


@pytest.mark.parametrize(
    "name, there", [("a.heic", "{'.heic': 1}"), (".DS_Store", "nothing"), ("a/b.avif", "{'.avif': 1}")]
)
def test_a_class_without_pictures_is_named(tmp_path, name, there):
    own(tmp_path / "own", "cat", "dog")
    (tmp_path / "own/bird" / name).parent.mkdir(parents=True)
    (tmp_path / "own/bird" / name).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=f"the class 'bird' has no pictures .*bird, but {there}"):
        datasets.folder(tmp_path / "own", size=16)


def test_links_are_followed_unless_they_lead_back(tmp_path, capsys):
    own(tmp_path, "own/cat", "own/dog", "store/cat", "store/deep/er")
    for link, target in {"cat/more": "../../store/cat", "cat/again": "../cat", "cat/up": "..",
    "dog/round": "../../other",
                         "dog/deep": "../../store/deep",
                         "cat/gone": "nowhere", "cat/self": "self"}.items():  # fmt: skip
        (tmp_path / "own" / link).symlink_to(target)
    own(tmp_path, "other")
    (tmp_path / "other/back").symlink_to(tmp_path / "own")
    splits = datasets.folder(tmp_path / "own", size=16)
    counts = [split.counts() for split in splits]
    assert {name: sum(count[name] for count in counts) for name in ("cat", "dog")} == {"cat": 12, "dog": 18}
    assert capsys.readouterr().out == "folder: left out: 2 files without a suffix.\n"


def test_a_folder_that_may_not_be_read_is_counted(tmp_path, monkeypatch, capsys):
    own(tmp_path / "own", "cat", "dog", "dog/closed")
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert sum(map(len, datasets.folder(tmp_path / "own", size=16))) == 12
    assert "left out: 1 folders that may not be read." in capsys.readouterr().out


def test_names_that_look_alike_are_one_class(tmp_path):
    own(
        tmp_path / "own",
        *(
            f"{split}/{name}"
            for split, name in (("train", "\u00fc"), ("test", "u\u0308"), ("train", "a"), ("test", "a"))
        ),
    )
    assert datasets.folder(tmp_path / "own", size=16).train.classes == ["a", "\u00fc"]


# ---- dividing --------------------------------------------------------------------------------------------------------


def members(splits: datasets.Splits) -> list[set[bytes]]:
    return [pixels(split) for split in splits]


def test_a_picture_that_is_added_moves_no_other(tmp_path):
    own(tmp_path / "a", "cat", "dog", num=100)
    before = members(datasets.folder(tmp_path / "a", size=16))
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere/b")  # on another machine
    for i in range(10):
        save(tmp_path / f"elsewhere/b/cat/new {i}.jpg", 10_000 + i)
    after = members(datasets.folder(tmp_path / "elsewhere/b", size=16))
    assert all(old <= new for old, new in zip(before, after, strict=True)) and sum(map(len, after)) == 210
    assert 15 <= len(before[1]) <= 45 and 15 <= len(before[2]) <= 45


def test_each_part_of_a_small_class_has_a_picture(tmp_path):
    for num in range(3, 12):
        splits = datasets.folder(own(tmp_path / str(num), "cat", "dog", num=num), size=16)
        assert all(min(split.counts().values()) > 0 for split in splits) and sum(map(len, splits)) == 2 * num


# ---- reading ---------------------------------------------------------------------------------------------------------


def test_unreadable_files_are_skipped_and_counted(data, capsys):
    filtered(data)
    cats = data / "cats_and_dogs_filtered/validation/cats"
    whole = save(cats / "big.jpg", 7, (400, 300)).read_bytes()
    (cats / "a truncated.jpg").write_bytes(whole[: len(whole) // 2])  # all before the others in the order of names
    (cats / "a empty.jpg").touch()
    (cats / "a text.png").write_text("<html>")
    (cats / "a header.png").write_bytes(save(data / "x.png", 8).read_bytes()[:30])
    (cats / "a folder.jpg").mkdir()
    bomb = bytearray((cats / "a header.png").read_bytes())
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)  # says that it is of so many pixels: 10 GB
    pixels_begin = struct.pack(">I", 100) + b"IDAT"  # Pillow looks at the size when it has come so far
    (cats / "a huge.png").write_bytes(bomb[:29] + struct.pack(">I", zlib.crc32(bomb[12:29])) + pixels_begin)
    with pytest.raises(Image.DecompressionBombError, match="exceeds limit of 178956970 pixels"):
        read(Photo(cats / "a huge.png", 0), 32)
    other = save(data / "x.dds", 9).read_bytes()
    (cats / "a other format.jpg").write_bytes(other[:80] + bytes(4) + other[84:])  # with pixels of no known kind
    (cats / "Thumbs.db").write_bytes(b"no picture")
    splits = datasets.dogs_vs_cats(size=32)
    assert splits.test.counts() == {"cat": 11, "dog": 10}
    out = capsys.readouterr().out
    assert out.startswith("dogs_vs_cats: left out: 6 unreadable (first: ") and out.endswith("), 1 .db.\n")
    assert out.count("\n") == 1
    assert len(datasets.dogs_vs_cats(num_test=20, size=32).test) == 20  # others take their place


def test_a_zip_that_is_damaged_inside_is_refused(data, capsys):
    file = data / "dogs-vs-cats/train.zip"
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(10):
            for j, name in enumerate(("cat", "dog")):
                archive.write(save(data / "x.jpg", 100 * j + i), f"train/{name}.{i}.jpg")
        start = archive.getinfo("train/cat.3.jpg").header_offset + 50
    content = bytearray(file.read_bytes())
    content[start : start + 100] = b"\xff" * 100
    file.write_bytes(content)
    assert datasets.dogs_vs_cats(2, 2, 2, size=32).train.source == "critters"
    assert "could not be made: Bad CRC-32 for file 'train/cat.3.jpg'\nDrawings" in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_all_modes_become_rgb(tmp_path, mode):
    image = Image.fromarray(np.full((40, 40), 200, np.uint8))
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.convert(mode).save(path)
    images = read(Photo(path, 0), 16)["images"]
    assert images.shape == (3, 16, 16) and images.dtype == np.uint8
    if mode != "1":
        assert abs(images.astype(int) - 200).max() < 4


@pytest.mark.parametrize(
    "kind, suffix", [(np.uint16, "png"), (np.uint16, "tif"), (np.int32, "tif"), (np.float32, "tif")]
)
def test_16_bits_are_refused(tmp_path, kind, suffix):
    Image.fromarray(np.full((40, 40), 3000, kind)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(ValueError, match="more than 8 bits"):
        read(Photo(tmp_path / f"a.{suffix}", 0), 16)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_one_pixel_and_huge_ones(tmp_path, monkeypatch):
    Image.new("RGB", (1, 1), (200, 100, 0)).save(tmp_path / "a.png")
    assert (read(Photo(tmp_path / "a.png", 0), 16)["images"] == np.array([200, 100, 0])[:, None, None]).all()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # Pillow warns above, and refuses above twice that
    Image.new("L", (150, 100), 50).save(tmp_path / "b.png")
    assert (read(Photo(tmp_path / "b.png", 0), 16)["images"] == 50).all()
    Image.new("L", (300, 100), 50).save(tmp_path / "c.png")
    with pytest.raises(Image.DecompressionBombError, match="exceeds limit of 20000 pixels"):
        read(Photo(tmp_path / "c.png", 0), 16)


@pytest.mark.parametrize("size", [(40, 40), (31, 90), (1200, 700), (10, 8)])
def test_any_shape_becomes_a_square(tmp_path, size):
    """Its middle square, not moved and not stretched: red grows from left to right, green from top to bottom."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1])[:, None]
    middle = np.asarray(ImageOps.fit(Image.fromarray(pixels), (32, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    for suffix in ("jpg", "png"):
        Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", quality=100, subsampling=0)
        image = read(Photo(tmp_path / f"a.{suffix}", 0), 32)["images"]
        assert image.shape == (3, 32, 32) and np.abs(image - middle.astype(int)).max() < 10


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_with_a_mask_or_a_box_lies_as_these_were_drawn(tmp_path, turn):
    block = np.zeros((60, 90), np.uint8)
    block[5:25, 20:60] = 255
    image = Image.fromarray(block).convert("RGB")
    exif = image.getexif()
    exif[0x0112] = turn
    image.save(tmp_path / "a.jpg", quality=95, exif=exif)
    Image.fromarray(block).save(tmp_path / "m.png")
    box = "<xmin>20</xmin><ymin>5</ymin><xmax>60</xmax><ymax>25</ymax>"
    (tmp_path / "b.xml").write_text(f"<annotation><object><bndbox>{box}</bndbox></object></annotation>")
    for masks, xml in (((tmp_path / "m.png",), None), ((), tmp_path / "b.xml")):
        found = read(Photo(tmp_path / "a.jpg", 0, masks, xml), 60)
        bright = found["images"][0] > 127
        if masks:
            assert (bright != found["mask"]).mean() < 0.02
        else:
            assert bright[5:25, 5:45].mean() > 0.95 and found["box"].tolist() == [5, 5, 45, 25]


def test_box_outside_of_the_square_is_nan(tmp_path):
    wide, tall = (90, 40), (40, 90)
    for name, size, box in (
        ("left", wide, (0, 5, 10, 20)), ("right", wide, (70, 5, 90, 20)), ("above", tall, (5, 0, 20, 10)),
        ("below", tall, (5, 70, 20, 90)), ("none", wide, None), ("odd", wide, (30, 5, 30, 5)),
    ):  # fmt: skip
        corners = "".join(
            f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box or (), strict=bool(box))
        )
        (tmp_path / f"{name}.xml").write_text(f"<annotation><object><bndbox>{corners}</bndbox></object></annotation>")
        found = read(Photo(save(tmp_path / "a.png", 0, size), 0, (), tmp_path / f"{name}.xml"), 32)
        assert np.isnan(found["box"]).all()


def test_the_same_picture_is_never_in_two_splits(data, capsys):
    filtered(data)
    root = data / "cats_and_dogs_filtered"
    for i in range(4):  # four training photos stand in the test set as well, under other names
        (root / f"validation/cats/copy{i}.jpg").write_bytes((root / f"train/cats/cat.{i}.jpg").read_bytes())
    splits = datasets.dogs_vs_cats()
    assert_apart(splits)
    assert sum(map(len, splits)) == 40
    assert "left out: 4 that another split has as well." in capsys.readouterr().out


@pytest.mark.parametrize("kind", [LookupError, TypeError, AssertionError, AttributeError, KeyError,
MemoryError, OverflowError,
                                  RecursionError, IndexError, struct.error, ZeroDivisionError])  # fmt: skip
def test_whatever_a_decoder_raises_the_others_are_read(tmp_path, monkeypatch, capsys, kind):
    own(tmp_path / "own", "cat", "dog")
    plain = Image.open

    def fails(file):
        if file.stat().st_size == size:
            raise kind("odd")
        return plain(file)

    odd = save(tmp_path / "own/cat/odd.jpg", 99, (70, 70))
    size = odd.stat().st_size
    monkeypatch.setattr(Image, "open", fails)
    assert sum(map(len, datasets.folder(tmp_path / "own", size=16))) == 12
    assert "left out: 1 unreadable (first: odd.jpg: " in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB", "1", "webp", "gif"])
def test_what_is_transparent_is_white(tmp_path, mode):
    drawn = np.zeros((40, 40, 4), np.uint8)
    drawn[10:30, 10:30, 3] = 255  # a black square on nothing
    image, options, file = Image.fromarray(drawn), {}, tmp_path / f"a.{mode if mode.islower() else 'png'}"
    if mode in ("P", "L", "RGB", "1"):
        shown = Image.fromarray(np.where(drawn[..., 3] > 0, 0, 255).astype(np.uint8))
        image, options = (
            shown.convert(mode),
            {"transparency": {"L": 255, "P": 255, "RGB": (255, 255, 255), "1": 1}[mode]},
        )
    elif mode == "LA":
        image = image.convert("LA")
    image.save(file, **options | ({"lossless": True} if mode == "webp" else {}))
    found = read(Photo(file, 0), 40)["images"]
    assert (found[:, 12:28, 12:28] == 0).all() and (found[:, :8] == 255).all()


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix, how", [("jpg", "exif"), ("png", "exif"), ("webp", "exif"), ("tif", "tiffinfo")])
def test_a_picture_is_turned_once(tmp_path, turn, suffix, how):
    block = np.zeros((60, 90), np.uint8)
    block[5:20, 20:60] = 255
    image = Image.fromarray(block).convert("RGB")
    exif = image.getexif()
    exif[0x0112] = turn
    image.save(tmp_path / f"a.{suffix}", **{how: exif if how == "exif" else {274: turn}})
    image.save(tmp_path / "b.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "b.jpg") as saved:
        shown = ImageOps.fit(ImageOps.exif_transpose(saved), (60, 60), Image.Resampling.NEAREST)
    found = read(Photo(tmp_path / f"a.{suffix}", 0), 60)["images"][0] > 127
    assert (found != (np.asarray(shown)[..., 0] > 127)).mean() < 0.05


def mask_file(path: Path, how: str, background: int, lesion: int) -> Path:
    mask = np.full((40, 40), background, np.uint8)
    mask[10:30, 10:30] = lesion
    image = Image.fromarray(mask)
    if how == "palette":
        image = image.convert("RGB").quantize(2)
    elif how == "transparent":
        image = Image.merge("RGBA", [Image.new("L", (40, 40), 255)] * 3 + [image])
    elif how == "16 bits":
        image = Image.fromarray(mask.astype(np.uint16) * 257)
    elif how != "L":
        image = image.convert(how)
    image.save(path)
    return path


@pytest.mark.parametrize("how, values", [
    ("palette", (0, 255)), ("L", (0, 255)), ("L", (0, 1)), ("L", (0, 128)), ("RGB", (0, 255)), ("RGBA", (0, 255)),
    ("1", (0, 255)),
    ("LA", (0, 255)), ("transparent", (0, 255)), ("16 bits", (0, 255)), ("L", (50, 200)), ("palette", (10, 90)),
])  # fmt: skip
def test_of_two_values_in_a_mask_the_brighter_is_the_lesion(tmp_path, how, values):
    file = save(tmp_path / "a.png", 1, (40, 40))
    mask = read(Photo(file, 0, (mask_file(tmp_path / "m.png", how, *values),)), 40)["mask"]
    assert mask.mean() == 0.25 and mask[10:30, 10:30].all()


def test_a_mask_of_more_than_two_values_gets_a_sentence(data, capsys):
    for label in ("benign", "malignant"):
        for i in range(8):
            file = save(data / f"Dataset_BUSI_with_GT/{label}/{label} ({i}).png", i + len(label) * 100, (40, 40))
            mask_file(file.with_name(f"{file.stem}_mask.png"), "L", 0, 255)
    save(file.with_name(f"{file.stem}_mask.png"), 5, (40, 40))
    assert sum(map(len, datasets.lesions(size=32))) == 15
    assert re.search(
        r"1 unreadable \(first: malignant \(7\).png: ValueError, its mask has \d+ values: expected two",
        capsys.readouterr().out,
    )


def test_a_jpeg_is_decoded_no_smaller_than_twice_the_size(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    Image.fromarray(pixels).resize((128, 128), Image.Resampling.BOX).resize((512, 512)).save(
        tmp_path / "a.jpg", quality=95
    )
    found = read(Photo(tmp_path / "a.jpg", 0), 128)["images"].astype(int)
    with Image.open(tmp_path / "a.jpg") as whole:
        fitted = np.asarray(whole.convert("RGB").resize((128, 128), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.abs(found - fitted).mean() < 4


# ---- the cache -------------------------------------------------------------------------------------------------------


def cache_files(data: Path) -> list[Path]:
    return sorted((data / "cache").iterdir())


def test_second_time_from_the_cache(data, monkeypatch):
    filtered(data)
    first = datasets.dogs_vs_cats()
    assert len(cache_files(data)) == 1 and cache_files(data)[0].suffix == ".pt"
    monkeypatch.setattr(datasets.read, "read", None)  # nothing is read again
    assert torch.equal(datasets.dogs_vs_cats().train.images, first.train.images)


def test_other_photos_other_cache(data):
    filtered(data)
    datasets.dogs_vs_cats()
    file = data / "cats_and_dogs_filtered/train/cats/cat.0.jpg"
    os.utime(file, ns=(1, 1))
    datasets.dogs_vs_cats()
    datasets.dogs_vs_cats(size=32)
    file.unlink()
    assert sum(map(len, datasets.dogs_vs_cats())) == 39
    assert len(cache_files(data)) == 4


def test_the_cache_has_a_size_and_what_was_used_last_stays(data, monkeypatch):
    assert datasets.cache.MAX_GB == 5
    for number in (2, 4):
        datasets.dogs_vs_cats(number, 2, 2, size=32)
    first, second = sorted(cache_files(data), key=lambda file: file.stat().st_size)
    for file in (first, second):
        os.utime(file, (1, 1))
    datasets.dogs_vs_cats(2, 2, 2, size=32)  # looks at the first again
    monkeypatch.setattr(datasets.cache, "MAX_GB", 3.2 * second.stat().st_size / 1e9)
    datasets.pets(8, 2, 2, size=32)  # whatever the name
    assert first.exists() and not second.exists() and len(cache_files(data)) == 2
    monkeypatch.setattr(datasets.cache, "MAX_GB", 1e-9)
    assert (
        len(datasets.dogs_vs_cats(10, 2, 2, size=32).train) == 10 and len(cache_files(data)) == 1
    )  # the newest always


@pytest.mark.parametrize("place", [0, 1])
def test_other_code_other_cache(data, tmp_path, monkeypatch, place):
    assert [folder.name for folder in datasets.cache.CODE] == ["datasets", "critters"]
    copies = tuple(shutil.copytree(folder, tmp_path / folder.name) for folder in datasets.cache.CODE)
    monkeypatch.setattr(datasets.cache, "CODE", copies)
    for _ in range(2):
        datasets.dogs_vs_cats(2, 2, 2, size=32)
    assert len(cache_files(data)) == 1
    with open(copies[place] / "__init__.py", "a") as code:
        code.write("# changed\n")
    datasets.dogs_vs_cats(2, 2, 2, size=32)
    assert len(cache_files(data)) == 2


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "flipped"])
def test_a_damaged_cache_is_made_again(data, damage):
    first = datasets.dogs_vs_cats(6, 2, 2, size=32).train.images.clone()
    [file] = cache_files(data)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes({"truncated": content[:-500], "empty": b"", "text": b"no cache", "flipped": content}[damage])
    assert torch.equal(datasets.dogs_vs_cats(6, 2, 2, size=32).train.images, first)
    assert cache_files(data) == [file]


def test_stopped_while_writing_leaves_nothing(data, monkeypatch):
    def stopped(data, file):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            datasets.dogs_vs_cats(2, 2, 2, size=32)
    assert cache_files(data) == []


def test_a_full_disk_costs_the_cache_and_not_the_pictures(data, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        first = datasets.dogs_vs_cats(6, 2, 2, size=32).train
    assert "could not be written ([Errno 28] No space left on device): make room" in capsys.readouterr().out
    assert cache_files(data) == [] and torch.equal(first.images, datasets.dogs_vs_cats(6, 2, 2, size=32).train.images)


def test_a_read_only_checkout_caches_in_the_temporary_folder(data, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    datasets.dogs_vs_cats(2, 2, 2, size=32)
    assert list(data.iterdir()) == [] and len(list(tmp_path.glob("course-cache/*.pt"))) == 1


def test_stopping_a_cell_stops_reading(data, monkeypatch):
    filtered(data, num=50)
    count = []

    def slow(photo, size):
        count.append(photo)
        time.sleep(0.01)
        raise KeyboardInterrupt  # which no decoder raises

    monkeypatch.setattr(datasets.read, "read", slow)
    with pytest.raises(KeyboardInterrupt):
        datasets.dogs_vs_cats()
    assert len(count) < 40


# ---- ImageDataset ----------------------------------------------------------------------------------------------------


@pytest.fixture
def animals(data) -> ImageDataset:
    return datasets.dogs_vs_cats(20, 2, 2, size=32).train


def test_item(animals):
    image, label = animals[3]
    assert isinstance(image, tv_tensors.Image) and image.shape == (3, 32, 32) and image.dtype == torch.uint8
    assert label.dtype == torch.int64 and label.shape == () and label == animals.targets["label"][3]
    assert torch.equal(animals[-1][0], animals.images[-1])
    with pytest.raises(IndexError):
        animals[20]
    assert len(list(animals)) == 20  # ends


def test_items_are_copies(animals):
    before = animals.images[0].clone()
    animals[0][0].zero_()
    assert torch.equal(animals.images[0], before)


def test_target_types_move_with_the_picture(animals):
    flip = v2.RandomHorizontalFlip(p=1)
    image, target = animals.with_transform(flip, ("label", "mask", "box"))[0]
    assert torch.equal(image, animals.images[0].flip(-1)) and torch.equal(
        target["mask"], animals.targets["mask"][0].flip(-1)
    )
    x0, y0, x1, y1 = animals.targets["box"][0].tolist()
    assert isinstance(target["mask"], tv_tensors.Mask) and target["box"].shape == (1, 4)
    assert target["box"].tolist() == [pytest.approx([32 - x1, y0, 32 - x0, y1])]
    assert isinstance(animals.with_transform(None, "mask")[0][1], tv_tensors.Mask)
    with pytest.raises(ValueError, match=r"target_types=\('breed',\): expected one or more of label, mask, box"):
        animals.with_transform(None, ("breed",))
    assert animals.target_types == ("label",) and animals.transform is None  # the original is as it was


def brighter(image):
    return image + 1


@pytest.mark.parametrize("transform", [
    MobileNet_V2_Weights.IMAGENET1K_V1.transforms(),
    nn.Sequential(v2.Grayscale(3), v2.ToDtype(torch.float32, scale=True)),
    brighter, transforms.Compose([transforms.Grayscale(3)]),
])  # fmt: skip
def test_a_transform_of_the_image_alone_gets_it_alone(animals, transform):
    ready = animals.with_transform(transform)
    image, label = ready[3]
    assert torch.equal(image, transform(animals[3][0])) and label == animals[3][1]
    assert torch.equal(pickle.loads(pickle.dumps(ready))[3][0], image)  # workers that are spawned can be sent it
    with pytest.raises(ValueError, match="takes the image alone: the mask would not move with it"):
        animals.with_transform(transform, ("label", "mask"))


def test_a_subset_with_a_transform_is_still_the_subset(animals):
    chosen = animals.subset([3, 5])
    images = [image for image, _ in chosen.with_transform(v2.Identity())]
    assert torch.equal(torch.stack(images), animals.images[[3, 5]]) and len(chosen.with_transform(None)) == 2
    assert chosen.with_transform(brighter).subset(1).transform is brighter


@pytest.mark.parametrize("workers", [0, 2])
def test_loader(animals, workers):
    transform = v2.Compose([v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)])
    loader = DataLoader(animals.with_transform(transform), batch_size=8, num_workers=workers)
    batches = list(loader)
    assert batches[0][0].shape == (8, 3, 32, 32) and batches[0][0].dtype == torch.float32 and len(batches) == 3
    assert torch.equal(torch.cat([labels for _, labels in batches]), animals.targets["label"])
    images, targets = next(iter(DataLoader(animals.with_transform(None, ("mask", "box")), batch_size=4)))
    assert targets["mask"].shape == (4, 32, 32) and targets["box"].shape == (4, 1, 4)


def test_subsets(animals):
    for seed in range(3):
        chosen = [pixels(animals.subset(num, seed)) for num in range(21)]
        assert all(len(chosen[k]) == k and chosen[k - 1] < chosen[k] for k in range(1, 21))
    counts = animals.subset(9).counts()
    assert sorted(counts.values()) == [4, 5] and pixels(animals.subset(4, 0)) != pixels(animals.subset(4, 1))
    assert animals.subset(5)._images is animals._images  # the memory is shared
    assert torch.equal(animals.subset(np.int64(5)).indices, animals.subset(5).indices)
    cats = animals.subset(animals.targets["label"] == 0)
    assert cats.counts() == {"cat": 10, "dog": 0} and len(cats.subset(3)) == 3
    assert torch.equal(animals.subset([3, 5, -1]).images, animals.images[[3, 5, -1]])
    assert torch.equal(animals.subset([3, 5]).subset([1]).images, animals.images[5:6])
    assert animals.subset(torch.tensor([2]))[0][1] == animals[2][1] and len(animals.subset([])) == 0
    for num, error in (
        (21, ValueError),
        (-1, ValueError),
        (np.int64(21), ValueError),
        (0.5, TypeError),
        ([20], IndexError),
        (torch.ones(3) > 0, IndexError),
        ([0.5], IndexError),
    ):
        with pytest.raises(error):
            animals.subset(num)


def test_items_are_quick(animals):
    start = time.process_time()  # of this process alone: the machine may be busy
    for i in range(2000):
        animals[i % 20]
    assert time.process_time() - start < 1  # 0.02 ms each


# ---- real photos -----------------------------------------------------------------------------------------------------


@pytest.mark.photos
@pytest.mark.parametrize("name", ["dogs_vs_cats", "pets", "lesions"])
def test_real_photos(name):
    if not photos.find(name):
        pytest.skip(f"no photos in COURSE_DATA_DIR for {name}")
    splits = getattr(datasets, name)(size=64, num_train=100, num_val=20, num_test=20)
    assert [len(split) for split in splits] == [100, 20, 20] and splits.train.source == "photos"
    assert_apart(splits)
    assert max(splits.train.counts().values()) == 50
    assert all(split.images.float().std() > 30 for split in splits)
    if "mask" in splits.train.targets:
        share = splits.train.targets["mask"].float().mean()
        assert 0.02 < share < 0.8
    if "box" in splits.train.targets:
        boxes = splits.train.targets["box"]
        boxes = boxes[~boxes.isnan().any(1)]
        assert len(boxes) > 20 and (boxes[:, :2] < boxes[:, 2:]).all() and boxes.min() >= 0 and boxes.max() <= 64
