"""Images without labels, from files below a folder and from Parquet."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from photographs import IMAGE, encode
from PIL import Image
from pyarrow import parquet

from sfd_sweep.datasets.finding import find_unlabeled_images
from sfd_sweep.datasets.sources import load_unlabeled_images
from sfd_sweep.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8)
MIDDLE = (5, 0, 25, 20)
RESIZED = [Image.fromarray(image).resize((8, 8), Image.Resampling.BICUBIC, box=MIDDLE) for image in IMAGES]
SQUARES = torch.stack([torch.from_numpy(np.array(image).transpose(2, 0, 1)) for image in RESIZED])


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    for name, image in zip(("a.png", "b/c.png", "b/d/e.png"), IMAGES, strict=True):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "images" / name)
    (tmp_path / "images" / "notes.txt").write_text("x")
    return tmp_path / "images"


def write(file: Path, images: list[bytes | None]) -> Path:
    parquet.write_table(pa.table({"picture": pa.array([{"bytes": i, "path": None} for i in images], IMAGE)}), file)
    return file


def test_files_below_a_folder_are_the_middle_squares_that_pillow_makes(folder: Path) -> None:
    loaded = load_unlabeled_images(str(folder), size=8)
    assert torch.equal(loaded.pixels, SQUARES)
    assert (len(loaded), loaded.levels) == (3, 256)
    batches = list(loaded.batches(2))
    assert [len(batch) for batch in batches] == [2, 1]
    torch.testing.assert_close(torch.cat(batches), SQUARES.float() / 127.5 - 1)


def test_parquet_files_without_labels_give_their_images_in_order(tmp_path: Path) -> None:
    encoded = [encode(image, "PNG") for image in IMAGES]
    write(tmp_path / "1.parquet", encoded[:1])
    write(tmp_path / "2.parquet", encoded[1:])
    assert torch.equal(load_unlabeled_images(str(tmp_path), size=8).pixels, SQUARES)
    assert torch.equal(load_unlabeled_images(str(tmp_path / "2.parquet"), size=8).pixels, SQUARES[1:])


def test_a_broken_file_is_reported_by_its_path(folder: Path) -> None:
    (folder / "b" / "c.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"b/c\.png is no whole .*; 1 of 3 images cannot be used"):
        load_unlabeled_images(str(folder), size=8)


def test_a_broken_row_is_reported_by_its_file_and_number(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet", [encode(IMAGES[0], "PNG")])
    write(tmp_path / "2.parquet", [encode(IMAGES[1], "PNG"), None])
    with pytest.raises(UserError, match=r"2\.parquet: row 1 \(from 0\) holds no image; 1 of 3"):
        load_unlabeled_images(str(tmp_path), size=8)


def test_a_place_without_images_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="there are no images at"):
            load_unlabeled_images(str(place), size=8)


def test_a_description_has_the_files_and_their_size(folder: Path, tmp_path: Path) -> None:
    described = find_unlabeled_images(str(folder)).describe()
    assert described == f"image files without labels, 3 file(s), 0.0 MB: {folder}/a.png, …"
    file = write(tmp_path / "1.parquet", [encode(IMAGES[0], "PNG")])
    assert find_unlabeled_images(str(tmp_path)).describe() == f"Parquet without labels, 1 file(s), 0.0 MB: {file}"
