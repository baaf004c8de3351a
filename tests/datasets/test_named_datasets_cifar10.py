"""Both forms in which CIFAR-10 is given out, against torchvision's reader."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torchvision

from sfd_sweep.datasets.finding import find_images
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.errors import UserError

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FILES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
COUNT = 4  # images a file
_RANDOM = np.random.default_rng(0)
PIXELS = {file: _RANDOM.integers(0, 256, (COUNT, 3, 32, 32), np.uint8) for file in FILES}
LABELS = {file: _RANDOM.integers(0, 10, COUNT).tolist() for file in FILES}


def python_2_string(value: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(value)) + value


def python_2_pickle(pixels: np.ndarray, labels: list[int]) -> bytes:
    """{"data": …, "labels": …} as Python 2 and a NumPy of its time write it, opcode by opcode."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + b"(K\x01"
        + b"(K%cM\x00\x0ct" % len(pixels)
        + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + python_2_string(pixels.tobytes())
        + b"tb"
    )
    numbers = b"](" + b"".join(b"K%c" % label for label in labels) + b"e"
    return b"\x80\x02}(" + python_2_string(b"data") + array + python_2_string(b"labels") + numbers + b"u."


def write_python(folder: Path) -> Path:
    folder = folder / "cifar-10-batches-py"
    folder.mkdir()
    for file in FILES:
        (folder / file).write_bytes(python_2_pickle(PIXELS[file], LABELS[file]))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(NAMES), "num_vis": 3072}, 2))
    return folder


def write_binary(folder: Path) -> Path:
    folder = folder / "cifar-10-batches-bin"
    folder.mkdir()
    for file in FILES:
        records = zip(LABELS[file], PIXELS[file], strict=True)
        (folder / f"{file}.bin").write_bytes(b"".join(bytes([label]) + image.tobytes() for label, image in records))
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return folder


WRITERS = pytest.mark.parametrize("write", [write_python, write_binary])


@pytest.fixture(name="torchvisions")
def _torchvisions(monkeypatch, tmp_path):
    """torchvision's reader, which insists on the checksums of the real files."""
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)

    def read(train: bool) -> torchvision.datasets.CIFAR10:
        folder = tmp_path / "for-torchvision"
        folder.mkdir()
        write_python(folder)
        return torchvision.datasets.CIFAR10(folder, train=train)

    return read


@WRITERS
@pytest.mark.parametrize("split", ["train", "test"])
def test_images_labels_and_names_are_those_that_torchvision_reads(tmp_path, torchvisions, write, split):
    loaded, expected = load_images(f"{write(tmp_path)}:{split}"), torchvisions(split == "train")
    np.testing.assert_array_equal(loaded.pixels.permute(0, 2, 3, 1).numpy(), expected.data)
    assert loaded.labels.tolist() == expected.targets
    assert loaded.class_names == tuple(expected.classes) == NAMES


@WRITERS
@pytest.mark.parametrize(("split", "count"), [("", 20), (":train", 20), (":test", 4), (":all", 24)])
def test_the_folder_around_is_as_good_and_training_images_are_meant(tmp_path, write, split, count):
    write(tmp_path)
    loaded = load_images(f"{tmp_path}{split}")
    assert len(loaded) == count
    first = "test_batch" if split == ":test" else "data_batch_1"
    np.testing.assert_array_equal(loaded.pixels[:COUNT].numpy(), PIXELS[first])


def test_a_dictionary_that_python_3_pickled_with_bytes_is_read_too(tmp_path):
    folder = write_python(tmp_path)
    for file in FILES:
        content = {b"data": PIXELS[file].reshape(COUNT, -1), b"labels": LABELS[file]}
        (folder / file).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [name.encode() for name in NAMES]}))
    loaded = load_images(f"{folder}:test")
    np.testing.assert_array_equal(loaded.pixels.numpy(), PIXELS["test_batch"])
    assert loaded.class_names == NAMES


@WRITERS
def test_a_description_has_the_files_and_their_size(tmp_path, write):
    folder = write(tmp_path)
    assert find_images(str(folder)).describe().startswith("CIFAR-10, ")
    assert f"5 file(s), 0.1 MB: {folder}/data_batch_1" in find_images(str(folder)).describe()


@WRITERS
@pytest.mark.parametrize("file", ["data_batch_3", "batches.meta"])
def test_a_missing_file_is_named_before_anything_is_read(tmp_path, write, file):
    (missing,) = write(tmp_path).glob(f"{file}*")
    missing.unlink()
    with pytest.raises(UserError, match=f"{missing} is missing; unpack the archive"):
        find_images(str(tmp_path)).describe()


@WRITERS
def test_there_is_no_validation_split(tmp_path, write):
    with pytest.raises(UserError, match=f"no split 'validation'; name one that it has, as in {tmp_path}:train"):
        write(tmp_path), load_images(f"{tmp_path}:validation")


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: b""])
def test_binary_files_of_another_length_are_refused(tmp_path, change):
    file = write_binary(tmp_path) / "data_batch_2.bin"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(UserError, match=f"{file} has .* bytes, no multiple of 3073"):
        load_images(str(tmp_path))


def test_a_label_that_is_no_class_is_reported_by_file_and_image(tmp_path):
    file = write_binary(tmp_path) / "data_batch_2.bin"
    content = bytearray(file.read_bytes())
    content[2 * 3073] = 10
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"data_batch_2\.bin: image 2 \(from 0\) has label 10.*10 classes; 1 images"):
        load_images(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "has no list of integers, labels"),
        ({"data": [1]}, "has no list of integers, labels"),
        ({"data": np.zeros((2, 3072), np.uint8)}, "has no list of integers, labels"),
        ({"data": np.zeros((2, 3072)), "labels": [0, 1]}, r"has no uint8 array of \(2, 3072\) pixels, data"),
        ({"data": [1], "labels": [0, 1]}, r"has no uint8 array of \(2, 3072\) pixels, data"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, r"has no uint8 array of \(1, 3072\) pixels, data"),
        ({"data": np.zeros((2, 1024), np.uint8), "labels": [0, 1]}, r"has no uint8 array of \(2, 3072\) pixels"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": ["0", "1"]}, "has no list of integers, labels"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, -1]}, r"image 1 \(from 0\) has label -1"),
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path, content, words):
    file = write_python(tmp_path) / "data_batch_4"
    file.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=f"data_batch_4.*{words}"):
        load_images(str(tmp_path))
