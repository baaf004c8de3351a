"""The search-space file as typed, frozen objects: one `SearchSpace` is one sweep."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sfd_sweep.config.metrics import Goal
from sfd_sweep.config.parameters import Parameters

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
ClassId = int | str


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Task(_Section):
    """What is forgotten, and by which model."""

    kind: Literal["class"] = Field("class", description="what a condition is: a class label")
    teacher: str = Field(description="pretrained diffusion model: `builtin:digits`, a diffusers folder or a hub id")
    start: str = Field(
        "teacher",
        description="what the generator starts from: `teacher` (one stage), or a distilled one-step generator (two "
        "stage): `builtin:digits-distilled` or its folder",
    )
    forget: tuple[ClassId, ...] = Field(min_length=1, description="classes to forget, by index or name")


class TrialBudget(_Section):
    """How long one trial is, and when it is judged."""

    steps: int = Field(gt=0, description="updates of generator and fake score")
    evaluate_every: int = Field(gt=0, description="steps between two evaluations; the last step is always evaluated")
    seed: int = Field(0, ge=0, description="seed of every random draw of a trial")

    @model_validator(mode="after")
    def _evaluated_at_all(self) -> "TrialBudget":
        if self.evaluate_every > self.steps:
            raise ValueError(f"evaluate_every ({self.evaluate_every}) is above steps ({self.steps})")
        return self

    def milestones(self) -> tuple[int, ...]:
        """The steps after which a trial is evaluated, in order; the last is `steps`."""
        return (*range(self.evaluate_every, self.steps, self.evaluate_every), self.steps)


class AshaScheduler(_Section):
    """Asynchronous successive halving on the combined score (Li et al., MLSys 2020)."""

    type: Literal["asha"]
    grace_evaluations: int = Field(1, ge=1, description="evaluations that no trial is stopped before")
    reduction_factor: float = Field(3, gt=1, description="one in so many trials goes on at a rung")


class NoScheduler(_Section):
    """Every trial runs to its full budget."""

    type: Literal["none"] = "none"


class Search(_Section):
    """Which settings are tried next, how many, and who goes on."""

    sampler: Literal["tpe", "nsga2", "nsga3", "gp", "qmc", "random"] = Field("tpe", description="Optuna's sampler")
    seed: int = Field(0, ge=0, description="seed of the sampler")
    trials: int = Field(gt=0, description="trials in the sweep")
    first: tuple[dict[str, Any], ...] = Field((), description="settings to try first; a missing parameter is sampled")
    scheduler: Annotated[NoScheduler | AshaScheduler, Field(discriminator="type")] = NoScheduler()
    max_failures: int = Field(
        3, ge=1, description="the sweep stops when so many trials fail before the first completes"
    )


class Objective(_Section):
    """One axis of the front."""

    metric: str
    goal: Goal
    reference: float = Field(description="the worst value that still counts: the hypervolume's reference point")
    weight: float = Field(1.0, gt=0, description="weight in the combined score")


class Constraint(_Section):
    """A bound that a trial must keep to be feasible."""

    metric: str
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _bounded(self) -> "Constraint":
        if self.min is None and self.max is None:
            raise ValueError("a constraint needs `min` or `max`")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        return self


class Evaluation(_Section):
    """How a generator is judged. Figures at different numbers of samples are not comparable."""

    samples: int = Field(2000, gt=1, description="samples of the retained classes, the same number of each")
    forget_samples: int = Field(1000, gt=1, description="samples of the forgotten condition")
    final_samples: int | None = Field(
        None, gt=1, description="samples of the retained classes when the front is judged once more at the end"
    )
    seed: int = Field(0, ge=0, description="seed of the noise that the samples are made of")
    classifier: str = Field("builtin:digits", description="judge: `builtin:digits` or a folder")
    reference: str = Field("builtin:digits", description="real images, for judging alone: `builtin:digits`")


class Resources(_Section):
    """What the sweep may use of the cluster."""

    slots: Literal["auto"] | Annotated[int, Field(gt=0)] = Field(
        "auto", description="trials at a time; `auto` is as many as the cluster has room for"
    )
    workers_per_slot: int = Field(1, gt=0, description="data-parallel workers of a trial")
    cpus_per_worker: float = Field(1, gt=0)
    gpus_per_worker: float = Field(0, ge=0)


class Tracking(_Section):
    """Where MLflow records the sweep."""

    uri: str | None = Field(
        None, description="tracking server or database; null: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db"
    )
    experiment: str | None = Field(None, description="MLflow experiment; null: the sweep's name")


class SearchSpace(_Section):
    """One sweep, as its file describes it."""

    name: Name
    task: Task
    trial: TrialBudget
    parameters: Parameters
    search: Search
    objectives: tuple[Objective, ...] = Field(min_length=1)
    constraints: tuple[Constraint, ...] = ()
    evaluation: Evaluation = Evaluation()
    resources: Resources = Resources()
    tracking: Tracking = Tracking()
    storage: str = Field("runs", description="folder (or URI) that holds the sweep's checkpoints and study")
