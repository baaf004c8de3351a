"""What follows from a sweep's record."""

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import sweep, trial
from tracked_sweep import report, search_space

from sfd_sweep.config import SearchSpace
from sfd_sweep.search.pareto import front_of
from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.trial import Trial
from sfd_sweep.tracking.tables import trials_table
from sfd_sweep.trial.report import TrialState

Pair = tuple[float, float]


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


def test_the_history_of_the_hypervolume_is_that_of_the_front_after_each_trial() -> None:
    draw = np.random.default_rng(0)
    trials = [
        trial(number, *draw.uniform((1, 0), (12, 1)), override_distance=draw.choice([10, 90])) for number in range(60)
    ]
    expected = [sweep(*trials[: count + 1]).hypervolume() for count in range(len(trials))]
    found = sweep(*trials).hypervolumes()
    assert list(found) == list(range(len(trials)))
    assert list(found.values()) == pytest.approx(expected)
    assert expected[0] < expected[-1]
    assert sweep().hypervolumes() == {}


def test_members_of_the_front_are_told_apart_by_final_figures_only_if_all_have_some() -> None:
    judged = trial(0, 1.0, 0.5, final=report(20, 3.0, 0.5, samples=10000))
    assert compared_on(sweep(judged, trial(1, 2.0, 0.9))) == {0: 2000, 1: 2000}
    also = trial(1, 2.0, 0.9, final=report(20, 3.01, 0.9, samples=10000))
    record = sweep(judged, also)
    assert compared_on(record) == {0: 10000, 1: 10000}
    assert record.best(record.front).number == 1


def compared_on(record: SweepRecord) -> dict[int, int]:
    """The retained samples behind the figures that members of the front are compared by."""
    return {member.number: record.figures(member).samples["retained"] for member in record.front}


def judged_trial(number: int, last: tuple[float, float], final: tuple[float, float], bound: float = 4.0) -> Trial:
    return trial(number, *last, final=report(20, *final, bound, samples=8000))


def test_a_member_that_another_dominates_by_the_final_figures_is_not_on_the_front() -> None:
    lucky, solid = judged_trial(0, (0.46, 0.9938), (0.7129, 0.9938)), judged_trial(1, (0.5, 0.9962), (0.4606, 0.9962))
    beside = trial(2, 0.6, 0.99)  # beside the front of the search: it has no final figures
    record = sweep(lucky, solid, beside)
    assert [member.number for member in record.searched_front] == [0, 1]
    assert [member.number for member in record.front] == [1]
    assert record.hypervolume() == pytest.approx((10 - 0.4606) * 0.9962)
    assert record.front_probability == {0: 0.0, 1: 1.0, 2: 0.0}
    assert record.knee().number == record.best(record.front).number == 1
    assert trials_table(record)["pareto"].tolist() == [False, True, False]


def test_a_member_that_violates_a_constraint_by_the_final_figures_is_not_on_the_front() -> None:
    record = sweep(judged_trial(0, (1.0, 0.9), (1.0, 0.9), 41.0), judged_trial(1, (2.0, 0.99), (2.0, 0.99)))
    assert [member.number for member in record.front] == [1]
    assert not record.is_feasible(record.trials[0])


figures = st.tuples(st.floats(0, 20), st.floats(0, 1))


@given(st.lists(st.tuples(figures, figures), min_size=1, max_size=8))
def test_no_member_is_dominated_by_the_final_figures_of_another(drawn: list[tuple[Pair, Pair]]) -> None:
    record = sweep(*(judged_trial(number, last, final) for number, (last, final) in enumerate(drawn)))

    def dominates(one: Pair, other: Pair) -> bool:
        return one != other and one[0] <= other[0] and one[1] >= other[1]

    searched = {n for n, (own, _) in enumerate(drawn) if not any(dominates(last, own) for last, _ in drawn)}
    finals = {number: drawn[number][1] for number in searched}
    expected = {n for n, own in finals.items() if not any(dominates(other, own) for other in finals.values())}
    assert {member.number for member in record.front} == expected
    assert set(front_of(record.space, record.trials).numbers) == expected
    assert {number for number, share in record.front_probability.items() if share} == expected


def test_final_figures_are_drawn_anew_within_the_errors_of_more_samples() -> None:
    pairs = [((2.0, 0.5), (2.0, 0.5)), ((2.1, 0.51), (2.05, 0.5))]
    record = sweep(*(judged_trial(n, *pair) for n, pair in enumerate(pairs)), space=with_errors(0.4, 0.0))
    assert [member.number for member in record.front] == [0]
    phi = NormalDist(0, 0.1 * math.sqrt(2)).cdf  # four times the samples halve the error
    assert record.front_probability[0] == pytest.approx(phi(0.05), abs=0.06)
    assert record.front_probability[1] == pytest.approx(1 - phi(0.05), abs=0.06)


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
    members = [judged_trial(number, pair, pair) for number, pair in enumerate([(1.0, 0.50), (1.2, 0.52)])]
    assert members[0].final.samples["retained"] == 8000
    for error, as_good in ((0.39, []), (0.41, [1])):  # four times the samples halve the error
        record = sweep(*members, space=with_errors(error, 1.0))
        assert record.as_good_as(members[0]) == as_good
