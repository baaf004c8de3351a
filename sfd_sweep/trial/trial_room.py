"""The trial room as a slot's runtime."""

import torch

from sfd_sweep.config import REFERENCES, SearchSpace, Settings
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.context import TrialContext
from sfd_sweep.trial.files import trial_folder
from sfd_sweep.trial.report import Report
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import Trial, judge


class TrialRoom:
    """A context, and the folder of the sweep whose trials are worked on there."""

    def __init__(self, context: TrialContext, sweep: Folder) -> None:
        self._context = context
        self._sweep = sweep

    @classmethod
    def build(cls, space: SearchSpace, sweep: Folder) -> "TrialRoom":
        """Load it on the worker's GPU if it has one, else on as many threads as it has cores.

        Raises:
            UserError: the teacher or the judge is broken.
        """
        torch.set_num_threads(max(1, int(space.resources.cpus_per_worker)))
        device = "cuda" if space.resources.gpus_per_worker else "cpu"
        return cls(TrialContext.build(resolve_sweep(space), sweep.parent / REFERENCES, device), sweep)

    def start(self, number: int, settings: Settings) -> Trial:
        """A trial, from what its folder holds."""
        return Trial(self._context, settings, trial_folder(self._sweep, number))

    def judge(self, number: int, settings: Settings, *, samples: int, forget_samples: int) -> Report:
        """Evaluate a trial's last generator on so many samples."""
        folder = trial_folder(self._sweep, number)
        return judge(self._context, settings, folder, samples=samples, forget_samples=forget_samples)
