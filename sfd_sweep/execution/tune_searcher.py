"""Which settings are tried next: the study as a searcher of Tune's.

Tune's own OptunaSearch tells Optuna untrue things when there are several objectives: it records a trial that was
stopped early as complete, with half-trained values, and leaves one with a missing metric running for ever.
"""

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from sfd_sweep.execution.stopping import Stop
from sfd_sweep.search.budget import BudgetTracker
from sfd_sweep.search.study import NothingNew, SweepStudy


class StudySearch(Searcher):
    """Hands out the trials that the study has running, then new ones, and tells the study how each has ended.

    When the budget is used up there are no new ones, and those that run go on to their end. When the sweep stops there
    are none either, and a trial that stops with it stays running in the study.

    Args:
        why_stopped: why the scheduler stopped a trial, by Tune's id; None where it does not tell.
        say: is told when the budget is used up.
    """

    def __init__(
        self,
        study: SweepStudy,
        spending: BudgetTracker,
        stop: Stop,
        *,
        why_stopped: Callable[[str], str | None],
        say: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._study = study
        self._spending = spending
        self._stop = stop
        self._why_stopped = why_stopped
        self._say = say
        self._left = study.running()
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next trial's number and settings; or that there are no more."""
        if self._stop.error:
            return str(self.FINISHED)
        if not self._left and (limit := self._spending.used_up()):
            self._say(f"the budget of {limit} is used up; trials that run go on to their end")
            return str(self.FINISHED)
        number = self._next()
        if number is None:
            return str(self.FINISHED)
        self._numbers[trial_id] = number
        return {"number": number, "settings": self._study.trial(number).settings.model_dump()}

    def _next(self) -> int | None:
        if self._left:
            return self._left.pop(0)
        try:
            return self._study.ask()
        except NothingNew:
            self._say("no new trial: the sampler proposes nothing that has not been tried")
            return None
        finally:
            for repeat in self._study.take_repeats():
                self._say(repeat)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study."""
        number = self._numbers.pop(trial_id)
        if error or result is None:
            self._study.fail(number, "its Tune actor died again and again")
        elif "failure" in result:
            self._study.fail(number, result["failure"])
        elif "stopped" not in result:
            self._study.end(number, self._why_stopped(trial_id))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is on disk already."""
