"""The search-space file as typed, frozen objects: one `SearchSpace` is one sweep."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from sfd_sweep.config.checks import (
    bad_first_points,
    gpu_hours_without_gpus,
    impossible_override,
    metrics_of_other_tasks,
    metrics_without_reference,
    negative_prompt_without_effect,
    nothing_searched,
    repeated,
    reserved_name,
    unconditional_sampler,
)
from sfd_sweep.config.config_errors import ConfigError, KeyPath, advice, one_of, raise_config_errors
from sfd_sweep.config.parameters import Parameters
from sfd_sweep.metrics.registry import METRICS, Goal, ReferenceKind, Scale


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"no metric is called {name!r}{advice(name, METRICS)}")
    return name


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
ClassId = int | str
MetricName = Annotated[str, AfterValidator(_known_metric), Field(json_schema_extra={"enum": list(METRICS)})]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


PromptSource = str | Annotated[tuple[str, ...], Field(min_length=1)]
PROMPTS = "a list of prompts, or a file: one a line, or PATH[:COLUMN] of a CSV or Parquet file, or captions of COCO"


class Prompts(_Section):
    """The prompts of a concept's task. `{concept}` stands for what is forgotten, and in retained ones for `others`."""

    forget: PromptSource = Field(
        description=f"prompts about what is forgotten, with `{{concept}}` for it or its name in them: {PROMPTS}"
    )
    retain: PromptSource = Field(description=f"prompts of what is kept: {PROMPTS}")
    held_out: PromptSource | None = Field(
        None,
        description="prompts about what is forgotten that training never sees, for judging whether other words bring "
        "it back; null: none",
    )
    held_out_retain: PromptSource | None = Field(
        None, description="prompts of what is kept that quality is judged on and training never sees; null: `retain`"
    )
    others: tuple[str, ...] = Field((), description="what else `{concept}` stands for in prompts of what is kept")


class Task(_Section):
    """What is forgotten, and by which model."""

    kind: Literal["class", "concept"] = Field(
        "class", description="what a condition is: a class label, or a prompt that is about a concept"
    )
    teacher: str = Field(description="pretrained diffusion model: `builtin:digits`, a diffusers folder or a hub id")
    start: str = Field(
        "teacher",
        description="what the generator starts from: `teacher` (one stage), or a distilled one-step generator (two "
        "stage): `builtin:digits-distilled` or its folder",
    )
    forget: tuple[ClassId, ...] = Field(
        min_length=1, description="classes to forget, by index or name; or concepts, by what prompts call them"
    )
    prompts: Prompts | None = Field(None, description="of a concept's task; null for classes")

    @model_validator(mode="after")
    def _prompts_go_with_concepts(self) -> "Task":
        if self.kind == "class" and self.prompts is not None:
            raise_config_errors([ConfigError(("prompts",), "are of concepts; write kind: concept, or remove them")])
        if self.kind == "concept" and self.prompts is None:
            raise_config_errors(
                [ConfigError(("prompts",), "are missing: what is forgotten and what is kept in prompts")]
            )
        raise_config_errors(
            ConfigError(("forget", index), f"must be words, as prompts are about them, not {name!r}")
            for index, name in enumerate(self.forget)
            if self.kind == "concept" and not (isinstance(name, str) and name.strip())
        )
        return self


class TrialSchedule(_Section):
    """How long one trial is, and when it is judged."""

    steps: int = Field(gt=0, description="updates of generator and fake score")
    evaluate_every: int = Field(gt=0, description="steps between two evaluations; the last step is always evaluated")
    seed: Seed = Field(0, description="seed of every random draw of a trial")

    @model_validator(mode="after")
    def _evaluated_at_all(self) -> "TrialSchedule":
        if self.evaluate_every > self.steps:
            raise_config_errors(
                [
                    ConfigError(
                        ("evaluate_every",), f"must not be above steps ({self.steps}), but is {self.evaluate_every}"
                    )
                ]
            )
        return self

    def milestones(self) -> tuple[int, ...]:
        """The steps after which a trial is evaluated, in order; the last is `steps`."""
        return (*range(self.evaluate_every, self.steps, self.evaluate_every), self.steps)


class _HalvingScheduler(_Section):
    """Asynchronous successive halving: at each rung, the best of those that have reached it so far go on."""

    type: str
    grace_evaluations: int = Field(1, ge=1, description="evaluations that no trial is stopped before")
    reduction_factor: float = Field(3, gt=1, description="one in so many trials goes on at a rung")

    def rungs(self, milestones: Sequence[int]) -> tuple[int, ...]:
        """The steps after which a trial may be stopped.

        The first is that of the grace, and each of the others comes after `reduction_factor` times as many steps as the
        one before. A rung that lies between two evaluations is at the later one. The last evaluation is none, as a
        trial is complete then.

        Args:
            milestones: the steps after which a trial is evaluated, in order.
        """
        *stops, last = milestones
        level, rungs = float(milestones[min(self.grace_evaluations, len(milestones)) - 1]), []
        while level < last:
            rungs.extend([step for step in stops if step >= level][:1])
            level *= self.reduction_factor
        return tuple(dict.fromkeys(rungs))


