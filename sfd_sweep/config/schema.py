"""The sections of a search-space file as typed, frozen models."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from sfd_sweep.config.config_errors import ConfigError, advice, one_of, raise_config_error, raise_config_errors
from sfd_sweep.metrics import METRICS, Goal, ReferenceKind


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}{advice(name, METRICS)}")
    return name


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
ClassId = int | str
MetricName = Annotated[str, AfterValidator(_known_metric), Field(json_schema_extra={"enum": list(METRICS)})]
PromptSource = str | Annotated[tuple[str, ...], Field(min_length=1)]
SampleCount = Annotated[int, Field(gt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A section of the file: frozen, without unknown keys, its fields described by their docstrings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Prompts(Section):
    """Prompts of a concept task.

    Each key takes a list of prompts, a file with one prompt a line, PATH[:COLUMN] of a CSV or Parquet file, or captions
    of COCO.
    """

    forget: PromptSource
    """Prompts about the forgotten concept, which contain its name or `{concept}` for it."""
    retain: PromptSource
    """Retained prompts, in which `{concept}` stands for each of `others`."""
    held_out: PromptSource | None = None
    """Prompts about the forgotten concept that are evaluated and not trained on: they show whether other words bring it
    back; null: none."""
    held_out_retain: PromptSource | None = None
    """Retained prompts that quality is evaluated on and that are not trained on; null: `retain`."""
    others: tuple[str, ...] = ()
    """Other concepts that `{concept}` stands for in retained prompts."""


class Task(Section):
    """What is forgotten, and by which model."""

    kind: Literal["class", "concept"] = "class"
    """Kind of condition: a class label, or a prompt about a concept."""
    teacher: str
    """Pretrained diffusion model: `builtin:digits`, a diffusers folder, or a hub id."""
    start: str = "teacher"
    """Initial weights of the generator: `teacher` (one stage), or a distilled one-step generator (two stages):
    `builtin:digits-distilled` or a folder."""
    forget: Annotated[tuple[ClassId, ...], Field(min_length=1)]
    """Classes to forget, by index or name; or concepts, by their name in prompts."""
    prompts: Prompts | None = None
    """Prompts of a concept task; null for classes."""
    override_classifier: str | None = None
    """Classifier that chooses overrides where `parameters.override` is `classifier`: a source as in
    `evaluation.classifier`, but another one than that and than `audit.judge`, which would decide on what they chose;
    null: none."""

    @model_validator(mode="after")
    def _prompts_go_with_concepts(self) -> Self:
        if self.kind == "class" and self.prompts is not None:
            raise_config_error(("prompts",), "are for concepts; write kind: concept, or remove them")
        if self.kind == "concept" and self.prompts is None:
            raise_config_error(("prompts",), "are missing: the forgotten and the retained prompts")
        raise_config_errors(
            ConfigError(("forget", index), f"must be the name of a concept in prompts, not {name!r}")
            for index, name in enumerate(self.forget)
            if self.kind == "concept" and not (isinstance(name, str) and name.strip())
        )
        return self


class TrialSchedule(Section):
    """Length of a trial, and when it is evaluated."""

    steps: PositiveInt
    """Steps: updates of the method, or budgets of `step_cost`."""
    step_cost: PositiveInt | None = None
    """Budget of a step, in forward-equivalents: passes of a sample forward through a network, where one backward counts
    as two, or as one through frozen weights. A step does the updates that it pays for, so that trials of any method and
    batch size cost the same; null: a step is one update."""
    evaluate_every: PositiveInt
    """Steps between two evaluations; the last step is always evaluated."""
    interval_hours: PositiveFloat | None = None
    """Longest time that training to the next evaluation takes, the evaluation included. A worker that takes longer is
    restarted, which counts as a crash: a trial that crashes three times in a row fails. null: no limit."""
    seed: Seed = 0
    """Seed of all random numbers of a trial."""

    @model_validator(mode="after")
    def _is_evaluated(self) -> Self:
        if self.evaluate_every > self.steps:
            message = f"must not be above steps ({self.steps}), but is {self.evaluate_every}"
            raise_config_error(("evaluate_every",), message)
        return self

    def milestones(self) -> tuple[int, ...]:
        """Return the steps after which a trial is evaluated, in order; the last is `steps`."""
        return (*range(self.evaluate_every, self.steps, self.evaluate_every), self.steps)


class NoScheduler(Section):
    """Every trial runs to its last step."""

    type: Literal["none"] = "none"

    def rungs(self, _milestones: Sequence[int]) -> tuple[int, ...]:
        """Return no step."""
        return ()


class _HalvingScheduler(Section):
    type: str
    grace_evaluations: PositiveInt = 1
    """Evaluations before a trial may be stopped."""
    reduction_factor: Annotated[float, Field(gt=1)] = 3
    """One in this number of trials continues at each rung."""

    def rungs(self, milestones: Sequence[int]) -> tuple[int, ...]:
        """Return the steps after which a trial may be stopped.

        The first is that of the last grace evaluation, and each of the others comes after `reduction_factor` times as
        many steps as the one before. A rung between two evaluations moves to the later one. The last evaluation is no
        rung, because it completes the trial.

        Args:
            milestones: The steps after which a trial is evaluated, in order.
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
    """Asynchronous successive halving by fronts in all objectives (Schmucker et al., 2021)."""

    type: Literal["mo_asha"]


