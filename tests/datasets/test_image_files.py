"""Image files in folders named after their classes, against torchvision's reader."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from sfd_sweep.datasets.finding import find_images
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.errors import UserError


def write(file: Path, *, size: tuple[int, int] = (5, 4), mode: str = "RGB") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(list(file.name.encode())).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(values).convert(mode).save(file)
    return file


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Path:
    for name in ("emu/1.png", "emu/2.bmp", "ant/b.PNG", "ant/a.webp", "cow/c.jpg", "cow/d.jpeg"):
        write(tmp_path / "root" / name)
    return tmp_path / "root"


def test_images_labels_and_names_are_those_that_torchvision_reads(root):
    loaded, expected = load_images(str(root)), ImageFolder(root, transform=pil_to_tensor)
    assert torch.equal(loaded.pixels, torch.stack([image for image, _ in expected]))
    assert loaded.labels.tolist() == expected.targets == [0, 0, 1, 1, 2, 2]
    assert loaded.class_names == tuple(expected.classes) == ("ant", "cow", "emu")


def test_other_files_and_hidden_ones_are_no_images(root):
    (root / "ant" / "notes.txt").write_text("x")
    (root / "ant" / "._a.png").write_text("x")
    (root / ".cache").mkdir()
    write(root / ".cache" / "a.png")
    (root / "README.md").write_text("x")
    (root / "empty").mkdir()
    assert load_images(str(root)).class_names == ("ant", "cow", "emu")
    assert len(load_images(str(root))) == 6


def test_grayscale_images_keep_one_channel(tmp_path):
    for name in ("a/1.png", "b/1.png"):
        write(tmp_path / name, mode="L")
    assert load_images(str(tmp_path)).image_shape == (1, 4, 5)
    write(tmp_path / "b/2.png")
    assert load_images(str(tmp_path)).image_shape == (3, 4, 5)


@pytest.mark.parametrize(
    ("split", "labels"),
    [("", [0, 2]), (":train", [0, 2]), (":test", [1]), (":validation", [2]), (":all", [1, 0, 2, 2])],
)
def test_splits_are_folders_and_share_one_numbering_of_classes(tmp_path, split, labels):
    for name in ("train/ant/1.png", "train/emu/1.png", "test/cow/1.png", "val/emu/2.png"):
        write(tmp_path / name)
    loaded = load_images(f"{tmp_path}{split}")
    assert loaded.class_names == ("ant", "cow", "emu")
    assert loaded.labels.tolist() == labels


def test_a_class_may_be_called_as_a_split(tmp_path):
    for name in ("train/1.png", "ship/1.png"):
        write(tmp_path / name)
    assert load_images(str(tmp_path)).class_names == ("ship", "train")


def test_a_split_of_a_folder_without_any_is_refused(root):
    with pytest.raises(UserError, match="no folders train and test, so no split 'test'; leave out :test"):
        load_images(f"{root}:test")


def test_an_image_of_another_size_is_named_and_a_given_size_takes_it(root):
    odd = write(root / "cow" / "e.png", size=(6, 4))
    with pytest.raises(UserError, match=f"{odd} is an image of 6×4 pixels, and the first has 5×4; 1 of 7 images"):
        load_images(str(root))
    assert load_images(str(root), size=4).pixels.shape == (7, 3, 4, 4)


def test_files_that_are_no_images_are_named_and_counted(root):
    for name in ("cow/c.jpg", "emu/1.png"):
        (root / name).write_text("nothing")
    with pytest.raises(UserError, match=r"root/cow/c\.jpg is no whole PNG.*2 of 6 images"):
        load_images(str(root))


def test_a_description_has_the_files_and_their_size(root):
    assert find_images(str(root)).describe() == f"image files of 3 classes, 6 file(s), 0.0 MB: {root}/ant/a.webp, …"
