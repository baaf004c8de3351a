"""The search-space file as one model, and the checks between its sections."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, model_validator

from sfd_sweep.config.config_errors import ConfigError, KeyPath, advice, one_of, raise_config_error, raise_config_errors
from sfd_sweep.config.methods import METHODS, Method
from sfd_sweep.config.parameters import Distribution, Parameters, drawing_order
from sfd_sweep.config.schema import (
    Audit,
    Budget,
    Constraint,
    Evaluation,
    Name,
    Objective,
    Resources,
    Search,
    Section,
    SelectionBounds,
    Task,
    Tracking,
    TrialSchedule,
)
from sfd_sweep.metrics import METRICS, Need

REFERENCES, AUDITS = "references", "audits"
"""Folders in the storage that all sweeps share."""


class SearchSpace(Section):
    """A sweep, as its file describes it."""

    name: Name
    """Name of the sweep, its folder, its MLflow runs, and its models."""
    task: Task
    trial: TrialSchedule
    parameters: Parameters
    search: Search = Search()
    budget: Budget
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)]
    """Axes of the front."""
    constraints: tuple[Constraint, ...] = ()
    """Bounds that trials on the front satisfy."""
    selection: SelectionBounds = SelectionBounds()
    evaluation: Evaluation = Evaluation()
    audit: Audit = Audit()
    resources: Resources = Resources()
    tracking: Tracking = Tracking()
    storage: str = "runs"
    """Folder, `s3://BUCKET/PREFIX`, or `gs://BUCKET/PREFIX` of the checkpoints and the study. Options such as
    `?endpoint_override=HOST:PORT` are pyarrow's; credentials come from the environment."""
    keep_generators: Literal["front", "all"] = "front"
    """Which generators are kept after their trials: those on the `front`, or `all`. Metrics and sample grids are kept
    for all trials."""

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.name in (REFERENCES, AUDITS):
            reason = "is a folder of results that sweeps share; choose another name"
            raise_config_error(("name",), f"{self.name} {reason}")
        if not self.parameters.searched():
            example = "generator_lr: {type: float, low: 1.0e-5, high: 1.0e-3, log: true}"
            raise_config_error(("parameters",), f"nothing is searched; give a parameter a distribution: {example}")
        metrics = [objective.metric for objective in self.objectives]
        raise_config_errors(
            [
                *_gpu_hours_without_gpus(self),
                *_conditions_without_support(self),
                *_first_points(self.search.first, self.parameters.searched()),
                *_override(self),
                *_negative_prompt(self),
                *_methods(self),
                *_metrics(self),
                *_duplicates(self.search.warm_start, ("search", "warm_start")),
                *_duplicates(self.task.forget, ("task", "forget")),
                *_duplicates(metrics, ("objectives",), ("metric",)),
            ]
        )
        return self

    @property
    def wants_inception(self) -> bool:
        """Whether a requested metric is measured on the features of Inception-V3."""
        return any(METRICS[name].inception for name in self.asked_metrics)

    @property
    def asked_metrics(self) -> tuple[str, ...]:
        """Names of the requested metrics."""
        return tuple(dict.fromkeys(self.metric_paths().values()))

    @property
    def asked_needs(self) -> frozenset[Need]:
        """What the requested metrics need."""
        return frozenset(need for name in self.asked_metrics for need in METRICS[name].needs)

    def metric_paths(self) -> dict[KeyPath, str]:
        """Return the names of the requested metrics, by path."""
        return {
            **{("objectives", index, "metric"): part.metric for index, part in enumerate(self.objectives)},
            **{("constraints", index, "metric"): part.metric for index, part in enumerate(self.constraints)},
            **{("selection", side, name): name for side, values in self.selection for name in values},
            **{("evaluation", "metrics", index): name for index, name in enumerate(self.evaluation.metrics)},
        }


def _gpu_hours_without_gpus(space: SearchSpace) -> Iterator[ConfigError]:
    if space.budget.gpu_hours is not None and not space.resources.gpus_per_worker:
        yield ConfigError(("budget", "gpu_hours"), "resources.gpus_per_worker is 0, so no GPU is used; set hours")


def _conditions_without_support(space: SearchSpace) -> Iterator[ConfigError]:
    conditional = [name for name, distribution in space.parameters.searched().items() if distribution.when]
    if space.search.sampler == "qmc" and conditional:
        message = f"qmc does not support conditions, and {conditional[0]} has one; choose tpe, or remove `when`"
        yield ConfigError(("search", "sampler"), message)


def _first_points(points: Sequence[Mapping[str, Any]], searched: Mapping[str, Distribution]) -> Iterator[ConfigError]:
    """Find values in `search.first` that the sampler cannot draw."""
    for index, point in enumerate(points):
        for name, problem in point_errors(point, searched):
            yield ConfigError(("search", "first", index, name), problem)


def point_errors(point: Mapping[str, Any], searched: Mapping[str, Distribution]) -> Iterator[tuple[str, str]]:
    """Yield the parameters whose values in a point the sampler cannot draw, and why."""
    for name, value in point.items():
        if name not in Parameters.model_fields:
            yield name, f"unknown parameter{advice(name, searched)}"
        elif name not in searched:
            yield name, f"{name} is not searched; remove it here, or give parameters.{name} a distribution"
        elif not searched[name].contains(value):
            yield name, f"must be {searched[name]} as in parameters.{name}, not {value!r}"
        elif not _is_drawn(name, point, searched):
            yield name, f"is drawn only where {searched[name].condition()}; set that here too, or remove it"