Scheduler = Annotated[NoScheduler | AshaScheduler | MultiObjectiveAshaScheduler, Field(discriminator="type")]
Sampler = Literal["tpe", "mfgp", "nsga2", "nsga3", "gp", "qmc", "random"]
SAMPLERS: dict[Sampler, str] = {
    "tpe": "Tree-structured Parzen estimator. It models constraints and conditional parameters.",
    "mfgp": "Multi-fidelity Gaussian processes. They learn from every evaluation of every trial, also of stopped and "
    "running ones, and model constraints and conditional parameters.",
    "nsga2": "Genetic algorithm NSGA-II. Conditional parameters are drawn at random.",
    "nsga3": "Genetic algorithm NSGA-III. Conditional parameters are drawn at random.",
    "gp": "Gaussian process. Conditional parameters are drawn at random.",
    "qmc": "Quasi-Monte Carlo sequence, which ignores results. It does not support conditional parameters.",
    "random": "Independent random values, which ignore results.",
}
"""Samplers, by their name in the file; all but `mfgp` are Optuna's."""
UNCONDITIONAL: frozenset[Sampler] = frozenset({"nsga2", "nsga3", "gp"})
"""Samplers that draw conditional parameters at random; `qmc` rejects them."""


class Search(Section):
    """Which settings are tried, and which trials are stopped early."""

    sampler: Sampler = "tpe"
    """What proposes settings."""
    seed: Seed = 0
    """Seed of the sampler."""
    first: tuple[dict[str, Any], ...] = ()
    """Settings of the first trials; the sampler draws the parameters that are missing."""
    warm_start: tuple[str, ...] = ()
    """Names of earlier sweeps, or of MLflow experiments with sweeps: the sampler starts with the results of their
    complete trials, and no trial is repeated."""
    scheduler: Scheduler = NoScheduler()
    """Early stopping of trials."""
    max_failures: PositiveInt = 3
    """Failed trials, since the start or the last resume, that end the sweep if no trial has ever completed or been
    stopped early."""


