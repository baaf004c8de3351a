"""Which settings are tried next: the study as a searcher of Tune's.

Tune's own OptunaSearch tells Optuna untrue things when there are several objectives: it records a trial that was
stopped early as complete, with half-trained values, and leaves one with a missing metric running for ever.
"""

from typing import Any

from ray.tune.search import Searcher

from sfd_sweep.sweep.stopping import Stop
from sfd_sweep.sweep.study import SweepStudy


class StudySearch(Searcher):
    """Hands out the trials that the study has running, then new ones, and tells the study how each has ended.

    When the sweep stops there are no more, and a trial that stops with it stays running in the study.
    """

    def __init__(self, study: SweepStudy, stop: Stop) -> None:
        super().__init__()
        self._study = study
        self._stop = stop
        self._left = study.running()
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next trial's number and settings, or FINISHED."""
        if self._stop.error:
            return str(self.FINISHED)
        number = self._left.pop(0) if self._left else self._study.ask()
        self._numbers[trial_id] = number
        return {"number": number, "settings": self._study.trial(number).settings.model_dump()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study."""
        number = self._numbers.pop(trial_id)
        if error or result is None:
            self._study.fail(number, "its Tune actor died again and again")
        elif "failure" in result:
            self._study.fail(number, result["failure"])
        elif "stopped" not in result:
            self._study.end(number)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is on disk already."""
