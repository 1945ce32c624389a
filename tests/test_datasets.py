"""Data sets: finding and reading photos, drawings that stand in, the cache, ImageDataset.

The photo folders are made here, of a few pixels; tests marked `photos` need real ones in COURSE_DATA_DIR.
"""

import os
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
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from utils import critters, datasets
from utils.datasets import ImageDataset, photos
from utils.datasets.photos import Photo, read


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
    with pytest.raises(FileNotFoundError, match=r"BUSI.* not in .*no \(which does not exist\).*Dataset_BUSI_with_GT"):
        datasets.lesions()


def test_critters_leaves_photos_alone(data, monkeypatch):
    filtered(data)
    assert datasets.dogs_vs_cats().train.noun == "photo"
    monkeypatch.setenv("COURSE_DATA", "critters")
    assert datasets.dogs_vs_cats(2, 2, 2, 32).train.noun == "drawing"


def test_platform(monkeypatch):
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    assert datasets.platform() == "other"
    shell = type("Shell", (), {"__module__": "google.colab._shell"})()
    monkeypatch.setitem(sys.modules, "IPython", type(sys)("IPython"))
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: shell, raising=False)
    assert datasets.platform() == "colab"
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    assert datasets.platform() == "kaggle"


# ---- the layouts -----------------------------------------------------------------------------------------------------


def test_filtered_subset(data):
    filtered(data)
    splits = datasets.dogs_vs_cats()
    assert [split.counts() for split in splits] == [{"cat": 8, "dog": 8}, {"cat": 2, "dog": 2}, {"cat": 10, "dog": 10}]
    assert repr(splits.train) == "16 photos of cat, dog, 128 x 128, (label)" and splits.train.source == "photos"
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
    assert sum(map(len, splits)) == 40 and len(splits.test) == 6 and 5 <= len(splits.val) <= 6
    assert splits.train.classes == ["cat", "dog"]
    assert "photos left out: 1 unreadable (first: 666.jpg: cannot identify image file)." in capsys.readouterr().out
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
    else:
        (tmp_path / place / "train.zip").write_bytes(b"half of one")  # is not looked at, as the photos are there
    splits = datasets.dogs_vs_cats(num_train=10, size=32)
    assert [split.counts() for split in splits] == [{"cat": 5, "dog": 5}, *[{"cat": 3, "dog": 3}] * 2]
    assert splits.train.source == "photos"


def test_mounted_data_set_of_the_filtered_subset(tmp_path):
    filtered(tmp_path / "kaggle/cats-and-dogs")
    assert datasets.dogs_vs_cats().train.source == "photos"


def test_numbers_are_balanced_nested_and_only_they_are_read(data, monkeypatch, capsys):
    filtered(data)
    names, plain = [], photos.read
    monkeypatch.setattr(photos, "read", lambda photo, size: names.append(photo.file.name) or plain(photo, size))
    few = datasets.dogs_vs_cats(5, 2, 4)
    assert [len(split) for split in few] == [5, 2, 4] and len(names) == 11
    assert sorted(few.train.counts().values()) == [2, 3] and few.test.counts() == {"cat": 2, "dog": 2}
    more = datasets.dogs_vs_cats(8, 2, 4)
    assert pixels(few.train) < pixels(more.train) and pixels(few.test) == pixels(more.test)
    assert capsys.readouterr().out == ""
    assert len(datasets.dogs_vs_cats(1000, 0, 4).train) == 16
    assert "1,000 photos were asked for in train, and all 16 that are there are used" in capsys.readouterr().out
    assert [len(split) for split in datasets.dogs_vs_cats(*np.array([5, 2, 4]), size=np.int64(64))] == [5, 2, 4]
    for number in (-1, 2.5, "all", True, np.int64(-1)):
        with pytest.raises(ValueError, match="pictures were asked for: expected a whole number"):
            datasets.dogs_vs_cats(number)
    with pytest.raises(ValueError, match="size='64'"):
        datasets.dogs_vs_cats(size="64")