class Budget(Section):
    """Limits of a sweep. No trial starts beyond the limit that is reached first; running trials complete."""

    trials: PositiveInt | None = None
    """Number of trials, in any final state; null: no limit."""
    hours: PositiveFloat | None = None
    """Wall-clock hours in which at least one slot holds its workers, added up over all parts of a resumed sweep; null:
    no limit."""
    gpu_hours: PositiveFloat | None = None
    """GPU-hours: the time for which slots hold their workers, times the GPUs of a slot, added up over slots; null: no
    limit."""

    @model_validator(mode="after")
    def _is_limited(self) -> Self:
        if not self.limits():
            raise ValueError("set trials, hours, or gpu_hours, so that the sweep ends")
        return self

    def __str__(self) -> str:
        return one_of(self.limits().values())

    def limits(self) -> dict[str, str]:
        """Return the limits that are set, in words, by name."""
        words = {"trials": "trial", "hours": "hour", "gpu_hours": "GPU-hour"}
        return {name: f"{value:g} {words[name]}{'s' * (value != 1)}" for name, value in self if value is not None}

    def used_up(self, *, trials: int, hours: float, gpu_hours: float) -> str | None:
        """Return the first limit that is reached, in words; None if another trial may start."""
        usage = {"trials": trials, "hours": hours, "gpu_hours": gpu_hours}
        reached = [text for name, text in self.limits().items() if usage[name] >= getattr(self, name)]
        return reached[0] if reached else None


class Objective(Section):
    """An axis of the front."""

    metric: MetricName
    """Metric of an evaluation."""
    goal: Goal
    """Direction of the metric, repeated here for the reader."""
    reference_point: Annotated[float, Field(validation_alias=AliasChoices("reference_point", "reference"))]
    """Worst value that counts: the coordinate of the hypervolume's reference point."""
    weight: PositiveFloat = 1.0
    """Weight in the combined score."""
    error: NonNegativeFloat = 0.0
    """Error of one evaluation, about twice the standard deviation over evaluation seeds: `mo_asha` stops no trial for a
    difference up to it, and the front, its hypervolume, and its knee are drawn anew within it."""

    @model_validator(mode="after")
    def _suits_the_metric(self) -> Self:
        metric, point = METRICS[self.metric], self.reference_point
        if metric.final:
            raise_config_error(("metric",), _measured_at_the_end(metric.name, "an objective"))
        if metric.goal is None:
            raise_config_error(("metric",), f"{metric.name} has no better direction, so it can only be a constraint")
        if self.goal is not metric.goal:
            better = {Goal.MINIMIZE: "low", Goal.MAXIMIZE: "high"}[metric.goal]
            raise_config_error(("goal",), f"{metric.name} is better when it is {better}; write {metric.goal}")
        if point == metric.best or not metric.scale.contains(point):
            reason = f"{metric.name} is {metric.scale.words}, and {metric.best:g} is its best value"
            raise_config_error(("reference_point",), f"cannot be {point:g}: {reason}")
        return self


def _measured_at_the_end(name: str, role: str) -> str:
    return f"{name} is measured only in the final evaluation, on the front, so it cannot be {role}"


