import numpy as np
import pytest
import torch

from sfd_sweep.datasets.images import LabeledImages, quantize

PIXELS = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)


@pytest.fixture
def images() -> LabeledImages:
    pixels = torch.arange(90, dtype=torch.uint8).view(90, 1, 1, 1).expand(90, 1, 2, 2)
    return LabeledImages(pixels, torch.arange(90) % 3, ("a", "b", "c"))


def test_the_images_of_some_classes_are_those_with_their_labels(images: LabeledImages) -> None:
    part = images.of_classes([2, 0])
    assert part.labels.tolist() == [0, 2] * 30
    assert part.images[:, 0, 0, 0].tolist() == images.images[images.labels != 1][:, 0, 0, 0].tolist()
    assert part.class_names == images.class_names


def test_a_split_has_every_image_once_and_is_the_same_for_the_same_seed(images: LabeledImages) -> None:
    training, held_out = images.split(1 / 3, seed=0)
    assert (len(training), len(held_out)) == (60, 30)
    pixels = torch.cat([training.images, held_out.images])[:, 0, 0, 0]
    assert sorted(pixels.tolist()) == images.images[:, 0, 0, 0].tolist()
    assert torch.equal(images.split(1 / 3, seed=0)[1].images, held_out.images)
    assert not torch.equal(images.split(1 / 3, seed=1)[1].images, held_out.images)


@pytest.mark.parametrize(
    ("pixels", "labels"),
    [
        (PIXELS, torch.zeros(2, dtype=torch.int64)),
        (PIXELS[:, 0], torch.zeros(3, dtype=torch.int64)),
        (PIXELS.float(), torch.zeros(3, dtype=torch.int64)),
        (PIXELS, torch.zeros(3)),
    ],
    ids=["counts", "dimensions", "image type", "label type"],
)
def test_images_that_do_not_go_with_their_labels_are_refused(pixels: torch.Tensor, labels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="labels"):
        LabeledImages(pixels, labels, ("a",))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_quantized_values_are_the_nearest_of_evenly_spaced_levels(levels: int) -> None:
    values = torch.rand(2000, generator=torch.Generator().manual_seed(0)) * 3 - 1.5
    grid = np.linspace(-1, 1, levels)
    nearest = grid[np.abs(values.double().numpy()[:, None] - grid).argmin(1)]
    np.testing.assert_allclose(quantize(values, levels).numpy(), nearest, atol=1e-6)


def test_eight_bit_images_stay_what_they_are() -> None:
    pixels = torch.arange(256) / 127.5 - 1
    torch.testing.assert_close(quantize(pixels, 256), pixels, atol=2e-7, rtol=0)


def test_a_class_without_an_image_is_absent_and_keeps_its_name(images: LabeledImages) -> None:
    assert images.absent == ()
    part = images.without([0, 2])
    assert part.absent == (0, 2)
    assert torch.equal(part.images, images.images[images.labels == 1])
    assert part.class_names == images.class_names
    assert torch.equal(images.without([]).images, images.images)
