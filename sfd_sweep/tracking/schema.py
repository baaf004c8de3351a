"""The words of the store: its tags, and how settings and reports are written as parameters and metrics and read back.

Imports no MLflow.
"""

import json
import math
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.search.records import ResourceUsage
from sfd_sweep.trial.report import Report


class Tag(StrEnum):
    """Tags of the runs. Those of a sweep and of its trials alike are marked (both)."""

    KIND = "sfd.kind"  # both: "sweep" or "trial"
    SWEEP = "sfd.sweep"  # both: the sweep's name
    STATE = "sfd.state"  # both
    REASON = "sfd.reason"  # both: why it failed or was stopped
    STORAGE = "sfd.storage"  # both: URI of the sweep's folder
    TRIALS = "sfd.trials"  # most trials that the sweep's budget allows; empty if it limits time alone
    TRIAL = "sfd.trial"  # number of the trial
    PARETO = "sfd.pareto"  # "true" on the front, else "false"
    SCORE = "sfd.score"  # combined score at the last evaluation


SWEEP_KIND = "sweep"
TRIAL_KIND = "trial"

STEP = "step"  # metric of a trial: updates done
SCORE = "score"  # metric of a trial: combined score, lower is better
SLOT_HOURS = "slot_hours"  # metric of a trial and of a sweep: hours of slot time so far
FINISHED = "finished_trials"  # metric of a sweep
FINAL = "final/"  # prefix of the metrics of a trial that was judged once more

SEARCH_SPACE_FILE = "search_space.yaml"  # artifact of a sweep


def to_text(value: Any) -> str:
    """A setting as the text of a parameter: JSON, but without quotes where a string cannot be taken for anything else.

    The class name "1" stays distinct from the class index 1, and random reads as random.
    """
    if isinstance(value, str) and not _is_json(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def from_text(text: str) -> Any:
    """The inverse of `to_text`."""
    return json.loads(text) if _is_json(text) else text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def settings_to_parameters(settings: Settings) -> dict[str, str]:
    """Every setting of a trial, by name, as text."""
    return {name: to_text(value) for name, value in settings.model_dump(mode="json").items()}


def parameters_to_settings(parameters: Mapping[str, str]) -> Settings:
    """The inverse of `settings_to_parameters`."""
    return Settings(**{name: from_text(text) for name, text in parameters.items()})


def space_to_parameters(space: SearchSpace) -> dict[str, str]:
    """The resolved search-space file as flat parameters: `section.key`, or the section if it has no keys."""
    flat: dict[str, str] = {}
    for section, content in space.model_dump(mode="json").items():
        if isinstance(content, dict):
            flat |= {f"{section}.{key}": to_text(value) for key, value in content.items()}
        else:
            flat[section] = to_text(content)
    return flat


def report_to_metrics(report: Report) -> dict[str, float]:
    """A report as flat metrics, ints as floats."""
    return {
        STEP: float(report.step),
        "dropped_samples": float(report.dropped_samples),
        **report.metrics,
        **{f"samples/{name}": float(count) for name, count in report.samples.items()},
        **{f"loss/{name}": value for name, value in report.losses.items()},
        **{f"seconds/{name}": value for name, value in report.seconds.items()},
        **{f"evaluation_seconds/{name}": value for name, value in report.evaluation_seconds.items()},
    }


def metrics_to_report(metrics: Mapping[str, float]) -> Report | None:
    """The inverse of `report_to_metrics`; None if there is no report among the metrics."""
    if STEP not in metrics:
        return None
    own = {STEP, SCORE, SLOT_HOURS, "dropped_samples"}
    return Report(
        step=int(metrics[STEP]),
        metrics={name: value for name, value in metrics.items() if "/" not in name and name not in own},
        samples={name: int(value) for name, value in below(metrics, "samples/").items()},
        losses=below(metrics, "loss/"),
        seconds=below(metrics, "seconds/"),
        evaluation_seconds=below(metrics, "evaluation_seconds/"),
        dropped_samples=int(metrics["dropped_samples"]),
    )


def sweep_metrics(
    front_size: int, hypervolume: float, finished: int, slot_hours: float, spent: ResourceUsage
) -> dict[str, float]:
    """The metrics of a sweep after so many trials have ended; MLflow has them by that number.

    Args:
        slot_hours: hours that slots have spent on these trials.
        spent: what the sweep has spent in all, also on starting slots and on trials that still run.

    Returns:
        `hypervolume` and `front_size`; `finished_trials`; `slot_hours`, and `seconds_per_trial`, the same for one
        finished trial on average; `hours` and `gpu_hours`, the sweep's spending as its budget counts it; and
        `hypervolume_per_gpu_hour`, or `hypervolume_per_slot_hour` where no GPU is used.
    """
    metrics = {
        "hypervolume": hypervolume,
        "front_size": float(front_size),
        FINISHED: float(finished),
        SLOT_HOURS: slot_hours,
        "seconds_per_trial": slot_hours * 3600 / finished,
        "hours": spent.hours,
        "gpu_hours": spent.gpu_hours,
    }
    if spent.gpu_hours:
        metrics["hypervolume_per_gpu_hour"] = hypervolume / spent.gpu_hours
    elif slot_hours:
        metrics["hypervolume_per_slot_hour"] = hypervolume / slot_hours
    return metrics


def below(metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
    """The metrics whose name starts with the prefix, by the rest of their name."""
    return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


def restore(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics as they were written: MLflow's databases keep an infinity as the largest float."""
    return {
        name: math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value
        for name, value in metrics.items()
    }
