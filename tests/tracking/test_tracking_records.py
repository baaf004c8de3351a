"""What follows from a sweep's record."""

import math
from dataclasses import replace
from statistics import NormalDist

import pytest
from recorded import sweep, trial
from tracked_sweep import report, search_space

from sfd_sweep.config import SearchSpace
from sfd_sweep.trial.report import TrialState


def test_the_front_holds_complete_feasible_and_finite_trials_that_none_dominates() -> None:
    record = sweep(
        trial(0, 2.0, 0.99),
        trial(1, 1.0, 0.90),
        trial(2, 2.5, 0.80),
        trial(3, 0.1, 1.0, TrialState.PRUNED),
        trial(4, 0.1, 1.0, TrialState.FAILED),
        trial(5, 0.1, 1.0, override_distance=41),
        trial(6, math.nan, 1.0),
        trial(7, 0.1, math.inf),
    )
    assert [member.number for member in record.front] == [1, 0]  # the better distance first


def test_the_hypervolume_is_the_area_between_the_front_and_the_reference() -> None:
    record = sweep(trial(0, 2.0, 0.99), trial(1, 1.0, 0.90))
    assert record.hypervolume() == pytest.approx((10 - 1) * 0.90 + (10 - 2) * 0.09)
    assert record.hypervolume(record.complete[:1]) == pytest.approx((10 - 2) * 0.99)


def test_members_of_the_front_are_told_apart_by_final_figures_only_if_all_have_some() -> None:
    judged = trial(0, 1.0, 0.5, final=report(20, 3.0, 0.5, samples=10000))
    assert {r.samples["retained"] for r in sweep(judged, trial(1, 2.0, 0.9)).front_figures.values()} == {2000}
    also = trial(1, 2.0, 0.9, final=report(20, 1.5, 0.9, samples=10000))
    record = sweep(judged, also)
    assert {r.samples["retained"] for r in record.front_figures.values()} == {10000}
    assert record.best(record.front).number == 1


def test_the_knee_bends_most() -> None:
    record = sweep(trial(0, 1.0, 0.1), trial(1, 1.2, 0.9), trial(2, 9.0, 1.0))
    assert record.knee().number == 1


FORGOTTEN = search_space("sqlite:///unused.db", "selection={min: {unlearning_accuracy: 0.99}}")


def test_the_nearest_that_counts_as_forgotten_is_nearest_on_the_front() -> None:
    members = trial(0, 1.0, 0.5), trial(1, 2.0, 0.991), trial(2, 6.0, 1.0)
    record = sweep(*members, trial(3, 1.5, 0.4), trial(4, 7.0, 0.98), space=FORGOTTEN)
    assert [record.nearest_forgotten(record.trials[number]).number for number in (0, 3, 4)] == [1, 1, 2]
    assert sweep(members[0], space=FORGOTTEN).nearest_forgotten(members[0]) is None


def test_a_figure_that_is_not_a_number_never_counts_as_forgotten() -> None:
    assert not sweep(space=FORGOTTEN).counts_as_forgotten(trial(0, 1.0, math.nan))


def test_the_null_baseline_is_neither_on_the_front_nor_in_the_hypervolume() -> None:
    record = sweep(trial(0, 2.0, 0.99), trial(1, 1.0, 0.90))
    beaten = replace(record, swap=report(0, 0.1, 1.0))  # it would dominate all
    assert beaten.front == record.front
    assert beaten.hypervolume() == record.hypervolume()
    assert beaten.knee() == record.knee()


def with_errors(distance: float, accuracy: float) -> SearchSpace:
    errors = [f"objectives.0.error={distance}", f"objectives.1.error={accuracy}"]
    return search_space("sqlite:///unused.db", *errors)


def test_without_errors_membership_and_hypervolume_are_certain() -> None:
    record = sweep(trial(0, 1.0, 0.1), trial(1, 1.2, 0.9), trial(2, 9.0, 0.8))
    assert not record.has_errors
    assert record.front_probability == {0: 1.0, 1: 1.0, 2: 0.0}
    assert record.hypervolume_interval.low == record.hypervolume_interval.high == pytest.approx(record.hypervolume())
    assert record.knee_probability == {0: 1.0, 1: 0.0}
    assert record.knee().number == 0


def test_errors_bring_trials_near_the_front_into_question() -> None:
    record = sweep(trial(0, 2.0, 0.5), trial(1, 2.1, 0.5), trial(2, 8.0, 0.4), space=with_errors(0.4, 0.0))
    assert [member.number for member in record.front] == [0]
    chances = record.front_probability
    phi = NormalDist(0, 0.2 * math.sqrt(2)).cdf
    assert chances[0] == pytest.approx(phi(0.1), abs=0.06)
    assert chances[1] == pytest.approx(1 - phi(0.1), abs=0.06)
    assert chances[2] == 0
    assert record.hypervolume_interval.low < record.hypervolume() < 2 * record.hypervolume_interval.high


def test_with_errors_the_knee_is_the_member_that_is_it_most_often() -> None:
    members = trial(0, 1.0, 0.1), trial(1, 2.0, 0.80), trial(2, 2.3, 0.84), trial(3, 9.0, 0.99)
    record = sweep(*members, space=with_errors(0.6, 0.1))
    assert max(record.knee_probability, key=record.knee_probability.__getitem__) == record.knee().number
    assert sum(record.knee_probability.values()) == pytest.approx(1)
    assert max(record.knee_probability.values()) < 1


def test_members_within_the_errors_of_each_other_are_as_good() -> None:
    members = trial(0, 1.0, 0.50), trial(1, 1.2, 0.52), trial(2, 1.2001, 0.6)
    record = sweep(*members, space=with_errors(0.3, 0.05))
    assert {member.number: record.as_good_as(member) for member in record.front} == {0: [1], 1: [0], 2: []}


def test_final_figures_have_the_errors_of_more_samples() -> None:
    finals = [report(20, 1.0, 0.50, samples=8000), report(20, 1.2, 0.52, samples=8000)]
    members = [trial(number, 1.0 + 0.2 * number, 0.5 + 0.02 * number, final=f) for number, f in enumerate(finals)]
    assert finals[0].samples["retained"] == 8000
    for error, as_good in ((0.39, []), (0.41, [1])):  # four times the samples halve the error
        record = sweep(*members, space=with_errors(error, 1.0))
        assert record.as_good_as(members[0]) == as_good
