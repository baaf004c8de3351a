"""Checks of an audit's controls: a generator that never knew what is forgotten."""

from __future__ import annotations

import shlex

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.method.generator import OneStepGenerator


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
