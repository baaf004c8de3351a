"""How often a sweep's knee is a generator whose forgetting lasts: three objectives against two, at equal cost.

    python benchmarks/durable_choice.py --folder /tmp/durable [--seeds 5] [--workers 2] [--level full]

For each seed the search of `search_spaces/digits.yaml` runs in a plain loop, once as it is and once without the
objective and the bounds that attacks measure. The sweep of two objectives gets as many more trials as its cheaper
evaluations pay for. The knee of each front is audited; a generator counts as durable where its worst excess over the
never-knew control is below 0.1. Results are kept in the folder, so that an interrupted run continues.
"""

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

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
    """One sweep: its number of objectives, its seed, and its trials."""

    objectives: int
    seed: int
    trials: int

    @property
    def name(self) -> str:
        return f"{self.objectives}-objectives-seed-{self.seed}"

    def space(self) -> SearchSpace:
        space = load_search_space(SPACE, [f"search.seed={self.seed}", f"name={self.name}"])
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
        three = [Case(3, seed, trials) for seed in range(arguments.seeds)]
        spent = list(pool.map(sweep, three, [folder] * len(three)))
        probes = [Case(2, seed, trials) for seed in range(arguments.seeds)]
        cheaper = list(pool.map(sweep, probes, [folder] * len(probes)))
        two = [Case(2, c.seed, round(trials * a / b)) for c, a, b in zip(probes, spent, cheaper, strict=True)]
        list(pool.map(sweep, two, [folder] * len(two)))
        cases = [*two, *three]
        rows = list(pool.map(audit, cases, [folder] * len(cases), [arguments.level] * len(cases)))
    columns = f"{'objectives':>10} {'seed':>4} {'trials':>6} {'fd':>7} {'unlearned':>9} {'counts':>6} {'excess':>22}"
    print(f"{columns}  worst attack")
    for case, row in zip(cases, rows, strict=True):
        interval = f"{row['excess']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        counts = "yes" if row["forgotten"] else "no"
        print(
            f"{case.objectives:>10} {case.seed:>4} {case.trials:>6} {row['fd_classifier']:>7.3f} "
            f"{row['unlearning_accuracy']:>9.3f} {counts:>6} {interval:>22}  {row['attack']}"
        )
    for objectives in (2, 3):
        mine = [row for case, row in zip(cases, rows, strict=True) if case.objectives == objectives]
        excess = [float(str(row["excess"])) for row in mine]
        durable = sum(value < DURABLE for value in excess)
        print(f"{objectives} objectives: {durable} of {len(excess)} knees have a worst excess below {DURABLE}")
        counted = [value < DURABLE for value, row in zip(excess, mine, strict=True) if row["forgotten"]]
        print(f"  {sum(counted)} of the {len(counted)} that count as forgotten; `export` refuses the others")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
