"""Successive halving under several objectives: metrics in, decisions out, without Tune."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import ASHAScheduler
from stub_runtime import make_space

from sfd_sweep.config import MultiObjectiveAshaScheduler, SearchSpace
from sfd_sweep.execution.tune import make_scheduler
from sfd_sweep.search.halving import MultiObjectiveHalving

Metrics = dict[str, float]


def space(*overrides: str, scheduler: str = "mo_asha", grace: int = 1, factor: float = 3) -> SearchSpace:
    chosen = f"search.scheduler={{type: {scheduler}, grace_evaluations: {grace}, reduction_factor: {factor}}}"
    return make_space(Path("runs"), "trial.steps=60", "trial.evaluate_every=2", chosen, *overrides)


NOISY = space("objectives.0.error=0.041", "objectives.1.error=0.011")


def halving_of(plan: SearchSpace) -> MultiObjectiveHalving:
    scheduler = plan.search.scheduler
    assert isinstance(scheduler, MultiObjectiveAshaScheduler)
    return MultiObjectiveHalving(plan, scheduler)


def metrics(distance: float, unlearned: float = 0.9, override_distance: float = 5.0) -> Metrics:
    return {
        "fd_classifier": distance,
        "unlearning_accuracy": unlearned,
        "override_distance": override_distance,
    }


def goes_on(halving: MultiObjectiveHalving, trial: str, figures: Metrics, step: int = 2) -> bool:
    return halving.decide(trial, step, figures) is None


@pytest.mark.parametrize("factor", [1.5, 2, 2.5, 3, 4, 7])
@pytest.mark.parametrize("grace", [1, 2, 3, 30])
def test_rungs_are_those_of_tunes_asha(factor: float, grace: int) -> None:
    """Those of them at which a trial is not complete anyway, each at the first evaluation that reaches it."""
    plan = space(scheduler="asha", grace=grace, factor=factor)
    scheduler = make_scheduler(plan)
    assert isinstance(scheduler, ASHAScheduler)
    levels = sorted(level for level, _ in scheduler._brackets[0]._rungs)
    reached = [min(step for step in plan.trial.milestones() if step >= level) for level in levels]
    assert list(plan.search.scheduler.rungs(plan.trial.milestones())) == [step for step in reached if step < 60]


def test_a_grace_beyond_the_budget_leaves_no_rung() -> None:
    plan = space(grace=99)
    assert plan.search.scheduler.rungs(plan.trial.milestones()) == ()
    assert halving_of(plan).decide("a", 2, metrics(1.0)) is None


def test_nothing_is_decided_between_rungs_or_twice() -> None:
    halving = halving_of(space())
    assert goes_on(halving, "good", metrics(1.0))
    assert halving.decide("bad", 4, metrics(9.0)) is None
    assert not goes_on(halving, "bad", metrics(9.0))
    assert halving.decide("bad", 2, metrics(9.0)) is None


def test_the_first_trial_at_a_rung_goes_on() -> None:
    halving = halving_of(space())
    assert all(goes_on(halving, f"at {step}", metrics(19.0), step) for step in (2, 6, 18, 54))


def test_one_in_so_many_goes_on_and_both_ends_of_the_front_are_among_them() -> None:
    halving = halving_of(space())
    trade_off = [metrics(1 + place, place) for place in np.linspace(0, 1, 9).tolist()]
    for number, figures in enumerate(trade_off):
        halving.decide(f"{number}", 2, figures)
    for number, figures in enumerate(trade_off):
        dominated = figures | {"fd_classifier": figures["fd_classifier"] + 3}
        assert not goes_on(halving, f"behind {number}", dominated)
    assert goes_on(halving, "best in one", metrics(0.9, 0.0))
    assert goes_on(halving, "best in the other", metrics(2.1, 1.0 + 1e-9))


def test_a_broken_constraint_stops_no_trial() -> None:
    halving = halving_of(space())
    for number in range(9):
        goes_on(halving, f"{number}", metrics(10.0 + number))
    assert goes_on(halving, "satisfies it later", metrics(0.1, 1.0, override_distance=126.0))
    assert not goes_on(halving, "kept", metrics(19.0))


def test_a_trial_that_breaks_a_constraint_at_rungs_never_displaces_one_that_keeps_it() -> None:
    halving = halving_of(space("constraints.0.at_rungs=true"))
    for number in range(3):
        goes_on(halving, f"{number}", metrics(10.0 - number))
    assert not goes_on(halving, "collapsed", metrics(0.1, 1.0, override_distance=126.0))
    assert goes_on(halving, "kept", metrics(7.9))


def test_while_all_break_a_constraint_at_rungs_those_that_break_it_least_go_on() -> None:
    halving = halving_of(space("constraints.0.at_rungs=true"))
    for distance in (60.0, 80.0, 100.0, 120.0, 140.0):
        halving.decide(f"{distance}", 2, metrics(1.0, 0.9, distance))
    assert goes_on(halving, "closer", metrics(9.0, 0.1, 70.0))
    assert not goes_on(halving, "farther", metrics(0.1, 1.0, 110.0))


@settings(max_examples=40, deadline=None)
@given(noise=st.lists(st.tuples(st.floats(0, 0.04), st.floats(0, 0.01)), min_size=1, max_size=20))
def test_noise_below_the_stated_error_stops_no_trial_at_any_rung(noise: list[tuple[float, float]]) -> None:
    halving = halving_of(NOISY)
    for step in (2, 6, 18, 54):
        for number, (distance, unlearned) in enumerate(noise):
            assert goes_on(halving, f"{number}", metrics(0.7 + distance, 0.98 + unlearned), step)


def test_without_a_stated_error_the_same_noise_stops_most_trials() -> None:
    halving = halving_of(space())
    noise = np.random.default_rng(0).uniform(0, 0.04, 90).tolist()
    survivors = sum(goes_on(halving, f"{number}", metrics(0.7 + each), 54) for number, each in enumerate(noise))
    assert survivors < 45


def test_beyond_the_error_a_trial_is_stopped() -> None:
    halving = halving_of(space("objectives.0.error=0.04"))
    for number in range(9):
        assert goes_on(halving, f"{number}", metrics(0.7))
    assert goes_on(halving, "within", metrics(0.739))
    assert not goes_on(halving, "beyond", metrics(0.741))


def test_a_twin_of_a_trial_that_goes_on_goes_on() -> None:
    halving = halving_of(space())
    assert all(goes_on(halving, f"{number}", metrics(1.0)) for number in range(20))


@pytest.mark.parametrize("name", ["fd_classifier", "unlearning_accuracy", "override_distance"])
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, None])
def test_a_trial_without_all_figures_is_stopped_and_nobody_is_ranked_with_it(name: str, odd: float | None) -> None:
    halving, undisturbed = halving_of(space()), halving_of(space())
    broken = {key: value for key, value in (metrics(1.0) | {name: odd}).items() if value is not None}
    for number in range(5):
        assert halving.decide(f"broken {number}", 2, broken) == "metrics of step 2 are missing or not finite"
    for number, distance in enumerate((3.0, 2.0, 4.0, 1.0, 5.0, 1.5)):
        decisions = [each.decide(f"{number}", 2, metrics(distance)) for each in (halving, undisturbed)]
        assert decisions[0] == decisions[1]


def test_a_decision_tells_rung_and_rank() -> None:
    halving = halving_of(space())
    for distance in (1.0, 2.0, 3.0, 5.0):
        halving.decide(f"{distance}", 6, metrics(distance))
    assert halving.decide("new", 6, metrics(4.0)) == "rank 4 of 5 at the rung of step 6, where 2 go on"
