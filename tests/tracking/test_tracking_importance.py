"""The importance of parameters."""

from dataclasses import replace

import numpy as np
import pytest
from recorded import sweep, trial
from tracked_sweep import search_space

from sfd_sweep.config import Objective
from sfd_sweep.metrics import Goal
from sfd_sweep.search.records import SweepRecord
from sfd_sweep.tracking import importance
from sfd_sweep.tracking.importance import FEWEST_TRIALS, basis_of, parameter_importance

DISTANCE = Objective(metric="fd_classifier", goal=Goal.MINIMIZE, reference_point=10)
ACCURACY = Objective(metric="unlearning_accuracy", goal=Goal.MAXIMIZE, reference_point=0)


def a_sweep_of(count: int) -> SweepRecord:
    """The distance hangs on the learning rate alone, the accuracy on the forget weight alone."""
    draw = np.random.default_rng(0)
    rates, weights = np.exp(draw.uniform(np.log(1e-5), np.log(1e-3), count)), draw.uniform(0.01, 1, count)
    pairs = zip(rates.tolist(), weights.tolist(), strict=True)
    return sweep(
        *(
            trial(number, 1 + np.log(rate / 1e-5), weight, generator_lr=rate, forget_weight=weight)
            for number, (rate, weight) in enumerate(pairs)
        )
    )


@pytest.mark.parametrize(("objective", "parameter"), [(DISTANCE, "generator_lr"), (ACCURACY, "forget_weight")])
def test_what_an_objective_hangs_on_takes_nearly_all_of_its_variance(objective: Objective, parameter: str) -> None:
    shares = parameter_importance(a_sweep_of(40), objective)
    assert set(shares) == {"generator_lr", "forget_weight", "override"}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[parameter] > 0.9


def test_the_same_trials_have_the_same_importance() -> None:
    assert parameter_importance(a_sweep_of(10), DISTANCE) == parameter_importance(a_sweep_of(10), DISTANCE)


def test_of_many_trials_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "MOST_TRIALS", 30)
    record = a_sweep_of(40)
    shares = parameter_importance(record, DISTANCE)
    assert shares["generator_lr"] > 0.9
    assert shares == parameter_importance(record, DISTANCE)
    assert shares != parameter_importance(a_sweep_of(30), DISTANCE)
    assert basis_of(record).startswith("importance of parameters by fANOVA on 30 of 40 complete trials")


def test_too_few_trials_or_equal_ones_have_none() -> None:
    assert parameter_importance(a_sweep_of(FEWEST_TRIALS - 1), DISTANCE) == {}
    equal = sweep(*(trial(number, 1.0, 0.5) for number in range(FEWEST_TRIALS)))
    assert parameter_importance(equal, DISTANCE) == {}
    assert parameter_importance(sweep(), DISTANCE) == {}


def test_a_parameter_that_not_every_trial_has_drawn_is_left_out_and_named() -> None:
    condition = "{type: float, low: 0.01, high: 1, when: {override: random}, otherwise: 0.5}"
    space = search_space("sqlite:///unused.db", f"parameters.forget_weight={condition}")
    whole = a_sweep_of(40)
    trials = [replace(trial, searched=space.parameters.drawn(trial.settings)) for trial in whole.trials]
    record = replace(whole, space=space, trials=tuple(trials))
    assert [len(trial.searched) for trial in trials[:2]] == [2, 3]
    assert set(parameter_importance(record, DISTANCE)) == {"generator_lr", "override"}
    assert basis_of(record) == (
        "importance of parameters by fANOVA on 40 complete trials: a hint at most; "
        "not of forget_weight, which not all of them have drawn"
    )
