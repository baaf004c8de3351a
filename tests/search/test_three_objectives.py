"""A search with three objectives: fronts, volumes, knees, scores, halving and samplers, against brute force."""

import math
from itertools import product
from pathlib import Path

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.study._multi_objective import _fast_non_domination_rank
from stub_runtime import make_space

from sfd_sweep.config import Constraint, MultiObjectiveAshaScheduler, Objective, SearchSpace
from sfd_sweep.config.schema import SAMPLERS
from sfd_sweep.metrics import Goal
from sfd_sweep.search.halving import MultiObjectiveHalving
from sfd_sweep.search.pareto import front, front_of, fronts, hypervolume_of, knee, ranking, to_losses
from sfd_sweep.search.scores import as_good_within_error, combined_score
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import Report

OBJECTIVES = [
    Objective(metric="fd_classifier", goal=Goal.MINIMIZE, reference_point=10),
    Objective(metric="unlearning_accuracy", goal=Goal.MAXIMIZE, reference_point=0),
    Objective(metric="excess_relearning_rate", goal=Goal.MINIMIZE, reference_point=1),
]
CONSTRAINTS = [Constraint(metric="override_distance", max=40)]
AXES = (
    "objectives=[{metric: fd_classifier, goal: minimize, reference_point: 20}, {metric: unlearning_accuracy, goal: "
    "maximize, reference_point: 0}, {metric: excess_relearning_rate, goal: minimize, reference_point: 1}]"
)

Trial = dict[str, float]


def trial(fd: float, ua: float, excess: float, distance: float = 5.0) -> Trial:
    names = ("fd_classifier", "unlearning_accuracy", "excess_relearning_rate", "override_distance")
    return dict(zip(names, (fd, ua, excess, distance), strict=True))


# Coarse values, so that ties, duplicates and dominated trials are common, and some trials break the constraint.
eighths = st.integers(0, 8).map(lambda part: part / 8)
trials = st.lists(
    st.builds(trial, st.integers(0, 8).map(float), eighths, eighths, st.sampled_from([5.0, 40.0, 50.0])),
    min_size=1,
    max_size=14,
)


def dominates(one: Trial, other: Trial) -> bool:
    pairs = [
        (one["fd_classifier"], other["fd_classifier"]),
        (other["unlearning_accuracy"], one["unlearning_accuracy"]),
        (one["excess_relearning_rate"], other["excess_relearning_rate"]),
    ]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


@given(trials)
def test_the_front_is_what_no_feasible_trial_dominates(candidates: list[Trial]) -> None:
    feasible = [each for each in candidates if each["override_distance"] <= 40]
    expected = [
        place
        for place, each in enumerate(candidates)
        if each in feasible and not any(dominates(other, each) for other in feasible)
    ]
    assert front(candidates, OBJECTIVES, CONSTRAINTS) == expected


@given(trials)
def test_a_trial_that_is_best_in_the_third_objective_alone_is_on_the_front(candidates: list[Trial]) -> None:
    durable = trial(8.0, 0.0, -0.0) | {"excess_relearning_rate": 0.0}
    others = [each | {"excess_relearning_rate": max(0.1, each["excess_relearning_rate"])} for each in candidates]
    assert len(others) in front([*others, durable], OBJECTIVES, CONSTRAINTS)


@given(trials)
def test_fronts_are_optunas_and_the_ranking_takes_them_in_turn(candidates: list[Trial]) -> None:
    losses = to_losses(candidates, OBJECTIVES)
    ranks = _fast_non_domination_rank(losses)
    assert [each.tolist() for each in fronts(losses)] == [
        np.flatnonzero(ranks == rank).tolist() for rank in range(ranks.max() + 1)
    ]
    order = ranking(candidates, OBJECTIVES)
    assert sorted(order) == list(range(len(candidates)))
    assert ranks[order].tolist() == sorted(ranks)


@given(trials)
def test_the_hypervolume_is_the_number_of_dominated_cells(candidates: list[Trial]) -> None:
    """On a grid whose cells are unit in the distance and eighths in the shares, the volume is a count."""
    members = [candidates[index] for index in front(candidates, OBJECTIVES)]
    cells = sum(
        any(
            each["fd_classifier"] <= fd
            and 8 * (1 - each["unlearning_accuracy"]) <= forgotten
            and 8 * each["excess_relearning_rate"] <= excess
            for each in members
        )
        for fd, forgotten, excess in product(range(10), range(8), range(8))
    )
    found = hypervolume_of(members, OBJECTIVES)
    assert found == pytest.approx(cells / 64)
    assert found == pytest.approx(hypervolume_of(candidates, OBJECTIVES))
    assert found == pytest.approx(moocore.hypervolume(to_losses(candidates, OBJECTIVES), ref=[10, 0, 1]))


