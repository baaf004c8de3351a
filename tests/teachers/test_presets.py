"""Presets: what is chosen for which images, and that each trains what loads again."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.classifiers.small_cnn import SmallCnn
from sfd_sweep.teachers.classifier_presets import PRESETS, default_preset
from sfd_sweep.teachers.classifier_training import train_classifier


def drawn(shape: tuple[int, int, int], *, classes: int = 2, count: int = 12) -> LabeledImages:
    """Images of noise, those of class 0 dark and the others brighter."""
    labels = torch.arange(count) % classes
    noise = torch.randint(60, (count, *shape), generator=torch.Generator().manual_seed(0))
    pixels = (noise + 190 * labels.view(-1, 1, 1, 1) // max(1, classes - 1)).to(torch.uint8)
    return LabeledImages(pixels, labels, tuple(f"class {index}" for index in range(classes)))


@pytest.mark.parametrize(
    ("shape", "gpu", "name"),
    [
        ((1, 8, 8), True, "digits"),
        ((1, 16, 16), False, "digits"),
        ((1, 28, 28), True, "cifar-resnet"),
        ((3, 32, 32), True, "cifar-resnet"),
        ((3, 32, 32), False, "cifar-resnet-small"),
        ((3, 64, 64), True, "cifar-resnet"),
        ((3, 96, 96), False, "resnet34-224"),
        ((3, 256, 256), True, "resnet34-224"),
    ],
)
def test_the_default_preset_goes_by_the_size_of_the_images(shape: tuple[int, int, int], gpu: bool, name: str) -> None:
    assert default_preset(shape, gpu=gpu) == name


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("digits", (1, 8, 8)),
        ("cifar-resnet-small", (3, 32, 32)),
        ("cifar-resnet-small", (1, 28, 28)),
        ("cifar-resnet", (3, 16, 16)),
        ("resnet34-224", (3, 20, 20)),
    ],
)
def test_what_a_preset_trains_judges_the_same_after_saving(
    name: str, shape: tuple[int, int, int], tmp_path: Path
) -> None:
    images, preset = drawn(shape, count=6), PRESETS[name]
    recipe = replace(preset.recipe_for(images), epochs=1, batch_size=4)
    trained = train_classifier(images, preset.network_for(images), recipe, seed=0).classifier
    trained.save(tmp_path)
    loaded = load_classifier(tmp_path)
    loaded.check_images(images.class_names, shape)
    assert torch.equal(loaded(images.images), trained(images.images))
    assert loaded.content_hash() == trained.content_hash()


def test_the_small_preset_learns_within_seconds_what_is_easy() -> None:
    images, preset = drawn((3, 16, 16), count=100), PRESETS["cifar-resnet-small"]
    recipe = replace(preset.recipe_for(images), epochs=4, batch_size=16)
    assert train_classifier(images, preset.network_for(images), recipe, seed=0).held_out_accuracy == 1


def test_the_digits_preset_is_the_shipped_classifiers_shape(classifier: SmallCnn, digits: LabeledImages) -> None:
    config = PRESETS["digits"].network_for(digits)
    assert config == classifier.config.model_copy(update={"held_out_accuracy": None})


def test_photographs_are_mirrored_and_grey_images_and_digits_are_not() -> None:
    photographs, grey = drawn((3, 32, 32)), drawn((1, 32, 32))
    assert PRESETS["cifar-resnet"].recipe_for(photographs).mirror
    assert not PRESETS["cifar-resnet"].recipe_for(grey).mirror
    assert not PRESETS["digits"].recipe_for(photographs).mirror


@pytest.mark.parametrize(
    ("name", "images", "words"),
    [
        ("digits", drawn((1, 10, 10)), r"1×10×10 of 2 classes \(image_size \(10\) cannot be halved 2 times\)"),
        ("digits", drawn((1, 8, 12)), "the images are 8×12 pixels"),
        ("cifar-resnet", drawn((3, 32, 31)), "the images are 32×31 pixels"),
        ("cifar-resnet", drawn((3, 32, 32), classes=1), "of 1 classes"),
    ],
)
def test_images_for_which_a_preset_has_no_network_are_refused(name: str, images: LabeledImages, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        PRESETS[name].network_for(images)
    assert "\n" not in str(caught.value)
