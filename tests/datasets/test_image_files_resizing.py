"""Images are scaled as torchvision scales them."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from sfd_sweep.datasets.image_files import fit, fit_image

PHOTOGRAPH = Image.fromarray(load_sample_images().images[0])


def torchvision_fit(image: Image.Image, size: int) -> np.ndarray:
    return np.asarray(Compose([Resize(size, InterpolationMode.BICUBIC), CenterCrop(size)])(image))


@pytest.mark.parametrize("size", [8, 64, 96, 130])
def test_a_square_image_is_scaled_exactly_as_torchvision_scales_it(size: int) -> None:
    square = PHOTOGRAPH.crop((100, 100, 196, 196))
    np.testing.assert_array_equal(np.asarray(fit_image(square, size)), torchvision_fit(square, size))


@pytest.mark.parametrize("box", [(0, 0, 192, 96), (0, 0, 96, 288), (300, 100, 492, 196)])
def test_the_middle_of_an_oblong_image_is_taken(box: tuple[int, int, int, int]) -> None:
    image = PHOTOGRAPH.crop(box)  # of sides that scale to whole numbers, as torchvision rounds the longer one down
    np.testing.assert_array_equal(np.asarray(fit_image(image, 32)), torchvision_fit(image, 32))


def test_many_images_are_scaled_each_as_one_alone() -> None:
    squares = [PHOTOGRAPH.crop((x, 0, x + 20, 20)) for x in (0, 50, 90)]
    pixels = np.stack([np.asarray(square).transpose(2, 0, 1) for square in squares])
    expected = np.stack([np.asarray(fit_image(square, 9)).transpose(2, 0, 1) for square in squares])
    np.testing.assert_array_equal(fit(pixels, 9), expected)


@pytest.mark.parametrize("size", [20, None])
def test_images_of_the_size_already_are_left_alone(size: int | None) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 20, 20), np.uint8)
    assert fit(pixels, size) is pixels
