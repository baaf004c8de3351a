"""The table of metrics."""

import pytest

from sfd_sweep.config import METRICS, Goal, Metric, Scale


def test_every_metric_is_found_by_its_name() -> None:
    assert all(name == metric.name for name, metric in METRICS.items())


def test_the_best_value_is_at_the_end_that_the_goal_points_to() -> None:
    assert METRICS["unlearning_accuracy"].best == 1
    assert METRICS["fd_classifier"].best == 0


@pytest.mark.parametrize("scale", [Scale.DISTANCE, Scale.NATS])
def test_what_has_no_upper_end_cannot_be_maximised(scale: Scale) -> None:
    with pytest.raises(ValueError, match="no upper end"):
        Metric(name="spread", scale=scale, goal=Goal.MAXIMIZE, description="spread of the samples")
