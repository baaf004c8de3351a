"""The combined score against its formula, worked by hand, and the order that it must give."""

import math
import sys
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfd_sweep.config import Constraint, Objective, SelectionBounds
from sfd_sweep.metrics import Goal
from sfd_sweep.search.scores import (
    combined_score,
    counts_as_forgotten,
    normalized_loss,
    violation,
    why_not_forgotten,
)

QUALITY = Objective(metric="fd_classifier", goal=Goal.MINIMIZE, reference_point=10)
FORGETTING = Objective(metric="unlearning_accuracy", goal=Goal.MAXIMIZE, reference_point=0)
NEAR_OVERRIDE = Constraint(metric="override_distance", max=40)
KEEPS_CLASSES = Constraint(metric="retain_accuracy", min=0.9, max=0.99)
ODD = [math.nan, math.inf, -math.inf]


def metrics(fd: float = 1.0, ua: float = 0.9, distance: float = 5.0, retained: float = 0.95) -> dict[str, float]:
    return {
        "fd_classifier": fd,
        "unlearning_accuracy": ua,
        "override_distance": distance,
        "retain_accuracy": retained,
    }


@pytest.mark.parametrize(
    ("fd", "ua", "expected"),
    [
        # q = log(1 + fd) / log(11), f = 1 - ua, max + 0.05 (q + f)
        (0.0, 1.0, 0.0),
        (10.0, 0.0, 1 + 0.05 * 2),
        (1.0, 0.9, 0.2890648 + 0.05 * (0.2890648 + 0.1)),
        (1.0, 0.2, 0.8 + 0.05 * (0.2890648 + 0.8)),
        (120.0, 1.0, 2 + 0.05 * 2),  # log(121) is twice log(11): worse than the reference goes on above 1
    ],
)
def test_the_score_is_the_augmented_chebyshev_norm(fd: float, ua: float, expected: float) -> None:
    assert combined_score(metrics(fd, ua), [QUALITY, FORGETTING]) == pytest.approx(expected, abs=1e-7)


def test_weights_scale_each_objective() -> None:
    weighted = [QUALITY.model_copy(update={"weight": 2.0}), FORGETTING.model_copy(update={"weight": 0.5})]
    # 2 q = 2 log(4) / log(11) = 1.1562593, f / 2 = 0.35
    assert combined_score(metrics(3.0, 0.3), weighted) == pytest.approx(1.1562593 + 0.05 * (1.1562593 + 0.35), abs=1e-7)


@pytest.mark.parametrize(("objective", "best"), [(QUALITY, 0.0), (FORGETTING, 1.0)])
def test_a_loss_is_0_at_the_best_value_and_1_at_the_reference(objective: Objective, best: float) -> None:
    assert normalized_loss(best, objective) == 0
    assert normalized_loss(objective.reference_point, objective) == 1


def test_a_share_is_measured_from_its_reference_on() -> None:
    objective = Objective(metric="retain_accuracy", goal=Goal.MAXIMIZE, reference_point=0.8)
    assert normalized_loss(0.95, objective) == pytest.approx(0.25)


@given(st.floats(0, 1e12), st.floats(0, 1), st.floats(1e-6, 1), st.floats(1e-6, 1))
def test_a_dominated_trial_scores_worse(fd: float, ua: float, worse_fd: float, worse_ua: float) -> None:
    better = combined_score(metrics(fd, ua), [QUALITY, FORGETTING])
    worse = combined_score(metrics(fd * (1 + worse_fd) + worse_fd, ua - worse_ua), [QUALITY, FORGETTING])
    assert better < worse


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", ["fd_classifier", "unlearning_accuracy", "override_distance"])
def test_a_metric_that_is_not_finite_scores_infinitely_badly(name: str, odd: float) -> None:
    assert combined_score(metrics() | {name: odd}, [QUALITY, FORGETTING], [NEAR_OVERRIDE]) == math.inf


