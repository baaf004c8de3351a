"""The order of trials under several objectives, and what the stated errors make of it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.study._multi_objective import _fast_non_domination_rank

from sfd_sweep.config import Constraint, Objective
from sfd_sweep.metrics import Goal
from sfd_sweep.search.pareto import front, ranking
from sfd_sweep.search.scores import as_good_within_error, violation

OBJECTIVES = [
    Objective(metric="fd_classifier", goal=Goal.MINIMIZE, reference_point=10),
    Objective(metric="unlearning_accuracy", goal=Goal.MAXIMIZE, reference_point=0),
]
CONSTRAINTS = [Constraint(metric="override_distance", max=40)]
ERRORS = [
    Objective(metric="fd_classifier", goal=Goal.MINIMIZE, reference_point=10, error=0.1),
    Objective(metric="unlearning_accuracy", goal=Goal.MAXIMIZE, reference_point=0, error=0.02),
]

Trial = dict[str, float]


def trial(fd: float, ua: float, distance: float = 5.0) -> Trial:
    return {"fd_classifier": fd, "unlearning_accuracy": ua, "override_distance": distance}


# Coarse values, so that ties, duplicates and dominated trials are common, and some trials break the constraint.
trials = st.lists(
    st.builds(
        trial,
        st.integers(0, 8).map(float),
        st.integers(0, 8).map(lambda eighths: eighths / 8),
        st.sampled_from([5.0, 20.0, 40.0, 50.0, 60.0]),
    ),
    min_size=1,
    max_size=16,
)


def test_fronts_come_one_after_another_and_each_begins_with_its_ends() -> None:
    first = [trial(1.0, 0.5), trial(2.0, 0.9), trial(0.5, 0.1)]
    second = [trial(1.0, 0.4), trial(2.5, 0.8)]
    assert ranking([*second, *first], OBJECTIVES, CONSTRAINTS) == [4, 3, 2, 0, 1]


def test_what_breaks_a_constraint_comes_behind_what_keeps_it_and_by_how_much_it_breaks_it() -> None:
    candidates = [trial(0.1, 1.0, 60.0), trial(0.1, 1.0, 41.0), trial(9.0, 0.1, 40.0), trial(0.2, 0.9, 41.0)]
    assert ranking(candidates, OBJECTIVES, CONSTRAINTS) == [2, 1, 3, 0]


@given(trials)
def test_it_orders_as_optunas_sorting_with_constraints_does(candidates: list[Trial]) -> None:
    losses = np.array([[each["fd_classifier"], -each["unlearning_accuracy"]] for each in candidates])
    excesses = np.array([violation(each, CONSTRAINTS) for each in candidates])
    optunas = _fast_non_domination_rank(losses, penalty=excesses)
    order = ranking(candidates, OBJECTIVES, CONSTRAINTS)
    assert sorted(order) == list(range(len(candidates)))
    assert [optunas[index] for index in order if excesses[index] == 0] == sorted(optunas[excesses == 0])
    assert [excesses[index] for index in order] == sorted(excesses)


@given(trials)
def test_it_begins_with_the_front(candidates: list[Trial]) -> None:
    members = front(candidates, OBJECTIVES, CONSTRAINTS)
    assert sorted(ranking(candidates, OBJECTIVES, CONSTRAINTS)[: len(members)]) == members


@given(trials)
def test_under_one_objective_it_is_the_order_of_its_values(candidates: list[Trial]) -> None:
    order = ranking(candidates, OBJECTIVES[:1])
    values = [candidates[index]["fd_classifier"] for index in order]
    assert values == sorted(values)


def test_no_candidates_have_a_ranking() -> None:
    assert ranking([], OBJECTIVES, CONSTRAINTS) == []


@pytest.mark.parametrize("name", ["fd_classifier", "override_distance"])
def test_a_candidate_without_a_figure_is_refused(name: str) -> None:
    candidate = trial(1.0, 0.5)
    del candidate[name]
    with pytest.raises(KeyError, match=name):
        ranking([candidate], OBJECTIVES, CONSTRAINTS)


def test_a_candidate_with_a_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        ranking([trial(math.nan, 0.5)], OBJECTIVES, CONSTRAINTS)


@pytest.mark.parametrize(
    ("one", "good"),
    [
        (trial(1.0, 0.9), True),
        (trial(1.09, 0.9), True),
        (trial(1.11, 0.9), False),
        (trial(1.0, 0.885), True),
        (trial(1.0, 0.875), False),
        (trial(1.09, 0.885), True),
        (trial(0.1, 0.875), False),
        (trial(0.1, 1.0, distance=41.0), False),
    ],
)
def test_a_candidate_is_as_good_if_no_objective_is_worse_by_more_than_its_error(one: Trial, good: bool) -> None:
    assert as_good_within_error(one, trial(1.0, 0.9), ERRORS, CONSTRAINTS) is good


def test_a_constraint_has_an_error_too() -> None:
    loose = [Constraint(metric="override_distance", max=40, error=3)]
    good, bad = trial(1.0, 0.9), trial(1.0, 0.9, distance=60.0)
    assert as_good_within_error(trial(1.0, 0.9, distance=43.0), good, ERRORS, loose)
    assert not as_good_within_error(trial(1.0, 0.9, distance=43.1), good, ERRORS, loose)
    assert as_good_within_error(trial(99.0, 0.0, distance=63.0), bad, ERRORS, loose)
    assert not as_good_within_error(trial(0.0, 1.0, distance=63.1), bad, ERRORS, loose)
    shares = [Constraint(metric="retain_accuracy", min=0.9, error=0.05)]
    assert as_good_within_error(good | {"retain_accuracy": 0.86}, good | {"retain_accuracy": 0.9}, ERRORS, shares)
    assert not as_good_within_error(good | {"retain_accuracy": 0.84}, good | {"retain_accuracy": 0.9}, ERRORS, shares)


def merits(candidate: Trial) -> tuple[float, ...]:
    """All that a ranking looks at."""
    excess = violation(candidate, CONSTRAINTS)
    return (excess,) if excess else (excess, candidate["fd_classifier"], candidate["unlearning_accuracy"])


@given(trials, st.data())
def test_without_errors_only_equals_are_as_good_as_what_ranks_before(
    candidates: list[Trial], data: st.DataObject
) -> None:
    order = ranking(candidates, OBJECTIVES, CONSTRAINTS)
    before, behind = sorted(data.draw(st.integers(0, len(order) - 1)) for _ in range(2))
    one, other = candidates[order[behind]], candidates[order[before]]
    if as_good_within_error(one, other, OBJECTIVES, CONSTRAINTS):
        assert merits(one) == merits(other)
