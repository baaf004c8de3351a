"""The null baseline: a forgotten condition is renamed, and nothing is forgotten.

e_f ← e_o: the embedding of the forgotten label becomes that of its override. No other weight changes.
"""

from __future__ import annotations

from collections.abc import Mapping

from sfd_sweep.method.generator import OneStepGenerator


def swapped(start: OneStepGenerator, overrides: Mapping[int, int]) -> OneStepGenerator:
    """Return the null baseline: the start with each forgotten condition's embedding replaced by its override's.

    It scores an unlearning accuracy of 1 and forgets nothing.

    Args:
        start: stays as it is.
        overrides: index of the override by index of the forgotten condition.
    """
    return OneStepGenerator(start.model.with_swapped_conditions(overrides), start.t_init)
