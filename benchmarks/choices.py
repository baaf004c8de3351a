"""What sweeps choose, on real digits trials: two against three objectives, and one sampler against another.

    python benchmarks/choices.py --folder FOLDER [--seeds 5] [--workers 2] [--level quick]

For each seed the search of `search_spaces/digits.yaml` runs in a plain loop: with `tpe` and without the objective and
the bounds that attacks measure, with `tpe`, and with `mfgp`. The sweep of two objectives gets as many more trials as
its cheaper evaluations pay for. The table has the hypervolume of each front, and an audit of its knee; a generator
counts as durable where its worst excess over the never-knew control is below 0.1. Results are kept in the folder, so
that an interrupted run continues.
"""

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from sfd_sweep.audit.building import AuditContext
from sfd_sweep.audit.report import Level
from sfd_sweep.config import SearchSpace, SelectionBounds, load_search_space
from sfd_sweep.errors import TrialFailed
from sfd_sweep.metrics import METRICS
from sfd_sweep.search.records import SweepRecord, SweepState, SweepSummary
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import trial_folder
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext, TrialRunner, load_generator

SPACE = Path(__file__).parent.parent / "search_spaces" / "digits.yaml"
DURABLE = 0.1


@dataclass(frozen=True)
class Case:
    """One sweep: its number of objectives, its sampler, its seed, and its trials."""

    objectives: int
    sampler: str
    seed: int
    trials: int

    @property
    def kind(self) -> str:
        return f"{self.objectives} objectives, {self.sampler}"

    @property
    def name(self) -> str:
        return f"{self.objectives}-objectives-{self.sampler}-seed-{self.seed}"

    def space(self) -> SearchSpace:
        sampler = f"search.sampler={self.sampler}"
        space = load_search_space(SPACE, [sampler, f"search.seed={self.seed}", f"name={self.name}"])
        return space if self.objectives == len(space.objectives) else without_attacks(space)


def without_attacks(space: SearchSpace) -> SearchSpace:
    """Return a search space without the objectives and bounds that attacks measure."""
    objectives = tuple(part for part in space.objectives if not METRICS[part.metric].audited)
    constraints = tuple(part for part in space.constraints if not METRICS[part.metric].audited)
    selection = {
        side: {name: value for name, value in bounds.items() if not METRICS[name].audited}
        for side, bounds in space.selection
    }
    changed = {"objectives": objectives, "constraints": constraints, "selection": SelectionBounds(**selection)}
    return space.model_copy(update=changed)


def sweep(case: Case, folder: Path) -> float:
    """Run the trials of a sweep that are not there yet; return the seconds of all of them."""
    torch.set_num_threads(1)
    space, here = case.space(), Folder.open(folder) / case.name
    study = SweepStudy(space, here)
    context = TrialContext.build(resolve_sweep(space), Folder.open(folder) / "references")
    while study.ended() < case.trials:
        number = min(study.running(), default=None)
        number = study.ask() if number is None else number
        runner = TrialRunner(context, study.trial(number).settings, trial_folder(here, number))
        try:
            for step in space.trial.milestones():
                study.report(number, runner.advance(step))
            study.end(number)
        except TrialFailed as error:
            study.fail(number, str(error))
    return sum(sum(report.seconds.values()) for trial in study.trials() for report in trial.reports)


def audit(case: Case, folder: Path, level: Level) -> dict[str, object]:
    """Audit the knee of a sweep."""
    torch.set_num_threads(1)
    found = folder / f"{case.name}-{case.trials}-{level}.json"
    if found.is_file():
        return dict(json.loads(found.read_text()))
    space, here = case.space(), Folder.open(folder) / case.name
    trials = tuple(SweepStudy(space, here).trials())
    record = SweepRecord(_summary(case, here), space, trials)
    knee = record.knee()
    context = TrialContext.build(resolve_sweep(space), Folder.open(folder) / "references")
    override = context.plan.overrides[knee.settings.override]
    auditing = AuditContext.build(context.evaluator, space.audit, start=space.task.start, override=override)
    assert knee.report is not None
    generator = load_generator(trial_folder(here, knee.number), knee.report.step)
    report = auditing.audit(generator, level, source=f"trial {knee.number}", cache=Folder.open(folder) / "audits")
    attack, excess = report.worst()
    row = {"trial": knee.number, "attack": attack.name, "excess": excess.value, "low": excess.low, "high": excess.high}
    row |= {name: knee.metrics[name] for name in ("fd_classifier", "unlearning_accuracy")}
    row["forgotten"] = record.counts_as_forgotten(knee)
    row["hypervolume"] = record.hypervolume()
    found.write_text(json.dumps(row))
    return row


def _summary(case: Case, here: Folder) -> SweepSummary:
    """Return a summary, of which a record of a finished sweep needs no more than the place."""
    now = datetime.now(UTC)
    return SweepSummary(
        name=case.name,
        state=SweepState.COMPLETE,
        reason=None,
        started=now,
        planned=case.trials,
        finished=case.trials,
        front_size=0,
        hypervolume=None,
        slot_hours=0.0,
        storage=str(here),
        run_id="",
    )


def main() -> None:
    """Run all sweeps and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where sweeps and audits are kept")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--level", choices=["quick", "full"], default="full", help="of the audits")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    trials = load_search_space(SPACE).budget.trials or 16
    began = time.perf_counter()
    with ProcessPoolExecutor(arguments.workers, multiprocessing.get_context("spawn")) as pool:
        three = [Case(3, sampler, seed, trials) for sampler in ("tpe", "mfgp") for seed in range(arguments.seeds)]
        spent = list(pool.map(sweep, three, [folder] * len(three)))
        probes = [Case(2, "tpe", seed, trials) for seed in range(arguments.seeds)]
        cheaper = list(pool.map(sweep, probes, [folder] * len(probes)))
        pairs = zip(probes, spent, cheaper, strict=False)  # those of `tpe` come first
        two = [replace(case, trials=round(trials * with_attacks / without)) for case, with_attacks, without in pairs]
        list(pool.map(sweep, two, [folder] * len(two)))
        cases = [*two, *three]
        rows = list(pool.map(audit, cases, [folder] * len(cases), [arguments.level] * len(cases)))
    print("| search | seed | trials | hypervolume | fd | unlearned | counts as forgotten | worst excess | attack |")
    print("|" + " --- |" * 9)
    for case, row in zip(cases, rows, strict=True):
        excess = f"{row['excess']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        cells = [case.kind, case.seed, case.trials, f"{row['hypervolume']:.2f}", f"{row['fd_classifier']:.3f}"]
        cells += [f"{row['unlearning_accuracy']:.3f}", "yes" if row["forgotten"] else "no", excess, row["attack"]]
        print(f"| {' | '.join(map(str, cells))} |")
    for kind in dict.fromkeys(case.kind for case in cases):
        mine = [row for case, row in zip(cases, rows, strict=True) if case.kind == kind]
        volumes = np.quantile([float(str(row["hypervolume"])) for row in mine], [0.25, 0.5, 0.75])
        durable = [float(str(row["excess"])) < DURABLE for row in mine]
        counted = [lasts for lasts, row in zip(durable, mine, strict=True) if row["forgotten"]]
        print(
            f"{kind}: hypervolume {volumes[1]:.2f} ({volumes[0]:.2f} to {volumes[2]:.2f}); {sum(durable)} of "
            f"{len(mine)} knees have a worst excess below {DURABLE}, and {sum(counted)} of the {len(counted)} that "
            "count as forgotten"
        )
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