def test_pets(data):
    pets_like(data)
    splits = datasets.pets(size=64)
    assert [len(split) for split in splits] == [16, 4, 20] and splits.train.classes == ["cat", "dog"]
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
    assert (
        "pets: photos left out: 2 unreadable (first: pug_te0.jpg: No such file or directory)."
        in capsys.readouterr().out
    )


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
    assert "pets: photos left out: 6 unreadable (first: " in capsys.readouterr().out
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
        photo = Photo(data / f"oxford-iiit-pet/images/pug_{name}.jpg", 1, (notes / f"trimaps/pug_{name}.png",), box)
        with pytest.raises(ValueError, match=reason):
            read(photo._replace(box=box if box.exists() else None), 32)


@pytest.mark.parametrize("content", ["pug_1 4 2", "pug_1 4 3 1", "half a li", "\0\xff"])
def test_a_list_of_breeds_that_is_cut_short(data, monkeypatch, capsys, content):
    pets_like(data)
    file = data / "oxford-iiit-pet/annotations/test.txt"
    with open(file, "a", encoding="latin1") as opened:
        opened.write(content)
    assert "pets" not in datasets.source_line()
    assert datasets.pets(2, 2, 2, 32).train.source == "critters"
    assert f"{file} has the line" in (out := capsys.readouterr().out) and "Drawings are used instead." in out
    monkeypatch.setenv("COURSE_DATA", "photos")
    with pytest.raises(
        ValueError, match="test.txt has the line .*expected NAME BREED SPECIES NUMBER.* Copy the file anew"
    ):
        datasets.pets()


def test_a_list_with_some_of_the_breeds_is_used_as_it_is(data):
    pets_like(data)
    for file in (data / "oxford-iiit-pet/annotations").glob("*.txt"):
        file.write_text("".join(line for line in file.read_text().splitlines(True) if not line.startswith("pug")))
    assert set(datasets.pets(size=32).train.targets["breed"].tolist()) == {0, 1, 2}


def test_a_drive_that_is_gone(data, monkeypatch, capsys):
    filtered(data)

    def gone(*args):
        raise OSError(112, "Host is down", str(data))

    monkeypatch.setitem(datasets._FINDERS, "dogs_vs_cats", gone)
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
    folder, _, rest = part.partition("/")
    sentence = f"{data / folder} is there but lacks photos, or lists of them, in {rest}: complete it or remove it.\n"
    assert capsys.readouterr().out == sentence + "Drawings are used instead.\n"


def test_a_zip_of_photos_that_is_cut_short(data, monkeypatch, capsys):
    (data / "dogs-vs-cats").mkdir()
    (data / "dogs-vs-cats/train.zip").write_bytes(b"PK\x03\x04 and no end")
    assert datasets.source_line() == "data: drawings (COURSE_DATA=photos for photos)"
    assert datasets.dogs_vs_cats(2, 2, 2, 32).train.source == "critters"
    assert "train.zip is no whole zip archive: copy it anew, or remove it.\nDrawings" in capsys.readouterr().out
    monkeypatch.setenv("COURSE_DATA", "photos")
    with pytest.raises(ValueError, match="train.zip is no whole zip archive"):
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
    assert [split.counts() for split in splits] == [{"benign": n, "malignant": n} for n in (6, 2, 2)]
    assert splits.train.noun == "ultrasound image" and list(splits.train.targets) == ["label", "mask"]
    areas = torch.cat([split.targets["mask"].sum(dim=(1, 2)) for split in splits])
    assert sorted(areas.tolist()) == [80] * 2 + [160] * 18  # two masks of one picture are merged


# ---- drawings that stand in ------------------------------------------------------------------------------------------


