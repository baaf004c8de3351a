import io

import numpy as np
import torch
from PIL import Image

from sfd_sweep.evaluation.sample_grid import MARK, GridRow, sample_grid, shrunk


def _picture(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def _contains(picture: np.ndarray, part: np.ndarray) -> bool:
    height, width = part.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(picture, (height, width, 3))[:, :, 0]
    return bool((windows == part).all((2, 3, 4)).any())


def test_every_image_stands_in_the_picture_enlarged_without_blur() -> None:
    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    picture = _picture(sample_grid([GridRow("a", images[:2]), GridRow("b", images[2:])], scale=3))
    for image in images:
        gray = ((image[0].numpy() + 1) * 127.5).round().astype(np.uint8)
        assert _contains(picture, np.repeat(np.kron(gray, np.ones((3, 3), np.uint8))[..., None], 3, axis=2))


def test_colors_stay_and_values_beyond_the_range_are_clamped() -> None:
    image = torch.tensor([2.0, -1.0, 0.0]).view(1, 3, 1, 1)
    assert _contains(_picture(sample_grid([GridRow("", image)], scale=2)), np.full((2, 2, 3), (255, 0, 128), np.uint8))


def test_only_marked_rows_are_red() -> None:
    images = torch.zeros(2, 1, 4, 4)
    plain = _picture(sample_grid([GridRow("a", images), GridRow("b", images)], scale=2))
    marked = _picture(sample_grid([GridRow("a", images, marked=True), GridRow("b", images)], scale=2))
    assert not (plain == MARK).all(2).any()
    red_rows = (marked == MARK).all(2).any(1)
    assert red_rows[: len(red_rows) // 2].any()
    assert not red_rows[len(red_rows) // 2 + 2 :].any()


def test_the_same_rows_give_the_same_bytes() -> None:
    rows = [GridRow("a", torch.zeros(2, 1, 4, 4), marked=True), GridRow("longer", torch.ones(5, 1, 4, 4))]
    assert sample_grid(rows, scale=2) == sample_grid(rows, scale=2)


def test_a_large_image_is_averaged_and_a_small_one_stays() -> None:
    images = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert shrunk(images, 64) is images
    found = shrunk(images, 16)
    assert found.shape == (2, 3, 16, 8)
    stripes = torch.tensor([-1.0, 1.0]).repeat(32).expand(1, 1, 64, 64)  # without averaging, all black or all white
    assert shrunk(stripes, 16).abs().max() < 0.3
    torch.testing.assert_close(shrunk(torch.full((1, 1, 64, 64), 3.0), 16), torch.ones(1, 1, 16, 16))
