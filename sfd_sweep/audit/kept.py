"""Tensors that audits compute once: images of a teacher, and prompts that a text encoder alone decides on."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sfd_sweep.evaluation.reference_statistics import cached
from sfd_sweep.storage.folder import Folder


class Kept:
    """Tensors by what they depend on, in this process and in a folder.

    Args:
        folder: that audits share; None keeps them in this process alone.
    """

    def __init__(self, folder: Folder | None = None) -> None:
        self._folder = folder
        self._known: dict[str, dict[str, Tensor]] = {}

    def get(self, what: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return tensors, computed if nobody has done it before.

        Args:
            what: everything that they depend on.
            compute: returns tensors on the CPU.
        """
        if what not in self._known:
            self._known[what] = cached(self._folder, what, compute)
        return self._known[what]