def without_undrawn(
    point: Mapping[str, Any], searched: Mapping[str, Distribution], *, keep: Collection[str]
) -> dict[str, Any]:
    """Return a point without the values whose conditions it no longer meets, but for those of some names."""
    return {
        name: value
        for name, value in point.items()
        if name in keep or name not in searched or _is_drawn(name, point, searched)
    }


def _is_drawn(name: str, point: Mapping[str, Any], searched: Mapping[str, Distribution]) -> bool:
    """Return whether the values of a first point ensure that the condition of a parameter holds."""
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


def _override(space: SearchSpace) -> Iterator[ConfigError]:
    """Find a forgotten condition as its own override, and a list that does not fit the forgotten classes."""
    override, forget, path = dict(space.parameters)["override"], space.task.forget, ("parameters", "override")
    if isinstance(override, tuple) and len(override) != len(forget):
        yield ConfigError(path, f"must have one class for each forgotten class ({len(forget)}), not {len(override)}")
    for name in forget:
        if isinstance(override, Distribution):
            is_forgotten = override.contains(name) or override.otherwise == name
        else:
            is_forgotten = name in (override if isinstance(override, tuple) else (override,))
        if is_forgotten:
            yield ConfigError(path, f"{name!r} is forgotten, so it cannot be the override; choose another")


def _negative_prompt(space: SearchSpace) -> Iterator[ConfigError]:
    """Find a negative prompt without effect."""
    values = dict(space.parameters)
    scale, path = values["guidance_scale"], ("parameters", "negative_prompt")
    if values["negative_prompt"] is None:
        return
    if space.task.prompts is None:
        yield ConfigError(path, "is for text-to-image teachers; remove it, or write task.kind: concept")
    elif not isinstance(scale, Distribution) and scale == 1:
        yield ConfigError(path, "has no effect without guidance; set parameters.guidance_scale to a value other than 1")


def _methods(space: SearchSpace) -> Iterator[ConfigError]:
    """Find methods that do not apply to the kind of task."""
    method = dict(space.parameters)["method"]
    for path, name in method.edges().items() if isinstance(method, Distribution) else [((), method)]:
        kinds = METHODS[cast("Method", name)].kinds
        if space.task.kind not in kinds:
            reason = f"{name} applies to task.kind {one_of(kinds)}, and this is {space.task.kind}; remove it"
            yield ConfigError(("parameters", "method", *path), reason)


def _metrics(space: SearchSpace) -> Iterator[ConfigError]:
    """Find metrics that the task does not define, or that the classifier or the reference cannot provide."""
    evaluation, prompts = space.evaluation, space.task.prompts
    met = {*_ALWAYS_MET, evaluation.reference_kind.need}
    met |= {Need.ALL_CLASSES} if prompts is None else set()
    met |= {Need.NUDENET} if evaluation.classifier == "nudenet" else {Need.FEATURES, Need.INVERSION}
    if space.audit.control is not None:
        met.add(Need.CONTROL)
    if evaluation.clip is not None:
        met.add(Need.CLIP)
    if prompts is not None and prompts.held_out is not None:
        met.add(Need.HELD_OUT)
    for path, name in space.metric_paths().items():
        needs = METRICS[name].needs
        if prompts is None and needs & _OF_CONCEPTS:
            yield ConfigError(path, f"{name} is measured only for forgotten concepts (task.kind: concept)")
            continue
        for need in needs - met:
            yield ConfigError(path, _REMEDIES[need].format(name=name, instead=_counterpart(name)))


_OF_CONCEPTS = {Need.CLIP, Need.HELD_OUT, Need.NUDENET}
_ALWAYS_MET = {Need.INCEPTION, Need.FINAL, Need.RELEARNING, Need.FORGOTTEN_IMAGES}
_REMEDIES = {
    Need.REAL_IMAGES: "{name} does not fit this reference; {instead}name real images in evaluation.reference",
    Need.TEACHER_SAMPLES: "{name} does not fit this reference; {instead}write `teacher` in evaluation.reference",
    Need.FEATURES: "nudenet has no features for {name}; use fid or fid_teacher, or override_rate for overrides",
    Need.ALL_CLASSES: "{name} is measured only for forgotten classes (task.kind: class); use fid",
    Need.CLIP: "{name} needs CLIP; set evaluation.clip",
    Need.HELD_OUT: "{name} needs held-out prompts; add some to task.prompts.held_out",
    Need.INVERSION: "{name} needs gradients of the classifier, and nudenet has none; use relearning_rate",
    Need.CONTROL: "{name} is measured against a generator that never knew what is forgotten; name one in audit.control",
    Need.NUDENET: "only nudenet reports {name}; set evaluation.classifier to it",
}
if _UNEXPLAINED := set(Need) - _ALWAYS_MET - set(_REMEDIES):
    raise NotImplementedError(f"_REMEDIES lacks what to do about {', '.join(need.name for need in _UNEXPLAINED)}")


def _counterpart(name: str) -> str:
    """Return advice to use the same metric with the other kind of reference, if there is one."""
    other = name.removesuffix("_teacher") if name.endswith("_teacher") else f"{name}_teacher"
    return f"use {other}, or " if other in METRICS else ""


def _duplicates(names: Sequence[int | str], section: KeyPath, key: KeyPath = ()) -> Iterator[ConfigError]:
    """Find the same name twice in a list; `key` leads from an entry to its name."""
    for index, name in enumerate(names):
        if name in names[:index]:
            yield ConfigError((*section, index, *key), f"{name!r} is a duplicate; remove one")
