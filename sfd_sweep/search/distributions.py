"""The search-space file's distributions as Optuna's."""

from optuna import distributions

from sfd_sweep.config import CategoricalDistribution, Distribution, FloatDistribution


def to_optuna(found: Distribution) -> distributions.BaseDistribution:
    """The same distribution, without its condition."""
    if isinstance(found, CategoricalDistribution):
        return distributions.CategoricalDistribution(found.choices)
    if isinstance(found, FloatDistribution):
        return distributions.FloatDistribution(found.low, found.high, log=found.log, step=found.step)
    return distributions.IntDistribution(found.low, found.high, log=found.log, step=found.step)
