"""Controls of an audit: the start, a generator that never knew, and the null baseline `swap`."""

from __future__ import annotations

from collections.abc import Mapping

from sfd_sweep.errors import UserError
from sfd_sweep.method.generator import OneStepGenerator


def swapped(start: OneStepGenerator, overrides: Mapping[int, int]) -> OneStepGenerator:
    """Return the null baseline: the start with each forgotten condition's embedding replaced by its override's.

    It scores an unlearning accuracy of 1 and forgets nothing.

    Args:
        start: stays as it is.
        overrides: index of the override by index of the forgotten condition.
    """
    return OneStepGenerator(start.model.with_swapped_conditions(overrides), start.t_init)


def check_control(control: OneStepGenerator, generator: OneStepGenerator, source: str) -> None:
    """Check that a control can be compared with a generator.

    Raises:
        UserError: it has other conditions, another image size, or another t_init.
    """
    if control.condition_names != generator.condition_names:
        raise UserError(f"{source} has other {generator.kind.plural} than the generator; give another control")
    for name, own, wanted in (
        ("images of shape", control.image_shape, generator.image_shape),
        ("t_init", control.t_init, generator.t_init),
    ):
        if own != wanted:
            raise UserError(f"{source} has {name} {own}, and the generator {wanted}; give another control")