def test_drawings():
    splits = datasets.dogs_vs_cats(6, 4, 5, size=32)
    assert [len(split) for split in splits] == [6, 4, 5] and splits.train.classes == ["cat", "dog"]
    assert splits.train.noun == "drawing" and splits.train.source == "critters"
    assert list(splits.train.targets) == ["label", "mask", "box", "parts"] and splits.train.counts() == {"cat": 3, "dog": 3}
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
    train = datasets.critters(["cat"], 3, 0, 0, size=32).train.with_transform(v2.RandomHorizontalFlip(1), ["parts", "mask"])
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
    assert [len(split) for split in splits] == [28, 6, 6] and splits.train.classes == ["b", "übung mit Leerzeichen"]
    assert splits.train.source == "folder" and splits.train.noun == "photo" and capsys.readouterr().out == ""
    assert_apart(splits)


@pytest.mark.parametrize("parts, sizes", [
    (("train", "val", "test"), [20, 20, 20]), (("train", "validation", "test"), [20, 20, 20]),
    (("train", "val"), [16, 4, 20]), (("train", "test"), [16, 4, 20]), (("train",), [12, 4, 4]),
])  # fmt: skip
def test_folder_with_splits(tmp_path, parts, sizes):
    for k, part in enumerate(parts):
        for i in range(10):
            save(tmp_path / part / f"a/{i}.png", 100 * k + i)
            save(tmp_path / part / f"b/{i}.png", 100 * k + 50 + i)
    splits = datasets.folder(tmp_path, size=32)
    assert [len(split) for split in splits] == sizes