class AshaScheduler(_HalvingScheduler):
    """Asynchronous successive halving by the combined score (Li et al., MLSys 2020)."""

    type: Literal["asha"]


class MultiObjectiveAshaScheduler(_HalvingScheduler):
    """Asynchronous successive halving by constraints, then fronts in all objectives (Schmucker et al., 2021)."""

    type: Literal["mo_asha"]


class NoScheduler(_Section):
    """Every trial runs to its full budget."""

    type: Literal["none"] = "none"

    def rungs(self, _milestones: Sequence[int]) -> tuple[int, ...]:
        """No step at all."""
        return ()


class Search(_Section):
    """Which settings are tried next, and who goes on."""

    sampler: Literal["tpe", "nsga2", "nsga3", "gp", "qmc", "random"] = Field("tpe", description="Optuna's sampler")
    seed: Seed = Field(0, description="seed of the sampler")
    first: tuple[dict[str, Any], ...] = Field((), description="settings to try first; a missing parameter is sampled")
    warm_start: tuple[str, ...] = Field(
        (),
        description="earlier sweeps, or MLflow experiments full of them, by name: what their complete trials found "
        "is told to the sampler, and none of them is run again",
    )
    scheduler: Annotated[NoScheduler | AshaScheduler | MultiObjectiveAshaScheduler, Field(discriminator="type")] = (
        Field(NoScheduler(), description="whether a trial may be stopped early")
    )
    max_failures: int = Field(
        3,
        ge=1,
        description="the sweep stops at once when so many trials have failed since it was started or resumed, and "
        "none has ever come to its end or been stopped early",
    )


class Budget(_Section):
    """What a sweep may spend: beyond the limit that is reached first no trial begins; those that run go on."""

    trials: int | None = Field(None, gt=0, description="trials in the sweep, however they end; null: no limit")
    hours: float | None = Field(
        None, gt=0, description="hours with slots at work, in all parts of a resumed sweep; null: no limit"
    )
    gpu_hours: float | None = Field(
        None, gt=0, description="the same hours times the GPUs that the slots hold; null: no limit"
    )

    @model_validator(mode="after")
    def _has_an_end(self) -> "Budget":
        if not self.limits():
            raise ValueError("must set trials, hours or gpu_hours, so that the sweep has an end")
        return self

    def __str__(self) -> str:
        return one_of(self.limits().values())

    def limits(self) -> dict[str, str]:
        """The limits that are set, in words, by name."""
        words = {"trials": "trial", "hours": "hour", "gpu_hours": "GPU-hour"}
        return {name: f"{value:g} {words[name]}{'s' * (value != 1)}" for name, value in self if value is not None}

    def used_up(self, *, trials: int, hours: float, gpu_hours: float) -> str | None:
        """The first limit that so much reaches, in words; None if another trial may begin."""
        spent = {"trials": trials, "hours": hours, "gpu_hours": gpu_hours}
        reached = [text for name, text in self.limits().items() if spent[name] >= getattr(self, name)]
        return reached[0] if reached else None


class Objective(_Section):
    """One axis of the front."""

    metric: MetricName = Field(description="what is measured, of the metrics that an evaluation reports")
    goal: Goal = Field(description="which way is better: the metric's own, written out for the reader")
    reference_point: float = Field(description="the worst value that still counts: the hypervolume's reference point")
    weight: float = Field(1.0, gt=0, description="weight in the combined score")
    error: float = Field(
        0.0,
        ge=0,
        description="error of an evaluation: `mo_asha` stops no trial for a difference that is not above it",
    )

    @model_validator(mode="after")
    def _suits_the_metric(self) -> "Objective":
        raise_config_errors(_objective_mistakes(self))
        return self


class Bound(_Section):
    """A range of a metric."""

    metric: MetricName = Field(description="what is measured, of the metrics that an evaluation reports")
    min: float | None = Field(None, description="least value of a feasible trial; null: none")
    max: float | None = Field(None, description="greatest value of a feasible trial; null: none")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a constraint needs `min` or `max`")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min:g}) is above max ({self.max:g})")
        raise_config_errors(_bound_mistakes(self))
        return self


class Constraint(Bound):
    """A bound that a trial must keep to be feasible."""

    error: float = Field(
        0.0,
        ge=0,
        description="error of an evaluation: `mo_asha` stops no trial for an excess that is not above it",
    )

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        if METRICS[self.metric].final:
            reason = f"{self.metric} is measured at the end, on the front alone: too late to bound a trial"
            raise_config_errors([ConfigError(("metric",), reason)])
        return self