def test_the_knee_is_the_best_bargain_in_all_three() -> None:
    ends = [trial(0.5, 0.5, 1.0), trial(2.5, 1.0, 0.5), trial(2.5, 0.5, 0.0)]
    bargain, one_sided = trial(0.9, 0.9, 0.2), trial(0.6, 0.95, 0.95)
    members = [*ends, one_sided, bargain]
    assert front(members, OBJECTIVES) == [0, 1, 2, 3, 4]
    assert knee(to_losses(members, OBJECTIVES)) == 4
    assert knee(to_losses(members, OBJECTIVES)[:, :2]) == 3  # what two objectives would take


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        # q = log(1 + fd) / log(11), f = 1 - ua, d = excess; max + 0.05 (q + f + d)
        (trial(0.0, 1.0, 0.0), 0.0),
        (trial(10.0, 0.0, 1.0), 1 + 0.05 * 3),
        (trial(1.0, 0.9, 0.5), 0.5 + 0.05 * (0.2890648 + 0.1 + 0.5)),
    ],
)
def test_the_score_is_the_augmented_chebyshev_norm_of_all_three(figures: Trial, expected: float) -> None:
    assert combined_score(figures, OBJECTIVES) == pytest.approx(expected, abs=1e-7)


@given(trials, trials)
def test_a_dominated_trial_scores_worse(some: list[Trial], others: list[Trial]) -> None:
    for one, other in product(some, others):
        if dominates(one, other):
            assert combined_score(one, OBJECTIVES) < combined_score(other, OBJECTIVES)


def test_an_error_in_the_third_objective_excuses_that_much() -> None:
    noisy = [*OBJECTIVES[:2], OBJECTIVES[2].model_copy(update={"error": 0.0625})]
    best = trial(1.0, 0.9, 0.25)
    assert as_good_within_error(trial(1.0, 0.9, 0.3125), best, noisy)
    assert not as_good_within_error(trial(1.0, 0.9, 0.375), best, noisy)
    assert not as_good_within_error(trial(1.1, 0.9, 0.25), best, noisy)


def space(folder: Path, *overrides: str) -> SearchSpace:
    return make_space(folder, AXES, "audit.control=builtin:digits-without-0", *overrides)


def test_halving_keeps_all_three_ends_of_the_front_and_stops_what_is_behind() -> None:
    plan = space(Path("runs"), "search.scheduler={type: mo_asha, grace_evaluations: 1, reduction_factor: 3}")
    scheduler = plan.search.scheduler
    assert isinstance(scheduler, MultiObjectiveAshaScheduler)
    halving = MultiObjectiveHalving(plan, scheduler)
    ends = [trial(1.0, 0.5, 0.5), trial(2.0, 1.0, 0.5), trial(2.0, 0.5, 0.0)]
    for number, figures in enumerate(ends):
        halving.decide(f"{number}", 2, figures)
    for number, figures in enumerate(ends):
        behind = figures | {"fd_classifier": figures["fd_classifier"] + 1}
        assert halving.decide(f"behind {number}", 2, behind) is not None
    for number, figures in enumerate(ends):
        assert halving.decide(f"twin {number}", 2, figures) is None
    broken = {name: value for name, value in ends[0].items() if name != "excess_relearning_rate"}
    for odd in (broken, ends[0] | {"excess_relearning_rate": math.nan}):
        assert halving.decide(f"{odd}", 2, odd) is not None


def run_trial(study: SweepStudy) -> None:
    """One trial whose quality, forgetting and durability cannot be had together."""
    number = study.ask()
    settings = study.trial(number).settings
    trade, rate = settings.guidance_scale - 1, math.log10(settings.generator_lr) + 5
    figures = trial(1 + trade + rate, trade, abs(1 - rate / 2 - trade / 2) / 2)
    study.report(number, Report(6, figures, {"retained": 100, "forgotten": 50}, {}, {"training": 1.0}))
    study.end(number)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.filterwarnings("error")
def test_every_sampler_searches_three_objectives_and_draws_the_same_again(sampler: str, tmp_path: Path) -> None:
    studies = []
    for name in ("one", "other"):
        plan = space(tmp_path / name, f"search.sampler={sampler}", "budget.trials=14")
        studies.append((plan, SweepStudy(plan, Folder.open(tmp_path / name))))
        for _ in range(14):
            run_trial(studies[-1][1])
    drawn = [[each.settings for each in study.trials()] for _, study in studies]
    assert drawn[0] == drawn[1]
    plan, study = studies[0]
    found = front_of(plan, study.trials())
    members = [study.trials()[number].metrics for number in found.numbers]
    assert found.numbers
    assert found.hypervolume == pytest.approx(moocore.hypervolume(to_losses(members, plan.objectives), ref=[20, 0, 1]))