def test_folder_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist: expected a folder"):
        datasets.folder(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="is a file: expected a folder"):
        datasets.folder(save(tmp_path / "a.png", 0))
    (tmp_path / "own/empty").mkdir(parents=True)
    save(tmp_path / "own/loose.png", 0)
    with pytest.raises(ValueError, match="no sub-folders with pictures .*and 1 pictures beside: expected at least two"):
        datasets.folder(tmp_path / "own")
    for i in range(5):
        save(tmp_path / f"own/cat/{i}.png", i)
    with pytest.raises(ValueError, match="only the class 'cat'"):
        datasets.folder(tmp_path / "own")
    save(tmp_path / "own/dog/0.png", 100)
    with pytest.raises(ValueError, match="the class of .*0.png has only 1 of the 3 or more pictures"):
        datasets.folder(tmp_path / "own")
    for i in range(3):
        (tmp_path / f"own/dog/{i}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="no photo of class number 1 is left in val: 1 are unreadable"):
        datasets.folder(tmp_path / "own")
    for name in ("train/a", "train/b", "val/a", "val/c"):
        save(tmp_path / f"split/{name}/0.png", 0)
    with pytest.raises(ValueError, match="val and .*train differ in classes: look at 'b'"):
        datasets.folder(tmp_path / "split")


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
    with pytest.raises(Image.DecompressionBombError):
        read(Photo(cats / "a huge.png", 0), 32)
    other = save(data / "x.dds", 9).read_bytes()
    (cats / "a other format.jpg").write_bytes(other[:80] + bytes(4) + other[84:])  # with pixels of no known kind
    (cats / "Thumbs.db").write_bytes(b"no picture")
    splits = datasets.dogs_vs_cats(size=32)
    assert splits.test.counts() == {"cat": 11, "dog": 10}
    out = capsys.readouterr().out
    assert out.startswith("dogs_vs_cats: photos left out: 7 unreadable (first: ") and out.count("\n") == 1
    assert len(datasets.dogs_vs_cats(num_test=20, size=32).test) == 20  # others take their place


def test_photos_that_are_damaged_inside_a_zip_are_left_out_and_counted(data, capsys):
    file = data / "dogs-vs-cats/train.zip"
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(10):
            for j, name in enumerate(("cat", "dog")):
                how = zipfile.ZIP_DEFLATED if name == "dog" else zipfile.ZIP_STORED
                archive.write(save(data / "x.jpg", 100 * j + i), f"train/{name}.{i}.jpg", how)
        starts = [
            archive.getinfo(name).header_offset + 30 + len(name) for name in ("train/cat.3.jpg", "train/dog.3.jpg")
        ]
    content = bytearray(file.read_bytes())
    for start in starts:  # a checksum that does not fit, and a stream that makes no sense
        content[start : start + 100] = b"\xff" * 100
    file.write_bytes(content)
    assert sum(map(len, datasets.dogs_vs_cats(size=32))) == 18
    assert "photos left out: 2 unreadable (first: " in capsys.readouterr().out


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
    with pytest.raises(Image.DecompressionBombError):
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
def test_camera_turns_move_mask_and_box(tmp_path, turn):
    """The bright block, its mask and its box stay together, and lie where Pillow's own exif_transpose has the block."""
    block = np.zeros((60, 90), np.uint8)
    block[5:25, 20:60] = 255
    image = Image.fromarray(block).convert("RGB")
    exif = image.getexif()
    exif[0x0112] = turn
    image.save(tmp_path / "a.jpg", quality=95, exif=exif)
    Image.fromarray(block).save(tmp_path / "m.png")
    box = "<xmin>20</xmin><ymin>5</ymin><xmax>60</xmax><ymax>25</ymax>"
    (tmp_path / "b.xml").write_text(f"<annotation><object><bndbox>{box}</bndbox></object></annotation>")
    found = read(Photo(tmp_path / "a.jpg", 0, (tmp_path / "m.png",), tmp_path / "b.xml"), 60)
    bright = found["images"][0] > 127
    assert (bright != found["mask"]).mean() < 0.02
    rows, columns = np.nonzero(found["mask"])
    assert np.abs(found["box"] - [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).max() <= 1
    with Image.open(tmp_path / "a.jpg") as saved:
        shown = ImageOps.fit(ImageOps.exif_transpose(saved).convert("L"), (60, 60), Image.Resampling.NEAREST)
    assert ((np.asarray(shown) > 127) != bright).mean() < 0.05


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
    assert "photos left out: 4 that another split has as well." in capsys.readouterr().out


# ---- the cache -------------------------------------------------------------------------------------------------------


def cache_files(data: Path) -> list[Path]:
    return sorted((data / "cache").iterdir())


def test_second_time_from_the_cache(data, monkeypatch):
    filtered(data)
    first = datasets.dogs_vs_cats()
    assert len(cache_files(data)) == 1 and cache_files(data)[0].suffix == ".pt"
    monkeypatch.setattr(photos, "read", None)  # nothing is read again
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


def test_of_many_caches_those_used_last_are_kept(data, monkeypatch):
    monkeypatch.setattr(datasets.cache, "_KEPT", 2)
    for number in (1, 2):
        datasets.dogs_vs_cats(2 * number, 2, 2, size=32)
    first, second = sorted(cache_files(data), key=lambda file: file.stat().st_size)
    for file in (first, second):
        os.utime(file, (1, 1))
    datasets.dogs_vs_cats(2, 2, 2, size=32)  # looks at the first again
    datasets.dogs_vs_cats(6, 2, 2, size=32)
    assert first.exists() and not second.exists() and len(cache_files(data)) == 2


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "flipped"])
def test_a_damaged_cache_is_made_again(data, capsys, damage):
    first = datasets.dogs_vs_cats(6, 2, 2, size=32).train.images.clone()
    [file] = cache_files(data)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes({"truncated": content[:-500], "empty": b"", "text": b"no cache", "flipped": content}[damage])
    assert torch.equal(datasets.dogs_vs_cats(6, 2, 2, size=32).train.images, first)
    assert "is damaged and is made again" in capsys.readouterr().out
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
    assert list(data.iterdir()) == [] and len(list(tmp_path.glob("course-cache-*/*.pt"))) == 1


def test_stopping_a_cell_stops_reading(data, monkeypatch):
    filtered(data, num=50)
    count = []

    def slow(photo, size):
        count.append(photo)
        time.sleep(0.01)
        raise KeyboardInterrupt  # not among the errors that mean "unreadable"

    monkeypatch.setattr(photos, "read", slow)
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
        (True, ValueError),
        (0.5, ValueError),
        ([20], IndexError),
        (torch.ones(3) > 0, ValueError),
        ([0.5], ValueError),
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
@pytest.mark.parametrize("name, finder", datasets._FINDERS.items())
def test_real_photos(name, finder):
    if not finder(datasets.data_dir()):
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