def _objective_mistakes(objective: Objective) -> Iterator[ConfigError]:
    name, reference, metric = objective.metric, objective.reference_point, METRICS[objective.metric]
    if metric.final:
        yield ConfigError(
            ("metric",), f"{name} is measured at the end, on the front alone, so it cannot steer a search"
        )
    elif metric.goal is None:
        yield ConfigError(("metric",), f"neither direction of {name} is better, so it can only be a constraint")
    elif objective.goal is not metric.goal:
        yield ConfigError(("goal",), f"{name} is better when it is {_BETTER[metric.goal]}; write {metric.goal}")
    elif metric.goal is Goal.MAXIMIZE and not 0 <= reference < metric.best:
        yield ConfigError(("reference_point",), f"must be from 0 to below 1, as {name} is a share, not {reference:g}")
    elif metric.goal is Goal.MINIMIZE and reference <= metric.best:
        yield ConfigError(("reference_point",), f"must be above 0, the best value of {name}, not {reference:g}")


_BETTER = {Goal.MINIMIZE: "low", Goal.MAXIMIZE: "high"}


def _bound_mistakes(bound: Bound) -> Iterator[ConfigError]:
    greatest = 1.0 if METRICS[bound.metric].scale is Scale.SHARE else float("inf")
    kind = "a share, from 0 to 1" if greatest == 1 else "never below 0"
    for side, value in (("min", bound.min), ("max", bound.max)):
        if value is not None and not 0 <= value <= greatest:
            yield ConfigError((side,), f"cannot be {value:g}: {bound.metric} is {kind}")


class Inception(_Section):
    """Inception-V3, on whose features `fid`, `kid`, `precision` and `recall` are measured."""

    weights: str | None = Field(
        None,
        description="inception-2015-12-05.pt: a file, a folder that holds it, or a mirror's URL; null: fetched once "
        "from where clean-fid has it",
    )
    mode: Literal["clean", "legacy_tensorflow"] = Field(
        "clean",
        description="how images reach 299×299 pixels: antialiased (Parmar et al., CVPR 2022), or as in older papers",
    )


class TeacherSamples(_Section):
    """The teacher's own samples, where they stand in for real images: `reference: teacher`, a concept's overrides."""

    samples: int = Field(
        10_000, gt=1, description="of all classes, or of all prompts that quality is judged on, the same number of each"
    )
    override_samples: int = Field(
        2000, gt=1, description="of the prompts that replace those about a concept, for each override"
    )
    steps: int = Field(50, gt=0, description="steps of DDIM")
    guidance_scale: float = Field(1.0, ge=0, description="guidance; 1 is none")


class Evaluation(_Section):
    """How a generator is judged. Figures at different numbers of samples are not comparable."""

    samples: int = Field(2000, gt=1, description="samples of the retained classes, the same number of each")
    forget_samples: int = Field(1000, gt=1, description="samples of the forgotten classes, the same number of each")
    final_samples: int | None = Field(
        None, gt=1, description="samples of the retained classes when the front is judged once more at the end"
    )
    seed: Seed = Field(0, description="seed of the noise that the samples are made of")
    batch_size: int = Field(500, gt=0, description="most images that are made and judged at a time")
    classifier: str = Field(
        "builtin:digits",
        description="judge: `builtin:digits`, a folder (of `train-classifier`, transformers or timm), a hub id, "
        "`timm:NAME` or `torchvision:NAME`; for concepts also `clip:` and a folder or hub id of CLIP, which tells what "
        "is forgotten from overrides and `others`, or `nudenet`",
    )
    class_of: dict[str, ClassId | tuple[ClassId, ...]] = Field(
        {}, description="what the classifier calls a concept, where it has another name for it: a class, or several"
    )
    clip: str | None = Field(
        None, description="CLIP for `clip_score`: a folder or a hub id, as openai/clip-vit-base-patch32; null: none"
    )
    reference: str = Field(
        "builtin:digits",
        description="real images, for judging alone: `builtin:digits`, or PATH[:SPLIT] of Parquet files, of CIFAR-10 "
        "or STL-10 as they are given out, or of image files in a folder for each class, or a dataset's hub id "
        "OWNER/NAME[:SPLIT]; SPLIT is train (meant where none is named), validation, test or all. `teacher` compares "
        "with the teacher's own samples instead",
    )
    teacher_samples: TeacherSamples = TeacherSamples()
    inception: Inception = Inception()
    metrics: tuple[MetricName, ...] = Field((), description="what is reported besides objectives and constraints")

    @property
    def reference_kind(self) -> ReferenceKind:
        """What generated images are compared with."""
        return ReferenceKind.TEACHER if self.reference == "teacher" else ReferenceKind.REAL


