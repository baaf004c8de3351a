"""The search-space file's sampler and distributions in Optuna."""

import warnings
from typing import Any

import numpy as np
from optuna import samplers
from optuna.exceptions import ExperimentalWarning
from optuna.samplers._ga import BaseGASampler
from optuna.trial import Trial

from sfd_sweep.config import (
    CategoricalDistribution,
    Distribution,
    FloatDistribution,
    IntDistribution,
    Search,
    SearchSpace,
)

GENERATIONS = 5
"""A genetic sampler's population is so small that a sweep has this many, if it has trials for it."""

LARGEST_POPULATION = 50
"""Optuna's default, also for a sweep whose number of trials is not limited."""


def make_sampler(space: SearchSpace, number: int, *, at_random: bool = False) -> samplers.BaseSampler:
    """The sampler for one proposal.

    Args:
        number: of proposals before it.
        at_random: whether it is drawn by chance, whatever the file says.

    Optuna keeps no sampler's random state with the study, so a sampler that is seeded once would draw its first trials
    again in a resumed sweep. Here every proposal has a sampler of its own, seeded by its number: what it draws depends
    on that and on the study alone, and a resumed sweep draws what an uninterrupted one would.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # Optuna has called NSGA-III and QMC so for years
        name = "random" if at_random else space.search.sampler
        return _seeded_sampler(name, space.search.seed, number, _population(space.budget.trials))


def _population(trials: int | None) -> int:
    """Of a genetic sampler, where a sweep may have so many trials."""
    return LARGEST_POPULATION if trials is None else max(2, min(LARGEST_POPULATION, trials // GENERATIONS))


def _seeded_sampler(name: str, sweep_seed: int, number: int, population: int) -> samplers.BaseSampler:
    seed = int(np.random.SeedSequence([sweep_seed, number]).generate_state(1)[0])
    match name:
        case "tpe":
            # Trials that are still running count as bad ones by default, which keeps parallel trials apart.
            return samplers.TPESampler(seed=seed)
        case "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=population)
        case "nsga3":
            return samplers.NSGAIIISampler(seed=seed, population_size=population)
        case "gp":
            return samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        case "qmc":
            # The place in the sequence is kept with the study; the sequence itself must stay the same.
            return samplers.QMCSampler(seed=sweep_seed, scramble=True, warn_independent_sampling=False)
    return samplers.RandomSampler(seed=seed)


def first_generation(search: Search) -> dict[str, int]:
    """The attributes of a trial that was not drawn here with which a genetic sampler counts it to its first generation.

    Without them it would never be anyone's parent. Other samplers look at all complete trials anyway.
    """
    kinds: dict[str, type[BaseGASampler]] = {"nsga2": samplers.NSGAIISampler, "nsga3": samplers.NSGAIIISampler}
    return {kinds[search.sampler]._get_generation_key(): 0} if search.sampler in kinds else {}


def suggest(trial: Trial, name: str, distribution: Distribution) -> Any:
    """Draw a parameter of a trial, or find what was drawn for it before."""
    match distribution:
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(name, low, high, log=log, step=step)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(name, low, high, log=log, step=step)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
