"""What weights a sweep keeps: those of trials that have not ended, and the generators of the front's members."""

import logging
from collections.abc import Collection, Iterable

from sfd_sweep.config import SearchSpace
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import drop_weights, trial_folder, trials_with_weights

log = logging.getLogger(__name__)


class CheckpointRetention:
    """The weights in a sweep's folder. What a trial would go on from is removed when it has ended, and its generator
    when the front has no place for it, or no longer.

    What is removed is decided by what the study says, after the study has it and everyone was told: a driver that is
    killed before leaves weights, never a front without them, and the next driver removes them. Doing so twice is the
    same as once. A trial that has lost its place never comes back: whoever takes the place of the one that dominates it
    dominates it too.
    """

    def __init__(self, space: SearchSpace, sweep: Folder) -> None:
        self._keeps_all = space.keep_generators == "all"
        self._sweep = sweep
        self._ended: set[int] = set()  # trials that have ended and may have weights

    def find(self, ended: Iterable[int]) -> None:
        """Look which of the trials that have ended in an earlier part of the sweep have weights."""
        self._ended |= set(ended) & trials_with_weights(self._sweep)

    def end(self, number: int) -> None:
        """A trial has ended."""
        self._ended.add(number)

    def keep_only(self, front: Collection[int]) -> None:
        """Remove the weights of trials that have ended and are not on the front.

        A storage that refuses does not stop the sweep: it is asked again when the next trial ends.
        """
        for number in self._ended.difference(() if self._keeps_all else front):
            try:
                drop_weights(trial_folder(self._sweep, number), generators=not self._keeps_all)
            except OSError as error:
                log.warning("the weights of trial %d cannot be removed: %s", number, str(error).splitlines()[0])
            else:
                self._ended.remove(number)
