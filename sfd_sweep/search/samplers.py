"""The search-space file's sampler as Optuna's."""

import warnings
from typing import assert_never

import numpy as np
from optuna import samplers
from optuna.exceptions import ExperimentalWarning
from optuna.samplers._ga import BaseGASampler

from sfd_sweep.config import Search, SearchSpace
from sfd_sweep.config.schema import Sampler
from sfd_sweep.search.multi_fidelity import MultiFidelitySampler

GENERATIONS = 5
"""A genetic sampler's population is so small that a sweep has this many, if it has trials for it."""

LARGEST_POPULATION = 50
"""Optuna's default, also for a sweep whose number of trials is not limited."""


def make_sampler(space: SearchSpace, number: int, *, at_random: bool = False) -> samplers.BaseSampler:
    """Return the sampler for one proposal.

    Optuna keeps no sampler's random state with the study, so a sampler that is seeded once would draw its first trials
    again in a resumed sweep. Here every proposal has a sampler of its own, seeded by its number: what it draws depends
    on that and on the study alone, and a resumed sweep draws what an uninterrupted one would.

    Args:
        number: of proposals before it.
        at_random: whether to draw at random, whatever the file says.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # Optuna has called NSGA-III and QMC so for years
        name: Sampler = "random" if at_random else space.search.sampler
        return _seeded_sampler(name, space, number)


def _population(trials: int | None) -> int:
    return LARGEST_POPULATION if trials is None else max(2, min(LARGEST_POPULATION, trials // GENERATIONS))


def _seeded_sampler(name: Sampler, space: SearchSpace, number: int) -> samplers.BaseSampler:  # noqa: PLR0911
    sweep_seed, population = space.search.seed, _population(space.budget.trials)
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
        case "mfgp":
            return MultiFidelitySampler(space, seed)
        case "qmc":
            # The place in the sequence is kept with the study; the sequence itself must stay the same.
            return samplers.QMCSampler(seed=sweep_seed, scramble=True, warn_independent_sampling=False)
        case "random":
            return samplers.RandomSampler(seed=seed)
    assert_never(name)


def first_generation(search: Search) -> dict[str, int]:
    """Return the system attributes that put an earlier sweep's trial into a genetic sampler's first generation.

    Without them it would never be a parent. Other samplers look at all complete trials anyway.
    """
    kinds: dict[str, type[BaseGASampler]] = {"nsga2": samplers.NSGAIISampler, "nsga3": samplers.NSGAIIISampler}
    return {kinds[search.sampler]._get_generation_key(): 0} if search.sampler in kinds else {}
