"""Random changes of images, against what they should be pixel by pixel."""

import pytest
import torch
import torch.nn.functional as F

from sfd_sweep.teachers.augmentation import mirrored, shifted


def test_every_shifted_image_is_a_window_of_the_reflected_one_and_all_moves_happen() -> None:
    images = torch.rand(400, 2, 8, 6)
    moved = shifted(images, 1 / 4)
    padded = F.pad(images, [2, 2, 2, 2], mode="reflect")
    seen = set()
    for image, around in zip(moved, padded, strict=True):
        places = [(r, c) for r in range(5) for c in range(5) if torch.equal(image, around[:, r : r + 8, c : c + 6])]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 25


def test_half_of_the_images_are_mirrored() -> None:
    images = torch.rand(1000, 1, 2, 3)
    changed = mirrored(images)
    kept = torch.tensor([torch.equal(before, after) for before, after in zip(images, changed, strict=True)])
    assert 400 < kept.sum() < 600
    assert torch.equal(changed[~kept], images[~kept].flip(3))


@pytest.mark.parametrize("share", [0.01, 1 / 8])
def test_small_images_are_moved_by_a_pixel_at_least(share: float) -> None:
    images = torch.arange(64.0).view(1, 1, 8, 8).expand(200, 1, 8, 8)
    corners = set(shifted(images, share)[:, 0, 4, 4].tolist())
    assert corners == {27.0, 28.0, 29.0, 35.0, 36.0, 37.0, 43.0, 44.0, 45.0}
