"""Training of classifiers, its presets, and its augmentations."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from recipes import changed
from sklearn.metrics import accuracy_score

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.classifiers.trainable import (
    ClassifierConfig,
    ResidualConfig,
    SmallCnn,
    SmallCnnConfig,
    TrainableClassifier,
)
from sfd_sweep.teachers.classifier_training import (
    NETWORKS,
    PRESETS,
    ClassifierTraining,
    mirrored,
    shifted,
    train_classifier,
)

NAMES = tuple("0123456789")
SMALL = SmallCnnConfig(image_size=8, channels=1, widths=(8, 16, 16), features=16, class_names=NAMES)
RESIDUAL = ResidualConfig(
    image_size=8, channels=1, class_names=NAMES, stem="small", widths=(4, 8), blocks=(1, 1), mean=(0.5,), std=(0.5,)
)
SHORT = changed(PRESETS["digits"], {"epochs": 3})
AUGMENTED = changed(SHORT, {"optimizer": "sgd", "lr": 0.1, "shift": 1 / 8, "mirror": True, "noise": 0.0})


@pytest.fixture(name="digits", scope="module")
def _digits() -> LabeledImages:
    return load_images("builtin:digits")


@pytest.fixture(name="classifier")
def _classifier() -> SmallCnn:
    loaded = load_classifier("builtin:digits")
    assert isinstance(loaded, SmallCnn)
    return loaded


def train(images: LabeledImages, seed: int, recipe: ClassifierTraining = SHORT) -> TrainableClassifier:
    return train_classifier(images, SMALL, changed(recipe, {"seed": seed}))


@pytest.mark.parametrize(("network", "recipe"), [(SMALL, SHORT), (RESIDUAL, AUGMENTED)], ids=["cnn", "resnet"])
def test_the_same_seed_trains_the_same_classifier_and_another_seed_another(
    digits: LabeledImages, network: ClassifierConfig, recipe: ClassifierTraining
) -> None:
    first, again, other = (train_classifier(digits, network, changed(recipe, {"seed": seed})) for seed in (0, 0, 1))
    assert first.content_hash() == again.content_hash()
    assert first.content_hash() != other.content_hash()


def test_training_leaves_the_global_random_state_as_it_was(digits: LabeledImages) -> None:
    before = torch.get_rng_state()
    train(digits, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_trained_classifier_measures_the_same_after_saving(digits: LabeledImages, tmp_path: Path) -> None:
    trained = train(digits, seed=5)
    trained.save(tmp_path)
    loaded = load_classifier(tmp_path)
    assert isinstance(loaded, SmallCnn)
    _, held_out = digits.split(SHORT.held_out, seed=5)
    assert accuracy_score(held_out.labels, loaded(held_out.images).argmax(1)) == pytest.approx(
        trained.config.held_out_accuracy, abs=1e-6
    )
    assert loaded.config.held_out_accuracy == pytest.approx(trained.config.held_out_accuracy, abs=1e-6)
    assert loaded.content_hash() == trained.content_hash()
    assert not loaded.training


def test_held_out_images_do_not_touch_the_weights(digits: LabeledImages) -> None:
    _, held_out = digits.split(SHORT.held_out, seed=0)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    spoilt = digits.labels.clone()
    spoilt[order[-len(held_out) :]] = 0
    plain = train(digits, seed=0)
    with_spoilt = train(LabeledImages(digits.pixels, spoilt, digits.class_names, digits.levels), seed=0)
    assert plain.content_hash() == with_spoilt.content_hash()
    assert with_spoilt.config.held_out_accuracy < 0.5 < plain.config.held_out_accuracy


def test_every_epoch_is_reported_and_the_loss_falls(digits: LabeledImages) -> None:
    told: list[tuple[int, float]] = []
    train_classifier(digits, SMALL, SHORT, progress=lambda epoch, loss: told.append((epoch, loss)))
    assert [epoch for epoch, _ in told] == [1, 2, 3]
    assert told[-1][1] < told[0][1]


def test_a_network_can_start_from_given_weights(digits: LabeledImages) -> None:
    recipe = changed(SHORT, {"epochs": 1, "lr": 1e-9, "weight_decay": 0.0})
    given = torch.full((10,), 3.0)
    trained = train_classifier(digits, SMALL, recipe, start={"head.bias": given})
    assert torch.allclose(trained.head.bias, given, atol=1e-3)


def test_a_last_batch_of_one_image_is_left_out(digits: LabeledImages) -> None:
    """Batch normalization of a single value has no variance."""
    some = digits.take(torch.arange(14))
    recipe = changed(AUGMENTED, {"batch_size": 4, "held_out": 1 / 14})
    flat = RESIDUAL.model_copy(update={"widths": (4, 4, 4, 4), "blocks": (1, 1, 1, 1)})
    assert train_classifier(some, flat, recipe).config.held_out_accuracy in (0, 1)


def test_a_training_that_diverges_is_no_classifier(digits: LabeledImages) -> None:
    with pytest.raises(UserError, match="diverged.*lower learning rate"):
        train(digits, seed=0, recipe=changed(AUGMENTED, {"lr": 1e30}))


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_are_refused(digits: LabeledImages, count: int) -> None:
    with pytest.raises(UserError, match=f"{count} images are too few"):
        train(digits.take(torch.arange(count)), seed=0)


@pytest.mark.slow
def test_the_default_recipe_trains_the_shipped_classifiers_quality(digits: LabeledImages, classifier: SmallCnn) -> None:
    preset = PRESETS["digits"]
    trained = train_classifier(digits, preset.network_for(digits), preset)
    shipped = classifier.config.held_out_accuracy
    assert shipped is not None
    assert trained.config.held_out_accuracy >= shipped - 0.005


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
    assert ClassifierTraining.preset_for(shape, gpu=gpu).network == name


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
def test_what_a_preset_trains_classifies_the_same_after_saving(
    name: str, shape: tuple[int, int, int], tmp_path: Path
) -> None:
    images = drawn(shape, count=6)
    recipe = changed(ClassifierTraining.preset_for(shape, name=name), {"epochs": 1, "batch_size": 4})
    trained = train_classifier(images, recipe.network_for(images), recipe)
    trained.save(tmp_path)
    loaded = load_classifier(tmp_path)
    loaded.check_images(images.class_names, shape)
    assert torch.equal(loaded(images.images), trained(images.images))
    assert loaded.content_hash() == trained.content_hash()


def test_the_small_preset_learns_within_seconds_what_is_easy() -> None:
    images = drawn((3, 16, 16), count=100)
    recipe = changed(PRESETS["cifar-resnet-small"], {"epochs": 4, "batch_size": 16})
    assert train_classifier(images, recipe.network_for(images), recipe).config.held_out_accuracy == 1


def test_the_digits_preset_is_the_shipped_classifiers_shape(classifier: SmallCnn, digits: LabeledImages) -> None:
    config = PRESETS["digits"].network_for(digits)
    assert config == classifier.config.model_copy(update={"held_out_accuracy": None})


def test_photographs_are_mirrored_and_gray_images_and_digits_are_not() -> None:
    assert ClassifierTraining.preset_for((3, 32, 32), name="cifar-resnet").mirror
    assert not ClassifierTraining.preset_for((1, 32, 32), name="cifar-resnet").mirror
    assert not ClassifierTraining.preset_for((3, 32, 32), name="digits").mirror


def test_every_network_has_a_preset_of_its_name() -> None:
    assert {name: preset.network for name, preset in PRESETS.items()} == {name: name for name in NETWORKS}


def test_an_unknown_preset_and_weights_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UserError, match="--preset cifar-resnte: unknown preset; did you mean cifar-resnet"):
        ClassifierTraining.preset_for((3, 32, 32), name="cifar-resnte")
    with pytest.raises(UserError, match="digits has no ImageNet weights"):
        changed(PRESETS["digits"], {"pretrained": True})


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
