"""The importance of the searched parameters for an objective, by functional ANOVA on the complete trials."""

import math

import numpy as np
import optuna

from sfd_sweep.config import Distribution, Objective
from sfd_sweep.search.distributions import to_optuna
from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.trial import Trial

FEWEST_TRIALS = 8
FIRM_FROM = 50
MOST_TRIALS = 400
"""Trials that the forests are grown on at most: their cost grows with the square of the number."""


def parameter_importance(record: SweepRecord, objective: Objective) -> dict[str, float]:
    """Return the share of an objective's variance that each parameter explains by itself or with others.

    Functional ANOVA with random forests (Hutter, Hoos & Leyton-Brown, ICML 2014), as in Optuna, with a fixed seed.

    Of more than MOST_TRIALS complete trials, as many are drawn at random, equal ones for equal sweeps.

    Returns:
        Shares that add up to 1, by name of the parameters that every complete trial has drawn. Empty if fewer than
        FEWEST_TRIALS complete trials have finite values, or all have the same value.
    """
    trials = _drawn(_finite(record, objective))
    values = [trial.metrics[objective.metric] for trial in trials]
    if len(trials) < FEWEST_TRIALS or min(values) == max(values):
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=objective.goal.value)
    distributions = {name: to_optuna(found) for name, found in always_drawn(record).items()}
    for trial, value in zip(trials, values, strict=True):
        drawn = {name: trial.searched[name] for name in distributions}
        study.add_trial(optuna.trial.create_trial(params=drawn, distributions=distributions, value=value))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def always_drawn(record: SweepRecord) -> dict[str, Distribution]:
    """Return the searched parameters that every complete trial has drawn; a condition excludes others from some."""
    searched = record.space.parameters.searched().items()
    return {name: found for name, found in searched if all(name in trial.searched for trial in record.complete)}


def basis_of(record: SweepRecord) -> str:
    """Return a sentence about the trials behind the importance, and the parameters that it leaves out."""
    count = len(_finite(record, record.space.objectives[0]))
    caution = "" if count >= FIRM_FROM else ": a hint at most"
    count_in_words = str(count) if count <= MOST_TRIALS else f"{MOST_TRIALS} of {count:,}"
    left_out = sorted(set(record.space.parameters.searched()) - set(always_drawn(record)))
    without = f"; not of {', '.join(left_out)}, which not all of them have drawn" if left_out else ""
    return f"importance of parameters by fANOVA on {count_in_words} complete trials{caution}{without}"


def _finite(record: SweepRecord, objective: Objective) -> list[Trial]:
    return [trial for trial in record.complete if math.isfinite(trial.metrics[objective.metric])]


def _drawn(trials: list[Trial]) -> list[Trial]:
    if len(trials) <= MOST_TRIALS:
        return trials
    chosen = np.random.default_rng(0).choice(len(trials), MOST_TRIALS, replace=False)
    return [trials[index] for index in np.sort(chosen)]
