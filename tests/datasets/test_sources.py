from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import encode, write_parquet
from sklearn.datasets import load_digits

from sfd_sweep.datasets.images import quantize
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.errors import UserError


def test_the_digits_are_scikit_learns_scaled_to_one() -> None:
    digits, original = load_images("builtin:digits"), load_digits()
    assert digits.images.shape == (1797, 1, 8, 8)
    np.testing.assert_array_equal((digits.images[:, 0].numpy() + 1) * 8, original.images)
    np.testing.assert_array_equal(digits.labels.numpy(), original.target)
    assert digits.class_names == tuple("0123456789")


def test_the_digits_have_the_levels_that_they_say() -> None:
    digits = load_images("builtin:digits")
    assert len(digits.images.unique()) == digits.levels
    assert torch.equal(quantize(digits.images, digits.levels), digits.images)


def test_an_unknown_source_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="'builtin:letters'; give one of: builtin:digits"):
        load_images("builtin:letters")


def test_the_digits_are_scaled_within_their_levels() -> None:
    digits = load_images("builtin:digits", size=16)
    assert digits.image_shape == (1, 16, 16)
    assert (digits.pixels.max(), digits.levels) == (16, 17)


def test_the_digits_are_renumbered_by_name() -> None:
    order = tuple("9876543210")
    digits = load_images("builtin:digits", class_names=order)
    np.testing.assert_array_equal(digits.labels.numpy(), 9 - load_digits().target)
    assert digits.class_names == order


def test_images_without_names_take_those_of_a_model(tmp_path: Path) -> None:
    images = [encode(np.zeros((2, 2, 3), np.uint8), "PNG")] * 2
    file = write_parquet(tmp_path / "a.parquet", images, [1, 0])
    assert load_images(str(file), class_names=("ant", "bee", "cow")).class_names == ("ant", "bee", "cow")
    with pytest.raises(UserError, match="1 of 2 labels name no class"):
        load_images(str(file), class_names=("ant",))
