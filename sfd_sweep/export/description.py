"""What an exported folder says of itself to programs: `sfd_sweep.json`. Imports no torch."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sfd_sweep.config import Constraint, Evaluation, Objective, Settings, Task
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.metrics import METRICS
from sfd_sweep.trial.report import Report, TrialState

DESCRIPTION = "sfd_sweep.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Figures(_Part):
    """One judgement of a generator.

    Attributes:
        metrics: by the names of `sfd_sweep.config.METRICS`.
        samples: how many images they rest on: `retained` and `forgotten`.
        seconds: that judging took.
    """

    metrics: dict[str, float]
    samples: dict[str, int]
    seconds: float

    @classmethod
    def of(cls, report: Report) -> "Figures":
        """The figures of a trial's report."""
        return cls(metrics=report.metrics, samples=report.samples, seconds=report.seconds["evaluating"])

    def count(self, metric: str) -> int:
        """The number of samples that one of the metrics rests on."""
        return METRICS[metric].count(self.samples)


class Origin(_Part):
    """A model that the generator comes from.

    Attributes:
        source: as in the search-space file; a local folder by its name alone.
        sha256: of its weights; None if they could not be found any more.
        licence: of its weights, as its own card names it; None if it does not, or could not be found.
        safety_checker: whether a checker of its images belongs to it, which generators do not have.
    """

    source: str
    sha256: str | None
    licence: str | None = None
    safety_checker: bool = False


class Lineage(_Part):
    """Where a generator comes from.

    Attributes:
        teacher: the pretrained diffusion model.
        start: what the generator started from.
        sweep: name of the sweep.
        trial: number of the trial.
        state: what had become of the trial when it was exported.
        step: updates that the generator was trained.
        seed: of every random draw of the trial.
        mlflow_run: of the trial.
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


class FrontMember(_Part):
    """A trial on the front when the generator was exported, and the figures by which it was told from the others."""

    trial: int
    metrics: dict[str, float]
    samples: dict[str, int]


class Description(_Part):
    """All that is known of an exported generator.

    Attributes:
        version: of this format.
        conditions: classes or prompts: which were kept and forgotten, and by which it was judged.
        task: what was forgotten.
        override: index of what replaces each forgotten condition; None where any retained one may.
        settings: of the trial.
        search: the figures at the end of the trial, which all trials of the sweep have at the same numbers of samples.
        final: the figures at more samples; None if the trial was not judged once more.
        evaluation: how it was judged. Its `classifier` and `clip` are the same everywhere (`builtin:…`, hub ids), or
            folders below this one.
        device: kind of device that it was judged on: equal seeds draw equal noise there.
        objectives: axes of the front.
        constraints: bounds of the trials on it.
        front: best first objective first.
        why: why this trial was chosen.
        lineage: where it comes from.
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
    front: tuple[FrontMember, ...]
    why: str
    lineage: Lineage

    @property
    def figures(self) -> Figures:
        """Those on most samples."""
        return self.final or self.search

    @property
    def reads_text(self) -> bool:
        """Whether conditions are prompts, and no classes."""
        return self.task.kind == "concept"

    @property
    def forgotten(self) -> str:
        """What was forgotten, for a reader: `0`, or `airplane, automobile`, or a concept."""
        subjects = self.conditions.subjects
        return ", ".join(dict.fromkeys(subjects[index] for index in self.conditions.forget))

    def write(self, folder: Path) -> None:
        """Lay it into the folder."""
        (folder / DESCRIPTION).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Description":
        """The description in an exported folder.

        Raises:
            UserError: it is broken, or of a format that is not known here.
        """
        path = folder / DESCRIPTION
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise UserError(f"{path} describes no generator ({where}: {first['msg']}); export it again") from error


def is_exported(folder: Path) -> bool:
    """Whether the folder was exported from a sweep."""
    return (folder / DESCRIPTION).is_file()
