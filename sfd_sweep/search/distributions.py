"""The search-space file's distributions as Optuna's."""

from typing import Any

from optuna import distributions
from optuna.trial import Trial

from sfd_sweep.config import CategoricalDistribution, Distribution, FloatDistribution, IntDistribution


def suggest(trial: Trial, name: str, distribution: Distribution) -> Any:
    """Draw a parameter of a trial, or return what was drawn for it before."""
    match distribution:
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(name, low, high, log=log, step=step)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(name, low, high, log=log, step=step)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)


def to_optuna(distribution: Distribution) -> distributions.BaseDistribution:
    """Return Optuna's distribution of the same values; it knows no condition."""
    match distribution:
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return distributions.FloatDistribution(low, high, log=log, step=step)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return distributions.IntDistribution(low, high, log=log, step=step)
        case CategoricalDistribution(choices=choices):
            return distributions.CategoricalDistribution(choices)
