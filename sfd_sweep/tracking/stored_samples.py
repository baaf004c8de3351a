"""Sample grids and audits of a sweep's trials, as its storage has them."""

import base64
import io
from collections.abc import Mapping
from functools import cached_property

from PIL import Image

from sfd_sweep.audit.report import AuditReport
from sfd_sweep.errors import UserError
from sfd_sweep.search.trial import Trial
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.audits import FOLDER as AUDITS
from sfd_sweep.trial.files import GRID, START_GRID, step_folder, trial_folder

MOST_COLORS = 4096
"""Pictures with more colors than this, such as photographs, are encoded with losses."""
LARGEST_SIDE = 900
"""Of a picture that is encoded with losses, in pixels."""


class StoredSamples:
    """Reads pictures for a page, each one once: that of a step never changes."""

    def __init__(self, sweep: Folder) -> None:
        self._sweep = sweep
        self._found: dict[tuple[int, int], str] = {}

    def grid(self, trial: Trial) -> str | None:
        """Return the sample grid of a trial's last evaluation as a data URI; None if it is missing or broken."""
        if trial.report is None:
            return None
        key = trial.number, trial.report.step
        if key not in self._found and (found := _picture(step_folder(trial_folder(self._sweep, key[0]), key[1]), GRID)):
            self._found[key] = found
        return self._found.get(key)

    @cached_property
    def start(self) -> str | None:
        """The sample grid of the start on the same noise as a data URI; None if it is missing or broken."""
        return _picture(self._sweep, START_GRID)

    def audits(self, trials: Mapping[int, str]) -> dict[int, AuditReport]:
        """Return the audits of trials by number, without those that are missing or broken.

        Args:
            trials: the level of the audit by the trial's number.
        """
        found = {number: self._audit(number, level) for number, level in trials.items()}
        return {number: report for number, report in found.items() if report}

    def _audit(self, number: int, level: str) -> AuditReport | None:
        folder = trial_folder(self._sweep, number) / AUDITS
        try:
            return AuditReport.parse(folder.read(f"audit-{level}.json"), str(folder))
        except (OSError, UserError):
            return None


def _picture(folder: Folder, name: str) -> str | None:
    try:
        picture = Image.open(io.BytesIO(folder.read(name)))
        return _as_webp(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError):  # what Pillow raises for broken files, too
        return None


def _as_webp(picture: Image.Image) -> str:
    """Return a picture as a data URI: without losses if it has few colors."""
    stream = io.BytesIO()
    if picture.getcolors(MOST_COLORS):
        picture.save(stream, "WEBP", lossless=True)
    else:
        picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        picture.save(stream, "WEBP", quality=75)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
