"""What follows from a sweep's record."""

import math
from dataclasses import replace

import pytest
from recorded import sweep, trial
from tracked_sweep import report, search_space

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
