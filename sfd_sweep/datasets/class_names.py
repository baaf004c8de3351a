"""Labels of a dataset put into the words, and the order, of a model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sfd_sweep.errors import UserError


def name_classes(
    labels: NDArray[np.int64], own: tuple[str, ...] | None, given: tuple[str, ...] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The labels as indices into the names that are in force, and these names.

    Names that are given win: labels with names of their own are renumbered by name, others are taken to be indices into
    the given ones. With no names at all the classes are called "0", "1", … up to the largest label.

    Args:
        labels: (n,), none negative, at least one.
        own: the names that the data has, by label.
        given: a model's names, by index.

    Raises:
        UserError: the given names are of other classes.
    """
    if given is None:
        return labels, own or tuple(map(str, range(int(labels.max()) + 1)))
    if own is None:
        beyond = int((labels >= len(given)).sum())
        if beyond:
            raise UserError(
                f"{beyond:,} of {len(labels):,} labels name no class: there are {len(given)} classes, and labels up "
                f"to {labels.max()}; give images of the model's classes"
            )
        return labels, given
    if own == given:
        return labels, given
    _check_same(own, given)
    return np.array([given.index(name) for name in own], np.int64)[labels], given


def _check_same(own: tuple[str, ...], given: tuple[str, ...]) -> None:
    for names, others, whose in ((given, own, "the images have"), (own, given, "the model has")):
        missing = [name for name in names if name not in others]
        if missing:
            raise UserError(f"{whose} no class {missing[0]!r}; give images whose classes are called as the model's are")
    if len(set(own)) < len(own) or len(own) != len(given):
        raise UserError("two classes of the images have the same name, so that their order cannot be told; rename one")
