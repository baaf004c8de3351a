"""The importance of parameters."""

import numpy as np
import pytest
from recorded import sweep, trial

from sfd_sweep.config import Goal, Objective
from sfd_sweep.tracking.importance import FEWEST_TRIALS, parameter_importance
from sfd_sweep.tracking.records import SweepRecord

DISTANCE = Objective(metric="fd_classifier", goal=Goal.MINIMIZE, reference=10)
ACCURACY = Objective(metric="unlearning_accuracy", goal=Goal.MAXIMIZE, reference=0)


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


def test_too_few_trials_or_equal_ones_have_none() -> None:
    assert parameter_importance(a_sweep_of(FEWEST_TRIALS - 1), DISTANCE) == {}
    equal = sweep(*(trial(number, 1.0, 0.5) for number in range(FEWEST_TRIALS)))
    assert parameter_importance(equal, DISTANCE) == {}
    assert parameter_importance(sweep(), DISTANCE) == {}
