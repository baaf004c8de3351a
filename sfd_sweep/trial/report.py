"""The report of one evaluation of a trial, as plain data. Imports no torch."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class TrialState(StrEnum):
    """The state of a trial."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Report:
    """The result of one evaluation of a trial.

    Attributes:
        step: number of steps so far.
        metrics: by name, see `sfd_sweep.metrics.METRICS`.
        samples: number of evaluated images: `retained`, `forgotten` and, if there are any, `held_out` and `attacked`.
        losses: mean over the steps since the last evaluation: `generator` and `fake_score`.
        seconds: since the last evaluation: `training`, `evaluating`, `saving`; the driver adds `waiting`, the slot's
            idle time before.
        dropped_samples: samples excluded from updates since the last evaluation because of a non-finite loss.
        evaluation_seconds: parts of `evaluating`: `sampling`, `scoring`, `comparing`, and `attacking` if a metric needs
            it; the sample grid takes the rest.
    """

    step: int
    metrics: dict[str, float]
    samples: dict[str, int]
    losses: dict[str, float]
    seconds: dict[str, float]
    dropped_samples: int = 0
    evaluation_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def busy_seconds(self) -> float:
        """Seconds that the slot worked on the trial, without waiting."""
        return sum(spent for name, spent in self.seconds.items() if name != "waiting")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-compatible data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Report":
        """Return the report of `to_dict`; raise TypeError if a field is missing or unknown."""
        return cls(**fields)

    def to_json(self) -> str:
        """Return the report as a JSON object."""
        return json.dumps(self.to_dict(), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Report":
        """Return the report of `to_json`; raise TypeError or ValueError if the text is invalid."""
        return cls.from_dict(json.loads(text))