class Bound(Section):
    """A range of a metric."""

    metric: MetricName
    """Metric of an evaluation."""
    min: float | None = None
    """Lowest value of a feasible trial; null: no bound."""
    max: float | None = None
    """Highest value of a feasible trial; null: no bound."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a constraint needs `min` or `max`")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min:g}) is above max ({self.max:g})")
        raise_config_errors(
            ConfigError((side,), beyond)
            for side, value in (("min", self.min), ("max", self.max))
            if value is not None and (beyond := _beyond_the_scale(self.metric, value))
        )
        return self

    def in_words(self) -> str:
        """Return `unlearning_accuracy at least 0.99`."""
        return f"{self.metric} {self.range_in_words()}"

    def range_in_words(self) -> str:
        """Return `at least 0.99`, or `at least 0.5 and at most 0.9`."""
        sides = (("at least", self.min), ("at most", self.max))
        return " and ".join(f"{side} {value:g}" for side, value in sides if value is not None)


def _beyond_the_scale(metric: str, value: float) -> str | None:
    """Return why a metric cannot have a value; None if it can."""
    scale = METRICS[metric].scale
    return None if scale.contains(value) else f"cannot be {value:g}: {metric} is {scale.words}"


class Constraint(Bound):
    """A bound that a feasible trial satisfies."""

    error: NonNegativeFloat = 0.0
    """Error of one evaluation, about twice the standard deviation over evaluation seeds: `mo_asha` stops no trial for a
    violation up to it, and feasibility is drawn anew within it."""
    at_rungs: bool = False
    """Whether `mo_asha` ranks by it, too. Only for a bound that good trials satisfy from the first rung on: trials that
    would satisfy it later are stopped."""

    @model_validator(mode="after")
    def _is_measured_in_trials(self) -> Self:
        if METRICS[self.metric].final:
            raise_config_error(("metric",), _measured_at_the_end(self.metric, "a constraint"))
        return self


class SelectionBounds(Section):
    """What counts as forgotten. The knee and the best score are chosen among members of the front within these bounds,
    and `export` calls nothing else unlearned. No bounds: anything counts."""

    min: dict[MetricName, float] = {}
    """Lowest value of a metric of an evaluation, by its name."""
    max: dict[MetricName, float] = {}
    """Highest value of a metric of an evaluation, by its name."""

    @model_validator(mode="after")
    def _suits_the_metrics(self) -> Self:
        raise_config_errors(self._errors())
        return self

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """A bound for each metric."""
        names = dict.fromkeys([*self.min, *self.max])
        return tuple(Bound(metric=name, min=self.min.get(name), max=self.max.get(name)) for name in names)

    def in_words(self) -> str:
        """Return `unlearning_accuracy at least 0.99 and override_distance at most 60`."""
        return " and ".join(bound.in_words() for bound in self.bounds)

    def _errors(self) -> Iterator[ConfigError]:
        for side, values in (("min", self.min), ("max", self.max)):
            for name, value in values.items():
                if METRICS[name].final:
                    yield ConfigError((side, name), _measured_at_the_end(name, "a bound of the selection"))
                elif beyond := _beyond_the_scale(name, value):
                    yield ConfigError((side, name), beyond)
                elif side == "max" and value < self.min.get(name, value):
                    yield ConfigError((side, name), f"is below min ({self.min[name]:g}), so nothing is within both")


class Inception(Section):
    """Inception-V3, whose features `fid`, `kid`, `precision`, and `recall` are measured on."""

    weights: str | None = None
    """inception-2015-12-05.pt: a file, its folder, or the URL of a mirror; null: it is downloaded once from clean-fid's
    source."""
    mode: Literal["clean", "legacy_tensorflow"] = "clean"
    """Resizing to 299×299 pixels: antialiased (Parmar et al., CVPR 2022), or as in older papers."""


class TeacherSamples(Section):
    """Samples of the teacher, which replace real images (`reference: teacher`) and show a concept's overrides."""

    samples: SampleCount = 10_000
    """Samples of all classes or retained prompts, the same number of each."""
    override_samples: SampleCount = 2000
    """Samples of the prompts of each override of a concept."""
    steps: PositiveInt = 50
    """Steps of DDIM."""
    guidance_scale: NonNegativeFloat = 1.0
    """Guidance of the teacher; 1 is no guidance."""


