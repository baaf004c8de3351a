"""Pictures of every kind become one array: grayscale where all are, RGB otherwise."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from sfd_sweep.datasets.image_files import decode

COLORED = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8))
GRAY = COLORED.convert("L")


def png(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    content = BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def test_grayscale_images_keep_one_channel() -> None:
    transparent = Image.merge("LA", (GRAY, GRAY))
    pixels, faults = decode([png(GRAY), png(transparent), png(GRAY.convert("1"))], 3)
    assert not faults
    assert pixels.shape == (3, 1, 4, 6)
    np.testing.assert_array_equal(pixels[:2, 0], [np.asarray(GRAY)] * 2)
    assert set(np.unique(pixels[2])) <= {0, 255}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_one_colored_image_makes_all_rgb(order: tuple[int, int]) -> None:
    images = [GRAY, COLORED]
    pixels, _ = decode([png(images[index]) for index in order], 2)
    expected = [np.asarray(images[index].convert("RGB")).transpose(2, 0, 1) for index in order]
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("mode", ["P", "RGBA", "PA", "CMYK"])
def test_other_kinds_of_images_become_rgb(mode: str) -> None:
    palette = COLORED.quantize(256)
    image = palette.convert("RGB")
    translucent = image.convert("RGBA")
    translucent.putalpha(GRAY)
    kinds = {"P": palette, "RGBA": translucent, "PA": translucent.quantize(256), "CMYK": image.convert("CMYK")}
    stored = kinds[mode]
    form = "JPEG" if mode == "CMYK" else "PNG"
    pixels, faults = decode([png(stored, form)], 1)
    assert not faults
    assert pixels.shape == (1, 3, 4, 6)
    if mode in ("P", "RGBA"):
        np.testing.assert_array_equal(pixels[0].transpose(1, 2, 0), np.asarray(image))


@pytest.mark.parametrize("form", ["PNG", "BMP", "WEBP"])
def test_lossless_formats_give_back_the_pixels(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    pixels, _ = decode([png(COLORED, form, **options)], 1)
    np.testing.assert_array_equal(pixels[0].transpose(1, 2, 0), np.asarray(COLORED))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 63, 64, 65, 700])
def test_images_keep_their_order_whatever_the_threads(count: int, threads: int) -> None:
    values = np.random.default_rng(count).integers(0, 256, (count, 1, 3), np.uint8)
    images = (png(Image.fromarray(value)) for value in values)
    pixels, faults = decode(images, count, threads=threads)
    assert not faults
    np.testing.assert_array_equal(pixels[:, 0], values)


def test_an_image_of_sixteen_bits_is_a_fault() -> None:
    deep = Image.fromarray(np.full((4, 6), 40_000, np.uint16))
    assert decode([png(GRAY), png(deep)], 2)[1] == [(1, "has more than 8 bits a channel")]


def test_a_format_that_is_not_of_the_web_is_a_fault() -> None:
    ((row, what),) = decode([png(GRAY, "TIFF")], 1)[1]
    assert (row, what) == (0, "is no whole PNG, JPEG, WEBP or BMP image")


def test_an_image_that_claims_to_be_huge_is_a_fault() -> None:
    content = bytearray(png(COLORED, "BMP"))
    content[18:26] = (30_000).to_bytes(4, "little") * 2
    assert [row for row, _ in decode([bytes(content)], 1)[1]] == [0]


def test_a_fault_moves_no_other_image() -> None:
    pixels, faults = decode([None, png(COLORED), b"x", png(COLORED)], 4)
    assert [row for row, _ in faults] == [0, 2]
    assert not pixels[[0, 2]].any()
    np.testing.assert_array_equal(pixels[[1, 3]].transpose(0, 2, 3, 1), [np.asarray(COLORED)] * 2)


def test_a_file_that_cannot_be_opened_is_a_fault(tmp_path: Path) -> None:
    assert [row for row, _ in decode([tmp_path / "missing.png"], 1)[1]] == [0]


def test_a_photograph_taken_sideways_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is at the right
    content = png(COLORED, exif=exif)
    with Image.open(BytesIO(content)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image)).transpose(2, 0, 1)
    pixels, _ = decode([content], 1)
    assert pixels.shape == (1, 3, 6, 4)
    np.testing.assert_array_equal(pixels[0], expected)


def test_with_a_size_images_may_differ_in_theirs() -> None:
    pixels, faults = decode([png(COLORED), png(COLORED.resize((9, 20))), png(GRAY.resize((3, 3)))], 3, size=3)
    assert not faults
    assert pixels.shape == (3, 3, 3, 3)
    np.testing.assert_array_equal(pixels[2, 0], np.asarray(GRAY.resize((3, 3))))