@given(
    fd=st.floats(0, sys.float_info.max),
    ua=st.floats(0, 1),
    broken=st.floats(40, sys.float_info.max, exclude_min=True),
    reference=st.floats(1e-3, 1e3),
)
def test_a_broken_constraint_ranks_a_trial_behind_every_feasible_one(
    fd: float, ua: float, broken: float, reference: float
) -> None:
    objectives = [QUALITY.model_copy(update={"reference_point": reference}), FORGETTING]
    perfect_but_infeasible = combined_score(metrics(0.0, 1.0, broken), objectives, [NEAR_OVERRIDE])
    feasible = combined_score(metrics(fd, ua, 40.0), objectives, [NEAR_OVERRIDE])
    assert feasible <= perfect_but_infeasible < math.inf
    assert combined_score(metrics(1e9, 0.0, 40.0), objectives, [NEAR_OVERRIDE]) < perfect_but_infeasible


@given(st.floats(41, 1e9), st.floats(1.01, 100), st.floats(0, 50), st.floats(0, 1))
def test_among_infeasible_trials_the_smaller_violation_ranks_better(
    distance: float, factor: float, fd: float, ua: float
) -> None:
    nearer = combined_score(metrics(fd, ua, distance), [QUALITY, FORGETTING], [NEAR_OVERRIDE])
    farther = combined_score(metrics(0.0, 1.0, distance * factor), [QUALITY, FORGETTING], [NEAR_OVERRIDE])
    assert nearer < farther


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (metrics(distance=0.0, retained=0.9), 0.0),
        (metrics(distance=40.0, retained=0.99), 0.0),
        (metrics(distance=81.0), math.log(2)),  # log(82 / 41)
        (metrics(retained=0.7), 0.2),
        (metrics(retained=1.0), 0.01),
        (metrics(distance=81.0, retained=0.7), math.log(2) + 0.2),
    ],
)
def test_violations_add_up_on_each_metrics_own_scale(values: Mapping[str, float], expected: float) -> None:
    assert violation(values, [NEAR_OVERRIDE, KEEPS_CLASSES]) == pytest.approx(expected)


@given(st.floats(0, 1), st.floats(0, 10))
def test_an_infeasible_trial_scores_worse_than_a_feasible_one_where_the_objective_is_a_cosine(
    cosine: float, excess: float
) -> None:
    matching = Objective(metric="clip_score", goal=Goal.MAXIMIZE, reference_point=0)
    feasible = combined_score(metrics() | {"clip_score": cosine}, [matching], [NEAR_OVERRIDE])
    infeasible = combined_score(metrics(distance=41 + excess) | {"clip_score": 1}, [matching], [NEAR_OVERRIDE])
    assert feasible < infeasible


def test_a_cosine_is_measured_like_a_share() -> None:
    matching = Objective(metric="clip_score", goal=Goal.MAXIMIZE, reference_point=0.2)
    assert normalized_loss(0.4, matching) == pytest.approx(0.75)
    assert violation({"clip_score": 0.2}, [Constraint(metric="clip_score", min=0.3)]) == pytest.approx(0.1)


def test_without_constraints_nothing_is_violated() -> None:
    assert violation({}, []) == 0


@pytest.mark.parametrize("odd", ODD)
def test_a_constrained_metric_that_is_not_finite_violates_infinitely(odd: float) -> None:
    assert violation(metrics(distance=odd), [NEAR_OVERRIDE]) == math.inf


def test_a_missing_metric_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="unlearning_accuracy"):
        combined_score({"fd_classifier": 1.0}, [QUALITY, FORGETTING])


def test_what_counts_as_forgotten_is_within_every_bound_and_else_told_what_is_beyond() -> None:
    selection = SelectionBounds(min={"unlearning_accuracy": 0.99}, max={"override_distance": 60})
    within = {"unlearning_accuracy": 0.99, "override_distance": 60.0}
    assert counts_as_forgotten(within, selection)
    assert why_not_forgotten(within, selection) == ""
    beyond = {"unlearning_accuracy": 0.932, "override_distance": 61.5}
    assert not counts_as_forgotten(beyond, selection)
    assert why_not_forgotten(beyond, selection) == (
        "unlearning_accuracy is 0.932 and must be at least 0.99, and override_distance is 61.5 and must be at most 60"
    )
    assert counts_as_forgotten(beyond, SelectionBounds())
