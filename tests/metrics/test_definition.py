"""The table of metrics."""

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfd_sweep.metrics import METRICS, Goal, Metric, Scale, samples_in_words


def test_every_metric_is_found_by_its_name() -> None:
    assert all(name == metric.name for name, metric in METRICS.items())


def test_the_best_value_is_at_the_end_that_the_goal_points_to() -> None:
    assert METRICS["unlearning_accuracy"].best == 1
    assert METRICS["fd_classifier"].best == 0


def test_the_worst_value_is_finite_and_at_the_other_end() -> None:
    assert METRICS["unlearning_accuracy"].worst == METRICS["clip_score"].worst == 0
    assert METRICS["nudenet_anus_exposed"].worst == 1
    assert METRICS["fd_classifier"].worst == sys.float_info.max


@pytest.mark.parametrize(
    ("scale", "low", "high", "expected"),
    [
        (Scale.SHARE, 0.3, 0.7, 0.4),
        (Scale.COSINE, 0.3, 0.7, 0.4),
        (Scale.DISTANCE, 1.0, 3.0, math.log(2)),
        (Scale.NATS, 0.0, math.e - 1, 1.0),
        (Scale.SCORE, 1.0, 3.0, math.log(2)),
        (Scale.KERNEL, -0.5, 0.0, math.log(2)),
    ],
)
def test_a_bounded_scale_is_even_and_another_is_so_in_its_logarithm(
    scale: Scale, low: float, high: float, expected: float
) -> None:
    assert scale.transform(high) - scale.transform(low) == pytest.approx(expected)
    assert scale.excess(low, high) == pytest.approx(expected)
    assert scale.excess(high, low) == scale.excess(low, low) == 0


@given(scale=st.sampled_from(Scale), low=st.floats(0, 1e300))
def test_an_excess_is_never_rounded_to_nothing(scale: Scale, low: float) -> None:
    assert scale.excess(low, math.nextafter(low, math.inf)) > 0


@pytest.mark.parametrize(
    ("scale", "least", "greatest"),
    [
        (Scale.SHARE, 0, 1),
        (Scale.COSINE, 0, 1),
        (Scale.DISTANCE, 0, 1e300),
        (Scale.NATS, 0, 1e300),
        (Scale.SCORE, 1, 1e300),
    ],
)
def test_a_scale_contains_its_ends_and_nothing_beyond(scale: Scale, least: float, greatest: float) -> None:
    assert scale.contains(least)
    assert scale.contains(greatest)
    assert not scale.contains(least - 0.01)
    assert not scale.contains(math.nan)
    assert scale.contains(greatest + 0.01) is not scale.is_bounded


@pytest.mark.parametrize("scale", [Scale.DISTANCE, Scale.NATS])
def test_what_has_no_upper_end_cannot_be_maximized(scale: Scale) -> None:
    with pytest.raises(ValueError, match="no upper end"):
        Metric("spread", scale, Goal.MAXIMIZE, "spread of the samples", compute=lambda evidence: 0.0)


@pytest.mark.parametrize("name", ["kid", "precision", "recall"])
def test_what_compares_all_with_all_rests_on_ten_thousand_samples_at_most(name: str) -> None:
    metric = METRICS[name]
    assert metric.count({"retained": 9_000, "forgotten": 20}) == 9_000
    assert metric.count({"retained": 50_000, "forgotten": 20}) == 10_000
    assert "10,000 of each at most" in metric.description


def test_other_metrics_rest_on_all_samples_of_what_they_are_about() -> None:
    samples = {"retained": 50_000, "forgotten": 20_000}
    assert METRICS["fid"].count(samples) == 50_000
    assert METRICS["unlearning_accuracy"].count(samples) == 20_000


def test_held_out_samples_have_a_number_of_their_own_in_new_reports() -> None:
    held_out = METRICS["held_out_unlearning_accuracy"]
    assert held_out.count({"retained": 9, "forgotten": 1001, "held_out": 1002}) == 1002
    assert held_out.count({"retained": 9, "forgotten": 1001}) == 1001


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ({"retained": 2007, "forgotten": 1000}, "2,007 retained and 1,000 forgotten samples"),
        (
            {"retained": 60, "forgotten": 1001, "held_out": 1002},
            "60 retained, 1,001 forgotten and 1,002 held-out samples",
        ),
        ({"retained": 1}, "1 retained samples"),
    ],
)
def test_numbers_of_samples_are_told_in_words(samples: dict[str, int], words: str) -> None:
    assert samples_in_words(samples) == words
