from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.metrics import accuracy_score

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.classifiers.residual import ResidualConfig
from sfd_sweep.evaluation.classifiers.small_cnn import SmallCnn, SmallCnnConfig
from sfd_sweep.evaluation.classifiers.trainable import ClassifierConfig
from sfd_sweep.teachers.classifier_presets import PRESETS
from sfd_sweep.teachers.classifier_training import TrainedClassifier, TrainingRecipe, train_classifier

NAMES = tuple("0123456789")
SMALL = SmallCnnConfig(image_size=8, channels=1, widths=(8, 16, 16), features=16, class_names=NAMES)
RESIDUAL = ResidualConfig(
    image_size=8, channels=1, class_names=NAMES, stem="small", widths=(4, 8), blocks=(1, 1), mean=(0.5,), std=(0.5,)
)
SHORT = replace(PRESETS["digits"].recipe, epochs=3)
AUGMENTED = replace(SHORT, optimizer="sgd", peak_lr=0.1, shift=1 / 8, mirror=True, noise=0.0)


def train(images: LabeledImages, seed: int, recipe: TrainingRecipe = SHORT) -> TrainedClassifier:
    return train_classifier(images, SMALL, recipe, seed=seed)


@pytest.mark.parametrize(("network", "recipe"), [(SMALL, SHORT), (RESIDUAL, AUGMENTED)], ids=["cnn", "resnet"])
def test_the_same_seed_trains_the_same_classifier_and_another_seed_another(
    digits: LabeledImages, network: ClassifierConfig, recipe: TrainingRecipe
) -> None:
    first, again, other = (train_classifier(digits, network, recipe, seed=seed) for seed in (0, 0, 1))
    assert first.classifier.content_hash() == again.classifier.content_hash()
    assert first.classifier.content_hash() != other.classifier.content_hash()


def test_training_leaves_the_global_random_state_as_it_was(digits: LabeledImages) -> None:
    before = torch.get_rng_state()
    train(digits, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_trained_classifier_measures_the_same_after_saving(digits: LabeledImages, tmp_path: Path) -> None:
    trained = train(digits, seed=5)
    trained.classifier.save(tmp_path)
    loaded = load_classifier(tmp_path)
    assert isinstance(loaded, SmallCnn)
    _, held_out = digits.split(SHORT.held_out, seed=5)
    assert accuracy_score(held_out.labels, loaded(held_out.images).argmax(1)) == pytest.approx(
        trained.held_out_accuracy
    )
    assert loaded.config.held_out_accuracy == pytest.approx(trained.held_out_accuracy, abs=1e-6)
    assert loaded.content_hash() == trained.classifier.content_hash()
    assert not loaded.training


def test_held_out_images_do_not_touch_the_weights(digits: LabeledImages) -> None:
    _, held_out = digits.split(SHORT.held_out, seed=0)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    spoilt = digits.labels.clone()
    spoilt[order[-len(held_out) :]] = 0
    plain = train(digits, seed=0)
    with_spoilt = train(LabeledImages(digits.pixels, spoilt, digits.class_names, digits.levels), seed=0)
    assert plain.classifier.content_hash() == with_spoilt.classifier.content_hash()
    assert with_spoilt.held_out_accuracy < 0.5 < plain.held_out_accuracy


def test_every_epoch_is_told_and_the_loss_falls(digits: LabeledImages) -> None:
    told: list[tuple[int, float]] = []
    train_classifier(digits, SMALL, SHORT, seed=0, progress=lambda epoch, loss: told.append((epoch, loss)))
    assert [epoch for epoch, _ in told] == [1, 2, 3]
    assert told[-1][1] < told[0][1]


def test_a_network_can_start_from_given_weights(digits: LabeledImages) -> None:
    recipe = replace(SHORT, epochs=1, peak_lr=1e-9, weight_decay=0.0)
    given = torch.full((10,), 3.0)
    trained = train_classifier(digits, SMALL, recipe, seed=0, start={"head.bias": given}).classifier
    assert torch.allclose(trained.head.bias, given, atol=1e-3)


def test_a_last_batch_of_one_image_is_left_out(digits: LabeledImages) -> None:
    """Batch normalisation of a single value has no variance."""
    some = digits.take(torch.arange(14))
    recipe = replace(AUGMENTED, batch_size=4, held_out=1 / 14)
    flat = RESIDUAL.model_copy(update={"widths": (4, 4, 4, 4), "blocks": (1, 1, 1, 1)})
    assert train_classifier(some, flat, recipe, seed=0).held_out_accuracy in (0, 1)


def test_a_training_that_diverges_is_no_classifier(digits: LabeledImages) -> None:
    with pytest.raises(UserError, match="diverged.*lower learning rate"):
        train(digits, seed=0, recipe=replace(AUGMENTED, peak_lr=1e30))


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_are_refused(digits: LabeledImages, count: int) -> None:
    with pytest.raises(UserError, match=f"{count} images are too few"):
        train(digits.take(torch.arange(count)), seed=0)


@pytest.mark.slow
def test_the_default_recipe_trains_the_shipped_classifiers_quality(digits: LabeledImages, classifier: SmallCnn) -> None:
    preset = PRESETS["digits"]
    trained = train_classifier(digits, preset.network_for(digits), preset.recipe_for(digits), seed=0)
    shipped = classifier.config.held_out_accuracy
    assert shipped is not None
    assert trained.held_out_accuracy >= shipped - 0.005
