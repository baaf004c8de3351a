"""Fronts under errors, against closed forms and against dominance written out once more."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from sfd_sweep.config import Constraint, Objective
from sfd_sweep.search.pareto import front, hypervolume_of, knee
from sfd_sweep.search.uncertainty import front_uncertainty, knee_probability, most_probable_knee, stated_errors

DRAWS = 2000
WITHIN = 4 * 0.5 / math.sqrt(DRAWS)
"""Four standard errors of a share at most."""
PHI = NormalDist().cdf


def distance(error: float = 0.0, reference: float = 100.0) -> Objective:
    return Objective(metric="fd_classifier", goal="minimize", reference_point=reference, error=error)


def accuracy(error: float = 0.0) -> Objective:
    return Objective(metric="unlearning_accuracy", goal="maximize", reference_point=0, error=error)


def shares(candidates, objectives, constraints=(), *, draws=DRAWS, **options):
    errors = stated_errors(objectives, constraints)
    return front_uncertainty(candidates, objectives, constraints, errors, draws=draws, **options).probability


@pytest.mark.parametrize("gap", [0.0, 0.3, 1.0, 3.0])
def test_the_better_of_two_is_on_the_front_as_often_as_a_normal_difference_is_positive(gap):
    found = shares([{"fd_classifier": 50.0}, {"fd_classifier": 50.0 + gap}], [distance(error=2.0)])
    expected = PHI(gap / math.sqrt(1.0 + 1.0))  # standard deviations are half the error
    assert found == pytest.approx([expected, 1 - expected], abs=WITHIN)


def test_a_trial_near_a_constraint_is_feasible_as_often_as_its_figure_is_within():
    constraint = Constraint(metric="override_distance", max=40, error=4.0)
    found = shares([{"fd_classifier": 5.0, "override_distance": 41.0}], [distance()], [constraint])
    assert found == pytest.approx([PHI((40 - 41) / 2)], abs=WITHIN)


def test_a_bounded_figure_stays_in_its_range():
    # Both reach 1 in half of the draws each; a tie there leaves both on the front.
    found = shares([{"unlearning_accuracy": 1.0}] * 2, [accuracy(error=0.1)])
    assert found == pytest.approx([0.5 + 0.25 / 2] * 2, abs=WITHIN)


def test_a_metric_that_is_objective_and_constraint_has_one_draw_with_the_larger_error():
    constraint = Constraint(metric="unlearning_accuracy", min=0.5, error=0.2)
    assert stated_errors([accuracy(error=0.1)], [constraint]) == {"unlearning_accuracy": 0.2}
    found = shares([{"unlearning_accuracy": 0.5}], [accuracy(error=0.1)], [constraint])
    assert found == pytest.approx([0.5], abs=WITHIN)


def some(count: int, seed: int = 3) -> list[dict[str, float]]:
    rows = np.random.default_rng(seed).random((count, 3))
    return [
        {"fd_classifier": 2 + 8 * a, "unlearning_accuracy": b, "override_distance": 20 + 30 * c} for a, b, c in rows
    ]


def test_without_errors_shares_and_interval_are_certain():
    candidates, objectives = some(30), [distance(), accuracy()]
    constraints = [Constraint(metric="override_distance", max=40)]
    candidates += [candidates[0], {**candidates[1], "fd_classifier": math.nan}]
    found = front_uncertainty(candidates, objectives, constraints, stated_errors(objectives, constraints))
    members = front(candidates, objectives, constraints)
    assert np.flatnonzero(found.probability).tolist() == members
    assert set(found.probability) == {0.0, 1.0}
    volume = hypervolume_of([candidates[index] for index in members], objectives)
    assert (found.hypervolume.low, found.hypervolume.median, found.hypervolume.high) == (volume,) * 3


def test_shares_agree_with_dominance_written_out():
    candidates, objectives = some(12), [distance(error=1.0), accuracy(error=0.1)]
    constraints = [Constraint(metric="override_distance", max=40, error=5.0)]
    random, counts = np.random.default_rng(99), np.zeros(12)
    for _ in range(DRAWS):
        drawn = [
            (
                c["fd_classifier"] + random.normal(0, 0.5),
                -min(max(c["unlearning_accuracy"] + random.normal(0, 0.05), 0.0), 1.0),
                c["override_distance"] + random.normal(0, 2.5),
            )
            for c in candidates
        ]
        left = [(index, a, b) for index, (a, b, bound) in enumerate(drawn) if bound <= 40]
        for index, a, b in left:
            counts[index] += not any(x <= a and y <= b and (x, y) != (a, b) for _, x, y in left)
    assert shares(candidates, objectives, constraints) == pytest.approx(counts / DRAWS, abs=1.5 * WITHIN)


def test_the_interval_of_one_figure_is_the_normal_one():
    objectives = [distance(error=4.0)]
    found = front_uncertainty([{"fd_classifier": 60.0}], objectives, [], stated_errors(objectives), draws=DRAWS)
    quantile = NormalDist(40, 2).inv_cdf(0.95) - 40
    assert (found.hypervolume.low, found.hypervolume.median, found.hypervolume.high) == pytest.approx(
        (40 - quantile, 40, 40 + quantile), abs=0.25
    )


def test_the_interval_makes_up_for_the_luck_of_the_best_of_many():
    # The best of ten equal figures is observed below their true value by luck; the median moves back toward it.
    random, objectives = np.random.default_rng(0), [distance(error=4.0)]
    candidates = [{"fd_classifier": 60 + random.normal(0, 2)} for _ in range(10)]
    observed = hypervolume_of(candidates, objectives)
    found = front_uncertainty(candidates, objectives, [], stated_errors(objectives))
    assert 40 < found.hypervolume.median < observed


def test_equal_seeds_draw_equal_fronts():
    candidates, objectives = some(12), [distance(error=1.0), accuracy(error=0.1)]
    first, again, other = (shares(candidates, objectives, draws=50, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_no_candidates_have_no_front():
    found = front_uncertainty([], [distance(1.0)], [], {"fd_classifier": 1.0}, draws=10)
    assert (len(found.probability), found.hypervolume.high) == (0, 0.0)


BENT = [(1.0, 0.2), (2.0, 0.75), (3.0, 0.82), (8.0, 0.95)]


def bent() -> list[dict[str, float]]:
    return [{"fd_classifier": a, "unlearning_accuracy": b} for a, b in BENT]


def test_without_errors_the_knee_is_certain():
    objectives = [distance(), accuracy()]
    losses = np.array([(a, -b) for a, b in BENT])
    found = knee_probability(bent(), objectives, [], stated_errors(objectives))
    assert np.flatnonzero(found).tolist() == [knee(losses)]
    assert found.sum() == 1
    assert most_probable_knee(losses, found) == knee(losses)


def test_the_knee_of_two_trials_is_the_better_in_the_first_objective():
    # Their figures in the second are so far apart that neither ever dominates.
    candidates = [
        {"fd_classifier": 5.0, "override_distance": 90.0},
        {"fd_classifier": 5.5, "override_distance": 10.0},
    ]
    objectives = [distance(1.0), Objective(metric="override_distance", goal="minimize", reference_point=100)]
    found = knee_probability(candidates, objectives, [], stated_errors(objectives), draws=DRAWS)
    first = PHI(0.5 / math.sqrt(0.5))
    # Where the first is worse in both objectives it is dominated, and the second is the front alone.
    assert found == pytest.approx([first, 1 - first], abs=WITHIN)


def test_draws_without_a_feasible_member_have_no_knee():
    constraint = Constraint(metric="override_distance", max=40, error=4.0)
    members = [{"fd_classifier": 5.0, "override_distance": 40.0}]
    found = knee_probability(
        members, [distance()], [constraint], {"fd_classifier": 0, "override_distance": 4}, draws=DRAWS
    )
    assert found == pytest.approx([0.5], abs=WITHIN)


def test_the_most_probable_member_is_the_knee_and_ties_go_to_the_observed_bend():
    losses = np.array([(a, -b) for a, b in BENT])
    assert most_probable_knee(losses, np.array([0.1, 0.3, 0.5, 0.1])) == 2
    assert most_probable_knee(losses, np.full(4, 0.25)) == knee(losses)
