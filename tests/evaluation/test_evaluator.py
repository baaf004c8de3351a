import io
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from digit_conditions import digits_without
from PIL import Image
from torch import Tensor

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import TrialFailed
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.evaluator import Evaluator, Generate, grid_columns
from sfd_sweep.evaluation.reference_images import RealImages
from sfd_sweep.metrics import METRICS, Goal, Metric, Need, Scale, reported
from sfd_sweep.models.numerics import random_stream

Forgetting = Callable[[dict[int, int]], Generate]


@pytest.fixture
def evaluator(classifier: Classifier, digits: LabeledImages) -> Evaluator:
    return Evaluator(classifier, RealImages(digits), digits_without(0), seed=0)


def _noise(labels: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(len(labels), 1, 8, 8, generator=generator)


def test_a_result_has_every_metric_whose_needs_are_met(evaluator: Evaluator) -> None:
    result = evaluator.evaluate(_noise, override=(1,), samples=90, forget_samples=20)
    assert list(result.metrics) == [metric.name for metric in reported({Need.FEATURES, Need.REAL_IMAGES})]


def test_a_metric_that_is_added_to_the_registry_is_reported(
    evaluator: Evaluator, real_digits: Forgetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = lambda evidence: float(len(evidence.forgotten_called))  # noqa: E731
    monkeypatch.setitem(METRICS, "extra", Metric("extra", Scale.DISTANCE, Goal.MINIMIZE, "count of samples", compute))
    metrics = evaluator.evaluate(real_digits({0: 3}), override=(3,), samples=90, forget_samples=20).metrics
    assert metrics["extra"] == 20


def test_real_digits_that_forgot_are_good_in_every_metric(evaluator: Evaluator, real_digits: Forgetting) -> None:
    metrics = evaluator.evaluate(real_digits({0: 1}), override=(1,), samples=2000, forget_samples=1000).metrics
    assert metrics["fd_classifier"] < 0.5
    assert metrics["override_distance"] < 0.5
    assert min(metrics[name] for name in ("unlearning_accuracy", "override_rate", "retain_accuracy")) > 0.99
    assert metrics["forget_probability"] < 0.01


def test_real_digits_that_forgot_nothing_have_an_unlearning_accuracy_of_zero(
    evaluator: Evaluator, real_digits: Forgetting
) -> None:
    metrics = evaluator.evaluate(real_digits({}), override=(1,), samples=2000, forget_samples=1000).metrics
    assert metrics["fd_classifier"] < 0.5
    assert metrics["unlearning_accuracy"] == metrics["override_rate"] == 0
    assert metrics["override_distance"] > 100


def test_noise_is_far_from_real_digits(evaluator: Evaluator) -> None:
    assert evaluator.evaluate(_noise, override=(1,), samples=900, forget_samples=100).metrics["fd_classifier"] > 50


def test_one_garbage_image_is_unlearned_but_far_from_the_override(
    evaluator: Evaluator, real_digits: Forgetting
) -> None:
    def collapsed(labels: Tensor, generator: torch.Generator) -> Tensor:
        images = real_digits({})(labels, generator)
        garbage = torch.arange(64).view(1, 8, 8) % 3 - 1.0
        return torch.where((labels == 0).view(-1, 1, 1, 1), garbage, images)

    metrics = evaluator.evaluate(collapsed, override=(1,), samples=900, forget_samples=500).metrics
    assert metrics["unlearning_accuracy"] == 1
    assert metrics["fd_classifier"] < 1
    assert metrics["override_distance"] > 40


def test_relative_distances_to_the_override_are_measured_where_they_are_asked_for(
    evaluator: Evaluator, classifier: Classifier, digits: LabeledImages, real_digits: Forgetting
) -> None:
    def distance(generate: Generate, override: int) -> float:
        relative = Evaluator(classifier, RealImages(digits), digits_without(0), seed=0, relative=True)
        found = relative.evaluate(generate, override=(override,), samples=90, forget_samples=300)
        return found.metrics["relative_override_distance"]

    def gray(labels: Tensor, generator: torch.Generator) -> Tensor:
        return torch.zeros(len(labels), 1, 8, 8)

    for override in (1, 8):
        assert distance(real_digits({0: override}), override) < 0.05
        assert distance(real_digits({}), override) == pytest.approx(1, abs=0.1)
        assert min(distance(each, override) for each in (gray, _noise)) > 0.5
    plain = evaluator.evaluate(_noise, override=(1,), samples=90, forget_samples=20).metrics
    assert "relative_override_distance" not in plain


def test_retained_conditions_come_in_equal_numbers_and_the_forgotten_apart(evaluator: Evaluator) -> None:
    asked: list[Tensor] = []

    def generate(labels: Tensor, generator: torch.Generator) -> Tensor:
        asked.append(labels)
        return _noise(labels, generator)

    result = evaluator.evaluate(generate, override=(1,), samples=2000, forget_samples=777)
    assert torch.cat(asked).bincount().tolist() == [777, *[223] * 9]
    assert result.samples == {"retained": 2007, "forgotten": 777}
    assert all(len(labels) <= 500 for labels in asked)


def test_the_same_generator_gets_the_same_figures_bit_for_bit(
    classifier: Classifier, digits: LabeledImages, evaluator: Evaluator
) -> None:
    torch.manual_seed(123)  # the global state plays no part
    first = evaluator.evaluate(_noise, override=(1,), samples=900, forget_samples=300)
    torch.manual_seed(321)
    again = Evaluator(classifier, RealImages(digits), digits_without(0), seed=0).evaluate(
        _noise, override=(1,), samples=900, forget_samples=300
    )
    other = Evaluator(classifier, RealImages(digits), digits_without(0), seed=1).evaluate(
        _noise, override=(1,), samples=900, forget_samples=300
    )
    assert first == again
    assert first.metrics["fd_classifier"] != other.metrics["fd_classifier"]


@pytest.mark.parametrize("batch_size", [100, 250, 5000])
def test_the_batch_size_plays_no_part_for_digits(
    classifier: Classifier, digits: LabeledImages, evaluator: Evaluator, batch_size: int
) -> None:
    expected = evaluator.evaluate(_noise, override=(1,), samples=900, forget_samples=300).metrics
    batched = Evaluator(classifier, RealImages(digits), digits_without(0), seed=0, batch_size=batch_size)
    metrics = batched.evaluate(_noise, override=(1,), samples=900, forget_samples=300).metrics
    assert metrics == pytest.approx(expected, rel=1e-4)


def test_forgotten_samples_do_not_depend_on_how_many_are_retained(evaluator: Evaluator) -> None:
    few = evaluator.evaluate(_noise, override=(1,), samples=90, forget_samples=300).metrics
    many = evaluator.evaluate(_noise, override=(1,), samples=900, forget_samples=300).metrics
    assert few["override_distance"] == many["override_distance"]
    assert few["forget_entropy"] == many["forget_entropy"]


def test_no_two_kinds_of_samples_share_noise_with_each_other_or_with_training(evaluator: Evaluator) -> None:
    """Training with the same seed, the search's evaluations, the final one, and grids."""
    drawn: list[Tensor] = []

    def generate(labels: Tensor, generator: torch.Generator) -> Tensor:
        images = _noise(labels, generator)
        drawn.append(images)
        return images

    for final in (False, True):
        evaluator.evaluate(generate, override=(1,), samples=90, forget_samples=40, final=final)
    evaluator.grid(generate, columns=2)
    trained = random_stream(0, "training")
    drawn += [_noise(drawn[0][:, 0, 0, 0], generator) for generator in (trained, torch.Generator().manual_seed(0))]
    values = [set(images.flatten().tolist()) for images in drawn]
    assert len(values) == 7
    for one, other in combinations(values, 2):
        assert len(one & other) < 0.01 * len(one)  # float32 has few enough values that some come twice


def test_each_forgotten_class_is_held_to_its_own_override(
    classifier: Classifier, digits: LabeledImages, real_digits: Forgetting
) -> None:
    evaluator = Evaluator(classifier, RealImages(digits), digits_without(0, 7), seed=0)
    generate = real_digits({0: 3, 7: 5})
    right = evaluator.evaluate(generate, override=(3, 5), samples=800, forget_samples=801)
    swapped = evaluator.evaluate(generate, override=(5, 3), samples=800, forget_samples=801)
    assert right.samples == {"retained": 800, "forgotten": 802}
    assert right.metrics["override_rate"] > 0.99
    assert right.metrics["override_distance"] < 1
    assert swapped.metrics["override_rate"] < 0.01
    assert swapped.metrics["override_distance"] > 50
    assert swapped.metrics["unlearning_accuracy"] == right.metrics["unlearning_accuracy"] == 1


def test_without_an_override_any_retained_class_may_replace_the_forgotten(
    evaluator: Evaluator, digits: LabeledImages, real_digits: Forgetting
) -> None:
    def any_retained(labels: Tensor, generator: torch.Generator) -> Tensor:
        drawn = torch.randint(1, 10, labels.shape, generator=generator)
        return real_digits({})(torch.where(labels == 0, drawn, labels), generator)

    metrics = evaluator.evaluate(any_retained, override=None, samples=900, forget_samples=900).metrics
    assert metrics["override_rate"] > 0.99
    assert metrics["override_distance"] < 1
    stuck = evaluator.evaluate(real_digits({0: 4}), override=None, samples=900, forget_samples=900).metrics
    assert stuck["override_rate"] > 0.99
    assert stuck["override_distance"] > 20


def test_generated_images_are_rounded_to_the_levels_of_real_ones(evaluator: Evaluator, real_digits: Forgetting) -> None:
    def between_levels(labels: Tensor, generator: torch.Generator) -> Tensor:
        images = real_digits({0: 1})(labels, generator)
        return images + (torch.rand(images.shape) - 0.5) * 0.12  # less than half a level, 1/16, either way

    plain = evaluator.evaluate(real_digits({0: 1}), override=(1,), samples=900, forget_samples=300)
    assert evaluator.evaluate(between_levels, override=(1,), samples=900, forget_samples=300) == plain


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_that_are_not_finite_fail_the_trial_and_are_counted(
    evaluator: Evaluator, real_digits: Forgetting, value: float
) -> None:
    def broken(labels: Tensor, generator: torch.Generator) -> Tensor:
        images = real_digits({})(labels, generator)
        images[3:6, 0, 2, 2] = value
        return images

    with pytest.raises(TrialFailed, match="3 of 90 generated images hold values that are not finite"):
        evaluator.evaluate(broken, override=(1,), samples=90, forget_samples=20)


def test_no_gradient_is_kept_of_an_evaluated_generator(evaluator: Evaluator) -> None:
    shift = torch.zeros((), requires_grad=True)
    tracked: list[bool] = []

    def generate(labels: Tensor, generator: torch.Generator) -> Tensor:
        images = _noise(labels, generator) + shift
        tracked.append(images.requires_grad)
        return images

    evaluator.evaluate(generate, override=(1,), samples=90, forget_samples=20)
    evaluator.grid(generate, columns=2)
    assert not any(tracked)


def test_a_classifier_that_knows_the_classes_in_another_order_gives_the_same_metrics(
    classifier: Classifier, digits: LabeledImages, real_digits: Forgetting
) -> None:
    def metrics(network: Classifier) -> dict[str, float]:
        evaluator = Evaluator(network, RealImages(digits), digits_without(0), seed=0)
        return evaluator.evaluate(real_digits({0: 1}), override=(1,), samples=180, forget_samples=50).metrics

    turned = classifier.for_classes(digits.class_names[::-1]).for_classes(digits.class_names)
    assert metrics(turned) == pytest.approx(metrics(classifier), rel=1e-9)


def test_the_grid_shows_fixed_samples_the_forgotten_first(evaluator: Evaluator, real_digits: Forgetting) -> None:
    asked: list[int] = []

    def generate(labels: Tensor, generator: torch.Generator) -> Tensor:
        asked.extend(labels.tolist())
        return real_digits({0: 1})(labels, generator)

    png = evaluator.grid(generate, columns=6)
    assert asked == [label for label in range(10) for _ in range(6)]
    assert png == evaluator.grid(generate, columns=6)
    assert Image.open(io.BytesIO(png)).format == "PNG"


@pytest.mark.parametrize(("size", "columns"), [(8, 12), (64, 12), (65, 6), (512, 6)])
def test_a_grid_has_fewer_images_where_they_are_large(size: int, columns: int) -> None:
    assert grid_columns((3, size, size)) == columns


@pytest.mark.parametrize(("size", "tile"), [(8, 32), (64, 64), (128, 128), (512, 128)])
def test_a_grid_enlarges_small_images_and_shrinks_large_ones(
    size: int, tile: int, classifier: Classifier, digits: LabeledImages
) -> None:
    evaluator = Evaluator(classifier, RealImages(digits), digits_without(0), seed=0, batch_size=7)

    def green(labels: Tensor, generator: torch.Generator) -> Tensor:
        return torch.tensor([-1.0, 1.0, -1.0]).view(1, 3, 1, 1).expand(len(labels), 3, size, size)

    picture = np.asarray(Image.open(io.BytesIO(evaluator.grid(green, columns=2))))
    assert (picture == (0, 255, 0)).all(2).sum() == 10 * 2 * tile**2
