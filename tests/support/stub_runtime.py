"""A runtime that trains nothing: its metrics follow from the settings and the step, and it logs every call."""

import io
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.config.loading import parse_search_space
from sfd_sweep.errors import TrialFailed, UserError
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import (
    GENERATOR,
    GRID,
    REPORT,
    is_reported,
    read_report,
    reported_steps,
    step_folder,
)
from sfd_sweep.trial.report import Report

NOTES = "notes.jsonl"
DEFECTIVE_MACHINE = "STUB_DEFECTIVE_MACHINE"
"""Set in the environment of a machine on which every trial kills its worker."""

SEARCH_SPACE = """
name: stub
task: {teacher: builtin:digits, forget: [0]}
trial: {steps: 6, evaluate_every: 2}
parameters:
  guidance_scale: {type: float, low: 1, high: 2}
  generator_lr: {type: float, low: 1.0e-5, high: 1.0e-3, log: true}
  override: {type: categorical, choices: [1, random]}
search: {sampler: random}
budget: {trials: 4}
objectives:
  - {metric: fd_classifier, goal: minimize, reference_point: 20}
  - {metric: unlearning_accuracy, goal: maximize, reference_point: 0}
constraints: [{metric: override_distance, max: 40}]
evaluation: {samples: 100, forget_samples: 50}
resources: {slots: 1, cpus_per_worker: 0.5}
"""


def make_space(storage: Path | str, *overrides: str) -> SearchSpace:
    """A small search space: 4 trials of 6 steps with an evaluation every 2, one slot."""
    return parse_search_space(SEARCH_SPACE, "stub.yaml", [f"storage={storage}", *overrides])


def picture() -> bytes:
    """An image in place of a grid of samples."""
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "PNG")
    return stream.getvalue()


def figures(settings: Settings, step: int) -> dict[str, float]:
    """Metrics with a trade-off over the guidance scale; every trial is on the front."""
    trade = settings.guidance_scale - 1
    return {"fd_classifier": 1 + trade + 10 / step, "unlearning_accuracy": trade, "override_distance": 10.0}


def notes(sweep: Path) -> list[dict[str, Any]]:
    """The calls that stub runtimes have logged, in order."""
    path = sweep / NOTES
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@dataclass(frozen=True)
class StubBuild:
    """Makes stub runtimes, with the faults that a test needs.

    Attributes:
        seconds: of a trial until its next evaluation.
        fails: trials that fail, by number.
        crashes: how often the runtime raises an error of its own at a trial's step 4, by number.
        hangs: trials that hang once, at step 4.
        broken: message of the user error that building raises.
        defective: whether building raises an unexpected error.
        notes: local folder of the log, if the sweep's own folder is not on a disk.
    """

    seconds: float = 0.0
    fails: frozenset[int] = frozenset()
    crashes: dict[int, int] = field(default_factory=dict)
    hangs: frozenset[int] = frozenset()
    broken: str | None = None
    defective: bool = False
    notes: Path | None = None

    def __call__(self, space: SearchSpace, sweep: Folder) -> "StubRuntime":
        if self.broken:
            raise UserError(self.broken)
        if self.defective:
            raise RuntimeError("out of memory\nand a second line")
        return StubRuntime(self, space, sweep)


class StubRuntime:
    def __init__(self, build: StubBuild, space: SearchSpace, sweep: Folder) -> None:
        self.build = build
        self.sweep = sweep
        self.notes = build.notes or Path(sweep.path)
        self.note("built", -1)

    def note(self, what: str, number: int, **more: Any) -> None:
        line = {"what": what, "number": number, "pid": os.getpid(), "time": time.time(), **more}
        self.notes.mkdir(parents=True, exist_ok=True)
        with (self.notes / NOTES).open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def start_trial(self, settings: Settings, folder: Folder) -> "StubTrial":
        return StubTrial(self, settings, folder)

    def evaluate_final(self, settings: Settings, folder: Folder, *, samples: int, forget_samples: int) -> Report:
        self.note("final evaluation", int(folder.name))
        step = reported_steps(folder)[-1]
        counts = {"retained": samples, "forgotten": forget_samples}
        return Report(step, figures(settings, step), counts, {}, {"evaluating": 0.5})

    def evaluate_swap(self, *, samples: int, forget_samples: int) -> Report:
        self.note("swap", -1)
        metrics = {"fd_classifier": 2.5, "unlearning_accuracy": 1.0, "override_distance": 1.0}
        return Report(0, metrics, {"retained": samples, "forgotten": forget_samples}, {}, {"evaluating": 0.5})


class StubTrial:
    def __init__(self, runtime: StubRuntime, settings: Settings, folder: Folder) -> None:
        self.runtime, self.number, self.settings = runtime, int(folder.name), settings
        self.folder = folder

    def advance(self, to: int) -> Report:
        if not is_reported(self.folder, to):
            self.train(to)
        return read_report(self.folder, to)

    def train(self, to: int) -> None:
        before = max([0, *reported_steps(self.folder)])
        self.runtime.note("training", self.number, before=before, to=to)
        time.sleep(self.runtime.build.seconds)
        if self.number in self.runtime.build.fails:
            raise TrialFailed(f"trial {self.number} diverged")
        if DEFECTIVE_MACHINE in os.environ:
            self.runtime.note("crashing", self.number, before=before, to=to)
            os._exit(1)
        hung = [note["number"] for note in notes(self.runtime.notes) if note["what"] == "hanging"]
        if to == 4 and self.number in self.runtime.build.hangs.difference(hung):
            self.runtime.note("hanging", self.number, before=before, to=to)
            time.sleep(600)
        crashes = [note for note in notes(self.runtime.notes) if note["what"] == "crashing"]
        if to == 4 and len(crashes) < self.runtime.build.crashes.get(self.number, 0):
            self.runtime.note("crashing", self.number, before=before, to=to)
            raise ValueError("a defect\nwith details")
        target = step_folder(self.folder, to)
        target.write(GRID, picture())
        (target / GENERATOR).write("weights.safetensors", b"")  # no model that MLflow could log
        seconds = {"training": 1.0, "evaluating": 0.25, "saving": 0.125}
        report = Report(to, figures(self.settings, to), {"retained": 100, "forgotten": 50}, {}, seconds)
        target.write(REPORT, report.to_json().encode())
        self.runtime.note("trained", self.number, before=before, to=to)


class Notebook:
    """A recorder and an observer that keeps its calls, in order: tuples of the method's name and arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def of(self, event: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == event]

    def open(self, space: SearchSpace, sweep: Folder, config: str, *, resume: bool, **_: object) -> "Notebook":
        self.calls.append(("open", config, resume))
        return self

    def __getattr__(self, event: str) -> Any:
        if event.startswith("_"):
            raise AttributeError(event)
        return lambda *arguments: self.calls.append((event, *arguments))
