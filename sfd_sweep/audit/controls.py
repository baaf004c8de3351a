"""Controls of an audit: the start, a generator that never knew, and the null baseline `swap`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.conditions import Conditions
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

    Args:
        control: any of them.
        generator: that is audited.
        source: of the control, for messages.

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


def check_never_knew(control: OneStepGenerator, conditions: Conditions, source: str) -> None:
    """Check that a control never knew what is forgotten, and knows what is retained.

    Args:
        control: of the same conditions.
        conditions: of the audited generator.
        source: of the control, for messages.

    Raises:
        UserError: its folder does not say that it was trained without what is forgotten (see
            `models.conditioning.ABSENT`), or says that it was trained without more.
    """
    absent, names = control.model.conditioning.absent, conditions.names
    for index in conditions.forget:
        if index not in absent:
            what = shlex.quote(conditions.subjects[index])
            raise UserError(
                f"audit.control: {source} is not known to have been trained without {names[index]!r}, so it is no "
                f"control; make one: sfd-sweep pretrain … --without {what}, and distill it"
            )
    for index in (*conditions.retain, *conditions.evaluated):
        if index in absent:
            raise UserError(
                f"audit.control: {source} was trained without {names[index]!r} too, which is retained; make a control "
                "that lacks nothing but what is forgotten"
            )
