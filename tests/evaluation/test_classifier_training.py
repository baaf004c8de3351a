from pathlib import Path

import pytest
import torch
from sklearn.metrics import accuracy_score

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.evaluation.classifier import Classifier
from sfd_sweep.evaluation.training import TrainingRecipe, train_classifier

SHORT = TrainingRecipe(widths=(8, 16, 16), features=16, epochs=3)


def test_the_same_seed_trains_the_same_classifier_and_another_seed_another(digits: LabeledImages) -> None:
    first, again, other = (train_classifier(digits, seed=seed, recipe=SHORT) for seed in (0, 0, 1))
    assert first.classifier.content_hash() == again.classifier.content_hash()
    assert first.classifier.content_hash() != other.classifier.content_hash()


def test_training_leaves_the_global_random_state_as_it_was(digits: LabeledImages) -> None:
    before = torch.get_rng_state()
    train_classifier(digits, seed=0, recipe=SHORT)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_trained_classifier_measures_the_same_after_saving(digits: LabeledImages, tmp_path: Path) -> None:
    trained = train_classifier(digits, seed=5, recipe=SHORT)
    trained.classifier.save(tmp_path)
    loaded = Classifier.load(tmp_path)
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
    plain = train_classifier(digits, seed=0, recipe=SHORT)
    with_spoilt = train_classifier(
        LabeledImages(digits.pixels, spoilt, digits.class_names, digits.levels), seed=0, recipe=SHORT
    )
    assert plain.classifier.content_hash() == with_spoilt.classifier.content_hash()
    assert with_spoilt.held_out_accuracy < 0.5 < plain.held_out_accuracy


def test_every_epoch_is_told_and_the_loss_falls(digits: LabeledImages) -> None:
    told: list[tuple[int, float]] = []
    train_classifier(digits, seed=0, recipe=SHORT, progress=lambda epoch, loss: told.append((epoch, loss)))
    assert [epoch for epoch, _ in told] == [1, 2, 3]
    assert told[-1][1] < told[0][1]


@pytest.mark.slow
def test_the_default_recipe_trains_the_shipped_classifiers_quality(
    digits: LabeledImages, classifier: Classifier
) -> None:
    trained = train_classifier(digits, seed=0)
    shipped = classifier.config.held_out_accuracy
    assert shipped is not None
    assert trained.held_out_accuracy >= shipped - 0.005
