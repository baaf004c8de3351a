"""A lab that trains nothing: its figures follow from the settings and the step, and it notes what was asked of it."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.errors import TrialFailed, UserError
from sfd_sweep.storage import Folder
from sfd_sweep.trial.layout import GRID, REPORT, read_report, reported_steps, step_folder, trial_folder
from sfd_sweep.trial.report import Report

EVENTS = "events.jsonl"


def figures(settings: Settings, step: int) -> dict[str, float]:
    """Figures with a trade-off over guidance_scale, which get better with every step."""
    x = settings.guidance_scale - 1
    return {"fd_classifier": 1 + x + 10 / step, "unlearning_accuracy": x, "override_distance": 10.0}
