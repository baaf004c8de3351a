"""What a trial says of itself at an evaluation. Plain data: it travels between processes and imports no torch."""

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class TrialState(StrEnum):
    """What has become of a trial."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Report:
    """One evaluation of one trial.

    Attributes:
        step: updates done so far.
        metrics: by the names of `sfd_sweep.config.METRICS`.
        samples: how many images the metrics rest on: `retained` and `forgotten`.
        losses: mean over the steps since the last evaluation: `generator` and `fake_score`.
        seconds: spent since the last evaluation: `training`, `evaluating`, `saving`.
        dropped_samples: samples left out of an update since the last evaluation because their loss was not finite.
        evaluation_seconds: where those of `evaluating` went: `sampling`, `judging`, `comparing`; the grid has the rest.
    """

    step: int
    metrics: dict[str, float]
    samples: dict[str, int]
    losses: dict[str, float]
    seconds: dict[str, float]
    dropped_samples: int = 0
    evaluation_seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """The report as a JSON object."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Report":
        """The inverse of `to_json`."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**fields)
