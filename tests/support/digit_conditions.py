"""The conditions of digits, some of them forgotten."""

from sfd_sweep.evaluation.conditions import Conditions

DIGITS = tuple("0123456789")


def digits_without(*forget: int) -> Conditions:
    return Conditions.of_classes(DIGITS, forget)
