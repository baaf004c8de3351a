import numpy as np
import pytest
import torch
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
