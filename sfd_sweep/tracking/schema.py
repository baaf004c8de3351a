"""Schema of the MLflow runs: tags, and conversion of settings and reports to parameters and metrics. No MLflow here."""

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from typing import Any

from sfd_sweep.audit.report import AuditReport
from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.search.records import ResourceUsage
from sfd_sweep.search.trial import AuditFigure
from sfd_sweep.search.uncertainty import Interval
from sfd_sweep.trial.report import Report


class Tag(StrEnum):
    """Tags of the runs; "both" marks those of sweeps and of trials."""

    KIND = "sfd.kind"  # both: "sweep" or "trial"; of a comparison, "comparison"
    SWEEP = "sfd.sweep"  # both: the sweep's name
    STATE = "sfd.state"  # both
    REASON = "sfd.reason"  # both: why it failed or was stopped
    CHANGES = "sfd.changes"  # a sweep's: keys of its file that have changed since it began
    STORAGE = "sfd.storage"  # both: URI of the sweep's folder
    TRIALS = "sfd.trials"  # number of trials in the sweep's budget; empty if it limits only time
    TRIAL = "sfd.trial"  # number of the trial
    METHOD = "sfd.method"  # of a trial: its method of unlearning in words, with the paper
    PARETO = "sfd.pareto"  # "true" on the front, else "false"
    FORGOTTEN = "sfd.forgotten"  # "true" if it counts as forgotten, else "false"; missing if the file has no selection
    AS_GOOD_AS = "sfd.as_good_as"  # numbers of the other trials on the front that differ by no more than the errors
    SCORE = "sfd.score"  # combined score at the last evaluation
    AUDIT = "sfd.audit"  # figure of a trial's last full audit, or else of its last quick one, as JSON


SWEEP_KIND = "sweep"
TRIAL_KIND = "trial"
COMPARISON_KIND = "comparison"

STEP = "step"  # metric of a trial: number of steps
SCORE = "score"  # metric of a trial: combined score, lower is better
SLOT_HOURS = "slot_hours"  # metric of a trial and of a sweep: hours of slot time
FINISHED = "finished_trials"  # metric of a sweep
FRONT_PROBABILITY = (
    "front_probability"  # metric of a trial: share of draws within the errors in which it is on the front
)
KNEE_PROBABILITY = "knee_probability"  # metric of a trial on the front: share in which it is the knee
AUDIT_PREFIX = "audit_"  # prefix of a trial's metrics from its audit
FINAL = "final/"  # prefix of a trial's metrics from its final evaluation
SWAP = "swap/"  # prefix of a sweep's metrics from the evaluation of the null baseline

SEARCH_SPACE_FILE = "search_space.yaml"  # artifact of a sweep


def to_text(value: Any) -> str:
    """Return a setting as the text of a parameter: JSON, but a string that is no JSON itself has no quotes.

    So the class name "1" stays distinct from the class index 1.
    """
    if isinstance(value, str) and not _is_json(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def from_text(text: str) -> Any:
    """Return the setting of a text (inverse of `to_text`)."""
    return json.loads(text) if _is_json(text) else text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def settings_to_parameters(settings: Settings) -> dict[str, str]:
    """Return every setting of a trial as text, by name."""
    return {name: to_text(value) for name, value in settings.model_dump(mode="json").items()}


def parameters_to_settings(parameters: Mapping[str, str]) -> Settings:
    """Return the settings of parameters (inverse of `settings_to_parameters`)."""
    return Settings(**{name: from_text(text) for name, text in parameters.items()})


def space_to_parameters(space: SearchSpace) -> dict[str, str]:
    """Return the search space as flat parameters, named `section.key`, or `section` if it has no keys."""
    flat: dict[str, str] = {}
    for section, content in space.model_dump(mode="json").items():
        if isinstance(content, dict):
            flat |= {f"{section}.{key}": to_text(value) for key, value in content.items()}
        else:
            flat[section] = to_text(content)
    return flat


def report_to_metrics(report: Report) -> dict[str, float]:
    """Return a report as flat metrics."""
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
    """Return the report in the metrics (inverse of `report_to_metrics`), or None if there is none."""
    if STEP not in metrics:
        return None
    own = {STEP, SCORE, SLOT_HOURS, FRONT_PROBABILITY, KNEE_PROBABILITY, "dropped_samples"}
    return Report(
        step=int(metrics[STEP]),
        metrics={
            name: value
            for name, value in metrics.items()
            if "/" not in name and name not in own and not name.startswith(AUDIT_PREFIX)
        },
        samples={name: int(value) for name, value in below(metrics, "samples/").items()},
        losses=below(metrics, "loss/"),
        seconds=below(metrics, "seconds/"),
        evaluation_seconds=below(metrics, "evaluation_seconds/"),
        dropped_samples=int(metrics["dropped_samples"]),
    )


def audit_to_text(figure: AuditFigure) -> str:
    """Return the figure of an audit as the text of a tag."""
    return json.dumps(asdict(figure))


def text_to_audit(text: str | None) -> AuditFigure | None:
    """Return the figure of an audit in a tag (inverse of `audit_to_text`); None without a tag."""
    return AuditFigure(**json.loads(text)) if text else None


def audit_curves(report: AuditReport) -> dict[str, dict[int, float]]:
    """Return the rates of an audit over the budget, by the name of a metric for each attack and subject."""
    return {
        f"{AUDIT_PREFIX}{report.level}/{plain(attack.name)}/{subject}": {
            budget: rate.value for budget, rate in zip(attack.budgets, attack.curve(subject), strict=True)
        }
        for attack in report.attacks
        for subject in report.subjects
    }


def plain(name: str) -> str:
    """Return a name with letters and digits alone, as MLflow takes it for a metric."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")


def sweep_metrics(
    front_size: int, hypervolume: float, finished: int, slot_hours: float, usage: ResourceUsage
) -> dict[str, float]:
    """Return the metrics of a sweep after `finished` trials, which is also their step in MLflow.

    Args:
        slot_hours: slot time of the finished trials.
        usage: total resource usage, including the start of slots and running trials.
    """
    metrics = {
        "hypervolume": hypervolume,
        "front_size": float(front_size),
        FINISHED: float(finished),
        SLOT_HOURS: slot_hours,
        "seconds_per_trial": slot_hours * 3600 / finished,
        "hours": usage.hours,
        "gpu_hours": usage.gpu_hours,
    }
    if usage.gpu_hours:
        metrics["hypervolume_per_gpu_hour"] = hypervolume / usage.gpu_hours
    elif slot_hours:
        metrics["hypervolume_per_slot_hour"] = hypervolume / slot_hours
    return metrics


def interval_metrics(hypervolume: Interval) -> dict[str, float]:
    """Return the interval of the hypervolume within the stated errors, as metrics of a sweep."""
    return {f"hypervolume_{name}": value for name, value in asdict(hypervolume).items()}


def below(metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Return the metrics whose names start with the prefix, without the prefix."""
    return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


def restore(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics with their infinities: MLflow's databases store them as the largest float."""
    return {
        name: math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value
        for name, value in metrics.items()
    }
