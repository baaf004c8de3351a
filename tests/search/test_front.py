"""Which trials are on the front."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfd_sweep.config import Constraint, Objective
from sfd_sweep.metrics import Goal
from sfd_sweep.search.pareto import front
from sfd_sweep.search.scores import combined_score

OBJECTIVES = [
    Objective(metric="fd_classifier", goal=Goal.MINIMIZE, reference_point=10),
    Objective(metric="unlearning_accuracy", goal=Goal.MAXIMIZE, reference_point=0),
]
CONSTRAINTS = [Constraint(metric="override_distance", max=40)]

Trial = dict[str, float]


def trial(fd: float, ua: float, distance: float = 5.0) -> Trial:
    return {"fd_classifier": fd, "unlearning_accuracy": ua, "override_distance": distance}


def test_the_front_holds_what_no_other_trial_beats_in_its_direction() -> None:
    trials = [trial(1.0, 0.5), trial(2.0, 0.9), trial(2.5, 0.8), trial(0.5, 0.1), trial(1.0, 0.4)]
    assert front(trials, OBJECTIVES, CONSTRAINTS) == [0, 1, 3]


def test_no_trials_have_no_front() -> None:
    assert front([], OBJECTIVES, CONSTRAINTS) == []


def test_a_single_feasible_trial_is_the_front() -> None:
    assert front([trial(99.0, 0.0)], OBJECTIVES, CONSTRAINTS) == [0]


def test_an_infeasible_trial_is_not_on_the_front_and_dominates_nothing() -> None:
    assert front([trial(0.0, 1.0, distance=41.0), trial(5.0, 0.5)], OBJECTIVES, CONSTRAINTS) == [1]


def test_the_bound_itself_is_feasible() -> None:
    assert front([trial(1.0, 0.5, distance=40.0)], OBJECTIVES, CONSTRAINTS) == [0]


def test_there_may_be_no_feasible_trial() -> None:
    assert front([trial(0.0, 1.0, distance=41.0)], OBJECTIVES, CONSTRAINTS) == []


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["fd_classifier", "unlearning_accuracy", "override_distance"])
def test_a_trial_that_is_not_finite_is_not_on_the_front_and_dominates_nothing(name: str, odd: float) -> None:
    assert front([trial(0.0, 1.0) | {name: odd}, trial(5.0, 0.5)], OBJECTIVES, CONSTRAINTS) == [1]


def test_equal_trials_are_on_the_front_together() -> None:
    assert front([trial(1.0, 0.5), trial(3.0, 0.1), trial(1.0, 0.5, distance=39.0)], OBJECTIVES, CONSTRAINTS) == [0, 2]


def test_a_trial_worse_than_the_reference_may_be_on_the_front() -> None:
    assert front([trial(50.0, 1.0), trial(1.0, 0.5)], OBJECTIVES, CONSTRAINTS) == [0, 1]


trials = st.lists(st.builds(trial, st.floats(0, 20), st.floats(0, 1), st.floats(0, 80)), min_size=1, max_size=12)


@given(trials)
def test_the_best_score_of_the_feasible_is_on_the_front(candidates: list[Trial]) -> None:
    members = front(candidates, OBJECTIVES, CONSTRAINTS)
    scores = [combined_score(candidate, OBJECTIVES, CONSTRAINTS) for candidate in candidates]
    feasible = [index for index, candidate in enumerate(candidates) if candidate["override_distance"] <= 40]
    assert bool(members) == bool(feasible)
    if feasible:
        assert min(scores[index] for index in members) == pytest.approx(min(scores[index] for index in feasible))
        assert int(np.argmin(scores)) in feasible
