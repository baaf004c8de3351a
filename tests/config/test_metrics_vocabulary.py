"""The table of metrics."""

import pytest

from sfd_sweep.metrics import METRICS, Goal, Metric, Scale


def test_every_metric_is_found_by_its_name() -> None:
    assert all(name == metric.name for name, metric in METRICS.items())


def test_the_best_value_is_at_the_end_that_the_goal_points_to() -> None:
    assert METRICS["unlearning_accuracy"].best == 1
    assert METRICS["fd_classifier"].best == 0


@pytest.mark.parametrize("scale", [Scale.DISTANCE, Scale.NATS])
def test_what_has_no_upper_end_cannot_be_maximised(scale: Scale) -> None:
    with pytest.raises(ValueError, match="no upper end"):
        Metric(name="spread", scale=scale, goal=Goal.MAXIMIZE, description="spread of the samples")


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
