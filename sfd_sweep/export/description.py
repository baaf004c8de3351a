"""The description of an exported generator for programs: `sfd_sweep.json`. Imports no torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from sfd_sweep.audit.report import Level
from sfd_sweep.config import Constraint, Evaluation, Objective, SelectionBounds, Settings, Task
from sfd_sweep.config.schema import ClassId
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.metrics import METRICS
from sfd_sweep.models.conditioning import CONDITION_KINDS, ConditionKind
from sfd_sweep.trial.report import Report, TrialState

DESCRIPTION = "sfd_sweep.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Figures(_Part):
    """One evaluation of a generator: metrics by name, numbers of samples of each kind, and seconds."""

    metrics: dict[str, float]
    samples: dict[str, int]
    seconds: float

    @classmethod
    def of(cls, report: Report) -> "Figures":
        """Return the figures of a trial's report."""
        return cls(metrics=report.metrics, samples=report.samples, seconds=report.seconds["evaluating"])

    def count(self, metric: str) -> int:
        """Return the number of samples behind one of the metrics."""
        return METRICS[metric].count(self.samples)


class Origin(_Part):
    """A model that the generator comes from.

    Attributes:
        source: as in the search-space file; a local folder by its name alone.
        sha256: of its weights; None if they were not found.
        license: of its weights, as its own card names it (`licence` in older exports).
        safety_checker: whether it has a checker of its images, which generators lack.
    """

    source: str
    sha256: str | None
    license: Annotated[str | None, Field(validation_alias=AliasChoices("license", "licence"))] = None
    safety_checker: bool = False


class Lineage(_Part):
    """Where a generator comes from.

    Attributes:
        start: what training started from.
        state: of the trial on export.
        step: number of steps.
        versions: of Python and the libraries that the sweep ran on, and `commit` of the code where it is known.
    """

    teacher: Origin
    start: Origin
    sweep: str
    trial: int
    state: TrialState
    step: int
    seed: int
    mlflow_run: str
    versions: dict[str, str]


class AuditOrigin(_Part):
    """By what the audit in `audit.json` was made, or what the sweep says on audits to come.

    Attributes:
        level: of the audit; None where none was made on export.
        judge: a portable source, or a folder below this one.
        control: the generator that never knew; None without one.
        concepts: classes of a judge that is CLIP, beside those of the prompts.
        class_of: class or classes of the judge for a concept, where the names differ.
    """

    level: Level | None
    judge: str
    control: Origin | None
    concepts: tuple[str, ...] = ()
    class_of: dict[str, ClassId | tuple[ClassId, ...]] = {}


class FrontMember(_Part):
    """A trial on the front on export, with the figures that members are compared by.

    Attributes:
        as_good_as: the members that differ from it by no more than the stated errors in any objective.
    """

    trial: int
    metrics: dict[str, float]
    samples: dict[str, int]
    as_good_as: tuple[int, ...] = ()


class Description(_Part):
    """Everything about an exported generator.

    Attributes:
        version: of this format.
        conditions: classes or prompts: retained, forgotten and evaluated ones.
        override: index of what replaces each forgotten condition; None where any retained one may.
        settings: of the trial.
        search: figures at the end of the trial, on the same numbers of samples for every trial of the sweep.
        final: figures of the final evaluation on more samples; None without one.
        evaluation: its `classifier` and `clip` are portable sources (`builtin:…`, hub ids) or folders below this one.
        selection: what the search-space file counts as forgotten; without bounds in exports of earlier versions.
        counts_as_forgotten: whether the figures are within it; None if it has no bounds.
        device: kind of device of the evaluation: equal seeds draw equal noise there.
        front: best first objective first.
        front_probability: share of draws within the stated errors in which the trial is on the front; None without
            errors, or for a trial that is not complete.
        why: the reason for choosing this trial.
        audit: judge and control of audits; None in exports of earlier versions that were not audited.
    """

    version: Literal[1] = 1
    conditions: Conditions
    task: Task
    override: tuple[int, ...] | None
    settings: Settings
    search: Figures
    final: Figures | None
    evaluation: Evaluation
    device: Literal["cpu", "cuda"]
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    selection: SelectionBounds = SelectionBounds()
    counts_as_forgotten: bool | None = None
    front: tuple[FrontMember, ...]
    front_probability: float | None = None
    why: str
    lineage: Lineage
    audit: AuditOrigin | None = None

    @property
    def figures(self) -> Figures:
        """The figures on the most samples."""
        return self.final or self.search

    @property
    def kind(self) -> ConditionKind:
        """What a condition is."""
        return CONDITION_KINDS[self.task.kind]

    @property
    def forgotten(self) -> str:
        """The forgotten classes or concepts, for a reader: `0`, or `airplane, automobile`."""
        subjects = self.conditions.subjects
        return ", ".join(dict.fromkeys(subjects[index] for index in self.conditions.forget))

    def write(self, folder: Path) -> None:
        """Write the description into the folder."""
        (folder / DESCRIPTION).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Description":
        """Return the description in an exported folder.

        Raises:
            UserError: it is broken, or of an unknown format.
        """
        path = folder / DESCRIPTION
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise UserError(f"{path} describes no generator ({where}: {first['msg']}); export it again") from error


def is_exported(folder: Path) -> bool:
    """Return whether the folder was exported from a sweep."""
    return (folder / DESCRIPTION).is_file()
