"""STL-10's files, against torchvision's reader."""

from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from sfd_sweep.datasets.finding import find_images
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.errors import UserError

NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
COUNTS = {"train": 5, "test": 3}
_RANDOM = np.random.default_rng(0)
PIXELS = {split: _RANDOM.integers(0, 256, (count, 3, 96, 96), np.uint8) for split, count in COUNTS.items()}
LABELS = {split: _RANDOM.integers(1, 11, count).tolist() for split, count in COUNTS.items()}


def column_by_column(image: np.ndarray) -> bytes:
    return b"".join(bytes(channel[:, column].tolist()) for channel in image for column in range(96))


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for split in COUNTS:
        (folder / f"{split}_X.bin").write_bytes(b"".join(map(column_by_column, PIXELS[split])))
        (folder / f"{split}_y.bin").write_bytes(bytes(LABELS[split]))
    (folder / "class_names.txt").write_text("\n".join(NAMES))
    return folder


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_labels_and_names_are_those_that_torchvision_reads(folder, monkeypatch, split):
    monkeypatch.setattr("torchvision.datasets.stl10.check_integrity", lambda *_: True)
    expected = torchvision.datasets.STL10(folder.parent, split=split)
    loaded = load_images(f"{folder}:{split}")
    np.testing.assert_array_equal(loaded.pixels.numpy(), expected.data)
    np.testing.assert_array_equal(loaded.pixels.numpy(), PIXELS[split])
    assert loaded.labels.tolist() == expected.labels.tolist()
    assert loaded.class_names == tuple(expected.classes) == NAMES


@pytest.mark.parametrize(("split", "count"), [("", 5), (":train", 5), (":test", 3), (":all", 8)])
def test_the_folder_around_is_as_good_and_training_images_are_meant(folder, split, count):
    assert len(load_images(f"{folder.parent}{split}")) == count


def test_images_are_scaled_to_the_size_of_a_model(folder):
    loaded = load_images(f"{folder}:test", size=64)
    assert loaded.image_shape == (3, 64, 64)
    expected = [Image.fromarray(image.transpose(1, 2, 0)).resize((64, 64), Image.BICUBIC) for image in PIXELS["test"]]
    np.testing.assert_array_equal(loaded.pixels.permute(0, 2, 3, 1).numpy(), np.stack(expected))


def test_labels_follow_a_models_order_of_the_names(folder):
    order = tuple(reversed(NAMES))
    loaded = load_images(f"{folder}:train", class_names=order)
    assert [order[label] for label in loaded.labels] == [NAMES[label - 1] for label in LABELS["train"]]
    assert loaded.class_names == order


def test_a_description_has_the_files_and_their_size(folder):
    assert find_images(f"{folder}:all").describe() == f"STL-10, 4 file(s), 0.2 MB: {folder}/train_X.bin, …"


@pytest.mark.parametrize("name", ["train_y.bin", "class_names.txt"])
def test_a_missing_file_is_named_before_anything_is_read(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{folder / name} is missing"):
        find_images(str(folder)).describe()


def test_files_that_are_cut_short_are_refused(folder):
    file = folder / "train_X.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{file} has 138,239 bytes, not the 27,648 an image of the 5 in"):
        load_images(str(folder))


@pytest.mark.parametrize("label", [0, 11])
def test_a_label_that_is_no_class_is_reported_by_file_and_image(folder, label):
    (folder / "train_y.bin").write_bytes(bytes([1, 2, label, 3, label]))
    with pytest.raises(UserError, match=rf"train_y\.bin: image 2 \(from 0\) has label {label}, .* 2 images"):
        load_images(str(folder))
