"""Tune's side of a trial: an actor without a model, which has a slot run one evaluation after another."""

import sys
from typing import Any

import ray
from ray import tune

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.execution.commands import Advance, Failure
from sfd_sweep.search.scores import combined_score
from sfd_sweep.trial.report import Report

RESOURCES = {"node:__internal_head__": 0.0001}
"""Nothing that a slot needs: slots hold every CPU, and Tune rejects resources that are all zero. It is the
least amount that Ray knows, so that ten thousand trials have room at a time."""

WORST = sys.float_info.max


class SlotTrainable(tune.Trainable):
    """One trial after another; Tune reuses the actor for the next.

    It saves no checkpoint: a slot answers at once for steps that have a report, so a restarted actor, like the trial of
    a resumed sweep, replays its earlier reports.
    """

    def setup(self, config: dict[str, Any], broker: Any, space: SearchSpace) -> None:
        """Store the broker's handle and the search space."""
        self._broker = broker
        self._space = space
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Switch to another trial."""
        self._number = int(new_config["number"])
        self._settings = Settings(**new_config["settings"])
        self._milestones = iter(self._space.trial.milestones())
        return True

    def step(self) -> dict[str, Any]:
        """Advance the trial to its next evaluation.

        Returns:
            `tune_result` of the report; or the reason as `failure`; or `stopped`, if the sweep stops first. Tune
            requires a `score` in all three.
        """
        to = next(self._milestones)
        result = ray.get(self._broker.call.remote(Advance(self._number, self._settings, to)))
        if isinstance(result, Report):
            return tune_result(result, self._space) | {"done": to == self._space.trial.steps}
        outcome = {"failure": result.reason} if isinstance(result, Failure) else {"stopped": True}
        return outcome | {"score": WORST, "done": True}


def tune_result(report: Report, space: SearchSpace) -> dict[str, Any]:
    """Return what schedulers decide on: `step`, the `report` as JSON, and the combined `score` (lower is better).

    The score is finite, since Tune's rungs take quantiles of it.
    """
    score = combined_score(report.metrics, space.objectives, space.constraints)
    return {"step": report.step, "report": report.to_json(), "score": min(score, WORST)}
