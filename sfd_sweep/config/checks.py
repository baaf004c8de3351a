"""What no section of a search space can know alone: mistakes that lie between sections."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sfd_sweep.config.config_errors import ConfigError, KeyPath, advice
from sfd_sweep.config.parameters import Distribution, Parameters, drawing_order
from sfd_sweep.metrics.registry import METRICS, ReferenceKind

if TYPE_CHECKING:
    from sfd_sweep.config.schema import Task


REFERENCES = "references"
"""A folder in a sweep's storage that all sweeps there share."""


def reserved_name(name: str) -> Iterator[ConfigError]:
    """A sweep's folder cannot be that of the shared references."""
    if name == REFERENCES:
        yield ConfigError(("name",), f"{name} is the folder where sweeps share their references; choose another name")


def nothing_searched(parameters: Parameters) -> Iterator[ConfigError]:
    """A sweep without a distribution would run the same trial again and again."""
    if not parameters.searched():
        example = "{type: float, low: 1.0e-5, high: 1.0e-3, log: true}"
        yield ConfigError(
            ("parameters",), f"nothing is searched; give a parameter a distribution: generator_lr: {example}"
        )


def bad_first_points(points: Sequence[Mapping[str, Any]], parameters: Parameters) -> Iterator[ConfigError]:
    """Values to try first that the search could never have drawn."""
    searched = parameters.searched()
    for index, point in enumerate(points):
        for name, value in point.items():
            path = ("search", "first", index, name)
            if name not in Parameters.model_fields:
                yield ConfigError(path, f"unknown parameter{advice(name, searched)}")
            elif name not in searched:
                yield ConfigError(
                    path, f"{name} is not searched; remove it here, or give parameters.{name} a distribution"
                )
            elif not searched[name].contains(value):
                yield ConfigError(path, f"must be {searched[name]} as in parameters.{name}, not {value!r}")
            elif not _is_drawn(name, point, searched):
                yield ConfigError(
                    path, f"is drawn only where {searched[name].condition()}; set that here too, or remove it"
                )


def _is_drawn(name: str, point: Mapping[str, Any], searched: Mapping[str, Distribution]) -> bool:
    """Whether a first point sees to it that the condition of a parameter holds."""
    values: dict[str, Any] = {}
    for other in drawing_order(searched):
        distribution = searched[other]
        if distribution.applies(values):
            values[other] = point.get(other)
        elif any(values[condition] is None for condition in distribution.conditions()):
            values[other] = None  # the sampler decides
        else:
            values[other] = distribution.otherwise
    return searched[name].applies(values)


def unconditional_sampler(sampler: str, parameters: Parameters) -> Iterator[ConfigError]:
    """A sequence that fills one space evenly, over a space that is not the same for every trial."""
    conditional = [name for name, distribution in parameters.searched().items() if distribution.when]
    if sampler == "qmc" and conditional:
        yield ConfigError(
            ("search", "sampler"),
            f"qmc knows no conditions, and {conditional[0]} has one; choose tpe, or remove `when`",
        )


def gpu_hours_without_gpus(gpu_hours: float | None, gpus_per_worker: float) -> Iterator[ConfigError]:
    """A limit that would never be reached."""
    if gpu_hours is not None and not gpus_per_worker:
        yield ConfigError(
            ("budget", "gpu_hours"), "no GPU is used, as resources.gpus_per_worker is 0; write hours instead"
        )


def impossible_override(parameters: Parameters, forget: Sequence[int | str]) -> Iterator[ConfigError]:
    """A forgotten class in its own place, or a list that does not fit the forgotten classes, as far as names tell."""
    override = dict(parameters)["override"]
    path = ("parameters", "override")
    if isinstance(override, tuple) and len(override) != len(forget):
        yield ConfigError(path, f"must have as many classes as are forgotten ({len(forget)}), not {len(override)}")
    for name in forget:
        if isinstance(override, Distribution):
            forgotten = override.contains(name) or override.otherwise == name
        else:
            forgotten = name in (override if isinstance(override, tuple) else (override,))
        if forgotten:
            yield ConfigError(path, f"{name!r} is forgotten, so it cannot be what replaces it; choose another class")


def metrics_without_reference(
    metrics: Sequence[tuple[KeyPath, str]], reference: ReferenceKind
) -> Iterator[ConfigError]:
    """Metrics that need real images where the teacher stands in for them, or the other way round."""
    for path, name in metrics:
        if METRICS[name].reference not in (None, reference):
            other = _COUNTERPARTS.get(name)
            instead = f"use {other}, or " if other else ""
            wanted = "name real images" if reference is ReferenceKind.TEACHER else "write `teacher`"
            yield ConfigError(
                path, f"{name} does not go with this reference; {instead}{wanted} in evaluation.reference"
            )


def metrics_of_other_tasks(
    metrics: Sequence[tuple[KeyPath, str]], task: "Task", classifier: str, clip: str | None
) -> Iterator[ConfigError]:
    """Metrics that are not defined for the task, or that its judge does not report."""
    for path, name in metrics:
        metric = METRICS[name]
        if metric.only_concepts and task.prompts is None:
            yield ConfigError(path, f"{name} is measured where a concept is forgotten (task.kind: concept)")
        elif metric.judge not in (None, classifier):
            yield ConfigError(path, f"{name} is reported by {metric.judge} alone; write it in evaluation.classifier")
        elif metric.distance_of_judge and classifier == "nudenet":
            yield ConfigError(path, f"nudenet has no features that {name} could be measured on; use fid or fid_teacher")
        elif name == "held_out_unlearning_accuracy" and task.prompts and task.prompts.held_out is None:
            yield ConfigError(path, f"{name} needs held-out prompts; write some into task.prompts.held_out")
        elif name == "clip_score" and clip is None:
            yield ConfigError(path, "clip_score needs CLIP; name it in evaluation.clip")


def negative_prompt_without_effect(parameters: Parameters, kind: str) -> Iterator[ConfigError]:
    """A prompt that guidance leads away from, where there is no prompt or no guidance."""
    values = dict(parameters)
    negative, scale = values["negative_prompt"], values["guidance_scale"]
    if negative is None:
        return
    path = ("parameters", "negative_prompt")
    if kind != "concept":
        yield ConfigError(path, "is of text-to-image teachers; remove it, or write task.kind: concept")
    elif not isinstance(scale, Distribution) and scale == 1:
        yield ConfigError(path, "has no effect without guidance; set parameters.guidance_scale to other than 1")


_COUNTERPARTS = {
    "fid": "fid_teacher",
    "fid_teacher": "fid",
    "fd_classifier": "fd_classifier_teacher",
    "fd_classifier_teacher": "fd_classifier",
}


def repeated(names: Sequence[int | str], section: KeyPath, key: KeyPath = ()) -> Iterator[ConfigError]:
    """The same name twice in a list, such as two objectives on one metric; `key` leads from an entry to its name."""
    for index, name in enumerate(names):
        if name in names[:index]:
            yield ConfigError((*section, index, *key), f"{name!r} is there already; remove one")
