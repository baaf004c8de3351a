"""Which weights a sweep keeps: those of running trials, and the generators of trials on the front."""

import logging
from collections.abc import Collection, Iterable

from sfd_sweep.config import SearchSpace
from sfd_sweep.errors import first_line
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import drop_weights, trial_folder, trials_with_weights

log = logging.getLogger(__name__)


class CheckpointRetention:
    """Removes a trial's training state when the trial has ended, and its generator when it is not on the front.

    Removal follows the study and comes after all events are sent: a driver killed before leaves weights, never a front
    without them, and the next driver removes them. Dominance is transitive, so a removed trial never returns to the
    front. The front is here that of the last reports: a member that the final evaluation takes off keeps its generator.
    """

    def __init__(self, space: SearchSpace, sweep: Folder) -> None:
        self._keeps_all = space.keep_generators == "all"
        self._sweep = sweep
        self._ended: set[int] = set()  # trials that have ended and may have weights

    def find(self, ended: Iterable[int]) -> None:
        """Find which trials that ended in an earlier part of the sweep have weights."""
        self._ended |= set(ended) & trials_with_weights(self._sweep)

    def end(self, number: int) -> None:
        """Note that a trial has ended."""
        self._ended.add(number)

    def keep_only(self, front: Collection[int]) -> None:
        """Remove the weights of ended trials that are not on the front.

        If the storage refuses, the sweep continues; the next call tries again.
        """
        for number in self._ended.difference(() if self._keeps_all else front):
            try:
                drop_weights(trial_folder(self._sweep, number), generators=not self._keeps_all)
            except OSError as error:
                log.warning("the weights of trial %d cannot be removed: %s", number, first_line(error))
            else:
                self._ended.remove(number)
