"""Tune's side of a trial: it holds no model and does no work, but has a slot do it, one evaluation after another."""

import sys
from typing import Any

import ray
from ray import tune

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.execution.commands import Advance, Done, Failed
from sfd_sweep.search.objectives import combined_score
from sfd_sweep.trial.report import Report

RESOURCES = {"node:__internal_head__": 0.001}
"""Nothing that a slot needs: slots hold every CPU, and Tune refuses resources that are all zero."""

WORST = sys.float_info.max


class SlotTrainable(tune.Trainable):
    """One trial after another; an actor is used again by the next.

    It keeps no checkpoint: a slot answers at once for steps that are reported already, so an actor that was started
    again, like the trial of a resumed sweep, goes through its earlier reports from the first.
    """

    def setup(self, config: dict[str, Any], broker: Any, space: SearchSpace) -> None:
        """Remember the broker's handle and the sweep."""
        self._broker = broker
        self._space = space
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial."""
        self._number = int(new_config["number"])
        self._settings = Settings(**new_config["settings"])
        self._milestones = iter(self._space.trial.milestones())
        return True

    def step(self) -> dict[str, Any]:
        """Have the trial advanced to its next evaluation.

        Returns:
            `step`, `score`, `report` and `waiting_seconds`; or `failure`, the reason; or `stopped`, if the sweep stops
            before this evaluation. The latter two have a `score` for Tune, which insists on one.
        """
        to = next(self._milestones)
        answer = ray.get(self._broker.call.remote(Advance(self._number, self._settings, to)))
        if isinstance(answer, Done):
            own = {"waiting_seconds": answer.waiting_seconds, "done": to == self._space.trial.steps}
            return standing(answer.report, self._space) | own
        if isinstance(answer, Failed):
            return {"failure": answer.reason, "score": WORST, "done": True}
        return {"stopped": True, "score": WORST, "done": True}


def standing(report: Report, space: SearchSpace) -> dict[str, Any]:
    """What a scheduler decides on: `step`, the `report` itself, and `score`, the combined one (lower is better).

    The score is finite, as a rung of Tune's takes quantiles of it.
    """
    score = combined_score(report.metrics, space.objectives, space.constraints)
    return {"step": report.step, "report": report.to_json(), "score": min(score, WORST)}