class Evaluation(Section):
    """How generators are evaluated. Results at different numbers of samples are not comparable."""

    samples: SampleCount = 2000
    """Samples of retained conditions, rounded up to the same number of each."""
    forget_samples: SampleCount = 1000
    """Samples of forgotten conditions, rounded up to the same number of each."""
    final_samples: SampleCount | None = None
    """Samples of retained conditions in the final evaluation of the front; null: no final evaluation."""
    seed: Seed = 0
    """Seed of the noise of the samples."""
    batch_size: PositiveInt = 500
    """Largest number of images that are generated and evaluated at once."""
    classifier: str = "builtin:digits"
    """Classifier: `builtin:digits`, a folder (from `train-classifier`, transformers, or timm), a hub id, `timm:NAME`,
    or `torchvision:NAME`; for concepts also `clip:` and a folder or hub id of CLIP, which tells the forgotten concept
    from `others` and `concepts`, or `nudenet`."""
    concepts: tuple[str, ...] = ()
    """Classes of CLIP beside the forgotten concept and `others`: what images without the concept may show. Overrides
    are none by themselves, so that figures do not depend on which ones are tried; `override_rate` needs them here."""
    class_of: dict[str, ClassId | tuple[ClassId, ...]] = {}
    """Class or classes of the classifier for a concept, where the names differ."""
    clip: str | None = None
    """CLIP of `clip_score`: a folder or a hub id, such as openai/clip-vit-base-patch32; null: none."""
    reference: str = "builtin:digits"
    """Real images, which only evaluation reads: `builtin:digits`, PATH[:SPLIT] of Parquet files, CIFAR-10, STL-10, or a
    folder of image files for each class, or the hub id OWNER/NAME[:SPLIT] of a data set. SPLIT is train (the default),
    validation, test, or all. For concepts: PATH of a folder of image files or of Parquet files, without labels, split,
    or hub id. `teacher` replaces real images by samples of the teacher."""
    teacher_samples: TeacherSamples = TeacherSamples()
    inception: Inception = Inception()
    metrics: tuple[MetricName, ...] = ()
    """Metrics to report besides objectives and constraints."""

    @model_validator(mode="after")
    def _concepts_are_of_clip(self) -> Self:
        if self.concepts and not self.classifier.startswith("clip:"):
            message = f"are classes of CLIP, and {self.classifier} has its own; remove them, or use clip:OWNER/NAME"
            raise_config_error(("concepts",), message)
        return self

    @property
    def reference_kind(self) -> ReferenceKind:
        """What generated images are compared with."""
        return ReferenceKind.TEACHER if self.reference == "teacher" else ReferenceKind.REAL


class Audit(Section):
    """How forgetting is audited: by attacks that try to bring back what is forgotten."""

    judge: str = "svm"
    """Classifier that decides and that no attack optimizes against: `svm`, a support vector machine on the reference
    images, or a source as in `evaluation.classifier`. For concepts the images are samples of the teacher."""
    concepts: tuple[str, ...] = ()
    """Classes of a judge that is CLIP, as in `evaluation.concepts`."""
    class_of: dict[str, ClassId | tuple[ClassId, ...]] = {}
    """Class or classes of the judge for a concept, where the names differ from those in `evaluation.class_of`."""
    control: str | None = None
    """One-step generator that never knew what is forgotten: `builtin:digits-without-0` or a folder; attacks are
    measured by their excess over it. null: none, so excess is unknown."""


class Resources(Section):
    """What the sweep uses of the cluster."""

    slots: Literal["auto"] | PositiveInt = "auto"
    """Trials at a time; `auto` is the number that the cluster has room for."""
    workers_per_slot: PositiveInt = 1
    """Data-parallel workers of a trial."""
    cpus_per_worker: PositiveFloat = 1
    """CPU cores of a worker."""
    gpus_per_worker: NonNegativeFloat = 0
    """GPUs of a worker; may be a fraction."""
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = "float32"
    """Arithmetic of the networks in training: float32, TensorFloat-32 (GPUs only), or autocast to bfloat16 or float16
    (GPUs only, with loss scaling). Weights stay float32, and evaluation uses float32."""
    micro_batch_size: PositiveInt | None = None
    """Largest number of samples in one forward pass of a worker, with accumulated gradients; null: its share of an
    update."""
    activation_checkpointing: bool = False
    """Whether activations are recomputed in the backward pass, which saves memory."""

    @model_validator(mode="after")
    def _precision_suits_the_device(self) -> Self:
        if self.precision in ("tf32", "float16") and not self.gpus_per_worker:
            message = f"{self.precision} needs a GPU: set gpus_per_worker, or use float32 or bfloat16"
            raise_config_error(("precision",), message)
        return self


class Tracking(Section):
    """Where MLflow records the sweep."""

    uri: str | None = None
    """Tracking server or database; null: MLFLOW_TRACKING_URI, or else sqlite:///mlflow.db."""
    experiment: str | None = None
    """MLflow experiment; null: the sweep's name."""