class Resources(_Section):
    """What the sweep may use of the cluster."""

    slots: Literal["auto"] | Annotated[int, Field(gt=0)] = Field(
        "auto", description="trials at a time; `auto` is as many as the cluster has room for"
    )
    workers_per_slot: int = Field(1, gt=0, description="data-parallel workers of a trial")
    cpus_per_worker: float = Field(1, gt=0, description="CPU cores of a worker")
    gpus_per_worker: float = Field(0, ge=0, description="GPUs of a worker; a part of one is allowed")
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = Field(
        "float32",
        description="of the networks' products in training: float32, TensorFloat-32 (on GPUs), or autocast to bfloat16 "
        "or (on GPUs, with the loss scaled) to float16; weights stay float32, and generators are judged in float32",
    )
    micro_batch_size: int | None = Field(
        None,
        gt=0,
        description="most samples that a worker puts through the networks at a time, gradients being accumulated; "
        "null: its share of an update",
    )
    activation_checkpointing: bool = Field(
        False, description="whether activations are computed again in the backward pass, to save memory"
    )

    @model_validator(mode="after")
    def _suit_one_another(self) -> "Resources":
        if self.precision in ("tf32", "float16") and not self.gpus_per_worker:
            remedy = "set gpus_per_worker, or write float32 or bfloat16"
            raise_config_errors([ConfigError(("precision",), f"{self.precision} needs a GPU: {remedy}")])
        return self


class Tracking(_Section):
    """Where MLflow records the sweep."""

    uri: str | None = Field(
        None, description="tracking server or database; null: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db"
    )
    experiment: str | None = Field(None, description="MLflow experiment; null: the sweep's name")


class SearchSpace(_Section):
    """One sweep, as its file describes it."""

    name: Name = Field(description="what the sweep, its folder, its MLflow runs and its models are called")
    task: Task
    trial: TrialSchedule
    parameters: Parameters
    search: Search = Search()
    budget: Budget
    objectives: tuple[Objective, ...] = Field(min_length=1, description="axes of the front")
    constraints: tuple[Constraint, ...] = Field((), description="bounds that a trial on the front keeps")
    evaluation: Evaluation = Evaluation()
    resources: Resources = Resources()
    tracking: Tracking = Tracking()
    storage: str = Field(
        "runs",
        description="folder, `s3://BUCKET/PREFIX` or `gs://BUCKET/PREFIX` that holds the sweep's checkpoints and "
        "study; options such as `?endpoint_override=HOST:PORT` are pyarrow's, credentials come from the environment",
    )
    keep_generators: Literal["front", "all"] = Field(
        "front",
        description="whose generators are kept once trials have ended: those of the `front`'s members, or `all`; "
        "figures and sample grids are kept of all trials",
    )

    @model_validator(mode="after")
    def _sections_agree(self) -> "SearchSpace":
        raise_config_errors([*reserved_name(self.name), *nothing_searched(self.parameters)])
        raise_config_errors(
            [
                *gpu_hours_without_gpus(self.budget.gpu_hours, self.resources.gpus_per_worker),
                *unconditional_sampler(self.search.sampler, self.parameters),
                *repeated(self.search.warm_start, ("search", "warm_start")),
                *bad_first_points(self.search.first, self.parameters),
                *impossible_override(self.parameters, self.task.forget),
                *metrics_without_reference(self._metric_paths(), self.evaluation.reference_kind),
                *metrics_of_other_tasks(
                    self._metric_paths(), self.task, self.evaluation.classifier, self.evaluation.clip
                ),
                *negative_prompt_without_effect(self.parameters, self.task.kind),
                *repeated(self.task.forget, ("task", "forget")),
                *repeated([objective.metric for objective in self.objectives], ("objectives",), ("metric",)),
            ]
        )
        return self

    @property
    def wants_inception(self) -> bool:
        """Whether any metric that is asked for is measured on Inception-V3's features."""
        return any(METRICS[name].inception for _, name in self._metric_paths())

    @property
    def asked_metrics(self) -> tuple[str, ...]:
        """The metrics that are asked for, by name."""
        return tuple(dict.fromkeys(name for _, name in self._metric_paths()))

    def _metric_paths(self) -> list[tuple[KeyPath, str]]:
        """Every metric that is asked for, by its place in the file."""
        return [
            *((("objectives", index, "metric"), part.metric) for index, part in enumerate(self.objectives)),
            *((("constraints", index, "metric"), part.metric) for index, part in enumerate(self.constraints)),
            *((("evaluation", "metrics", index), name) for index, name in enumerate(self.evaluation.metrics)),
        ]
