"""Samplers and schedulers compared by hypervolume over training steps, replayed on recorded digits trials.

    python benchmarks/search.py tuning/three_classes [--seeds 24] [--workers 2] [--picture docs/search.png]

Nothing is trained. A table of `record_tables.py` holds the learning curves of real trials that fill its search space
densely. Each proposal of a sampler is moved to the nearest recorded point that its replay has not used (in the unit
cube, each parameter on its own scale), and the sampler receives that point as its proposal. A replay therefore never
uses a trial twice, and all strategies draw from the same trials.

Samplers and schedulers are those of the package and receive what they receive in a sweep. Four workers run trials
asynchronously; time is counted in training steps, and evaluations take none. The hypervolume is that of complete
trials that satisfy the constraints. The budget pays for forty complete trials. The seed is that of the sampler; the
seed of the trials is always the same.
"""

import argparse
import heapq
import multiprocessing
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState
from record_tables import distributions, space_of, to_unit, trials_of

from sfd_sweep.config import SearchSpace
from sfd_sweep.execution.trainable import tune_result
from sfd_sweep.execution.tune import PastTrial, make_scheduler
from sfd_sweep.search.distributions import suggest
from sfd_sweep.search.pareto import front, hypervolume_of
from sfd_sweep.search.samplers import make_sampler
from sfd_sweep.search.scores import violation
from sfd_sweep.search.stored_reports import report_key
from sfd_sweep.trial.report import Report

WORKERS = 4
ASHA = "search.scheduler={type: asha, grace_evaluations: 1, reduction_factor: 3}"
MO_ASHA = "search.scheduler={type: mo_asha, grace_evaluations: 1, reduction_factor: 3}"

STRATEGIES: dict[str, tuple[str, ...]] = {
    "random": ("search.sampler=random",),
    "tpe": ("search.sampler=tpe",),
    "nsga2": ("search.sampler=nsga2",),
    "gp": ("search.sampler=gp",),
    "tpe with asha": ("search.sampler=tpe", ASHA),
    "tpe with mo_asha": ("search.sampler=tpe", MO_ASHA),
    "mfgp": ("search.sampler=mfgp",),
    "mfgp with mo_asha": ("search.sampler=mfgp", MO_ASHA),
}
"""Overrides of the search space for each strategy."""

BASELINE = "tpe"
COMPLETE_TRIALS = 40
"""Number of complete trials that the budget pays for."""
LEAST_SHOWN = 0.5
"""Fraction of the hypervolume of all recorded trials at the lower end of the picture."""

COLORS = ("#9aa0a6", "#1f77b4", "#2ca02c", "#8c564b", "#ff7f0e", "#d62728", "#9467bd", "#17becf")


def report_of(row: Mapping[Hashable, Any], metrics: Sequence[str]) -> Report:
    """Return the report that a row of the table holds."""
    return Report(int(row["step"]), {name: float(row[name]) for name in metrics}, {}, {}, {})


@dataclass(frozen=True)
class Table:
    """Recorded trials.

    Attributes:
        points: the searched parameters of each.
        places: the same in the unit cube, shape (trials, parameters).
        curves: the reports of each, the last at the full budget.
    """

    points: list[dict[str, float]]
    places: NDArray[np.float64]
    curves: list[list[Report]]

    @classmethod
    def of(cls, rows: pd.DataFrame, space: SearchSpace) -> "Table":
        """Return the recorded trials with the seed of the space that did not fail."""
        searched = distributions(space)
        metrics = [part.metric for part in space.objectives] + [part.metric for part in space.constraints]
        rows = rows[rows["seed"] == space.trial.seed]
        trials = [rows for _, rows in rows.groupby("trial") if rows["step"].max() == space.trial.steps]
        points = [{name: float(rows[name].iloc[0]) for name in searched} for rows in trials]
        curves = [[report_of(row, metrics) for row in rows.to_dict("records")] for rows in trials]
        return cls(points, np.array([to_unit(point, searched) for point in points]), curves)


class FromTable(BaseSampler):
    """Sampler that proposes the unused recorded trial nearest to the proposal of another sampler.

    Attributes:
        chosen: the recorded trial that it proposed last.
    """

    def __init__(self, sampler: BaseSampler, space: SearchSpace, table: Table, left: set[int]) -> None:
        self._sampler = sampler
        self._searched = distributions(space)
        self._table = table
        self._left = left
        self.chosen = -1

    def infer_relative_search_space(self, _study: optuna.Study, _trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return every searched parameter: a recorded trial fixes all of them."""
        return {
            name: optuna.distributions.FloatDistribution(part.low, part.high, log=part.log)
            for name, part in self._searched.items()
        }

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the recorded point."""
        own = self._sampler.infer_relative_search_space(study, trial)
        proposal = self._sampler.sample_relative(study, trial, own)
        for name, distribution in search_space.items():
            if name not in proposal:
                proposal[name] = self._sampler.sample_independent(study, trial, name, distribution)
        left = np.array(sorted(self._left))
        distance = np.linalg.norm(self._table.places[left] - to_unit(proposal, self._searched), axis=1)
        self.chosen = int(left[distance.argmin()])
        self._left.remove(self.chosen)
        return dict(self._table.points[self.chosen])

    def sample_independent(
        self, _study: optuna.Study, _trial: FrozenTrial, name: str, _distribution: BaseDistribution
    ) -> Any:
        """Never called: all parameters are sampled together."""
        raise NotImplementedError(name)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Forward to the other sampler."""
        self._sampler.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Forward to the other sampler."""
        self._sampler.after_trial(study, trial, state, values)


@dataclass(order=True)
class Running:
    """A trial on a worker, ordered by the time of its next report.

    Attributes:
        time: of the next report, in steps of its worker.
        number: of the trial; breaks ties in the order.
        trial: in the study.
        curve: remaining reports.
    """

    time: int
    number: int
    trial: Trial = field(compare=False)
    curve: list[Report] = field(compare=False)


class Replay:
    """One search on recorded trials."""

    def __init__(self, space: SearchSpace, table: Table) -> None:
        self._space = space
        self._table = table
        self._left = set(range(len(table.points)))
        self._study = optuna.create_study(directions=[part.goal.value for part in space.objectives])
        self._scheduler = make_scheduler(space)
        self.begun = 0
        self.complete: list[Mapping[str, float]] = []

    def run(self, budget: int) -> Iterator[tuple[int, float]]:
        """Search until the budget of steps is used, or all recorded trials have ended.

        Yields:
            The steps used by all workers and the hypervolume, after each complete trial.
        """
        workers = [self._begin(0) for _ in range(WORKERS)]
        heapq.heapify(workers)
        while workers and workers[0].time * WORKERS <= budget:
            running = workers[0]
            report, *rest = running.curve
            running.trial.set_user_attr(report_key(report.step), report.to_dict())
            if self._continues(running.number, report):
                heapq.heapreplace(workers, replace(running, time=running.time + rest[0].step - report.step, curve=rest))
                continue
            heapq.heappop(workers)
            self._end(running.trial, report)
            if report.step == self._space.trial.steps:
                self.complete.append(report.metrics)
                yield running.time * WORKERS, volume(self.complete, self._space)
            if self._left:
                heapq.heappush(workers, self._begin(running.time))

    def _begin(self, time: int) -> Running:
        """Start the next trial at a time."""
        sampler = FromTable(make_sampler(self._space, self.begun), self._space, self._table, self._left)
        self._study.sampler = sampler
        trial = self._study.ask()
        for name, distribution in self._space.parameters.searched().items():
            suggest(trial, name, distribution)
        self._scheduler.on_trial_add(None, PastTrial(str(trial.number)))
        self.begun += 1
        curve = self._table.curves[sampler.chosen]
        return Running(time + curve[0].step, trial.number, trial, curve)

    def _continues(self, number: int, report: Report) -> bool:
        """Pass a report to the scheduler, as Tune does; tell whether the trial continues."""
        trial, seen = PastTrial(str(number)), tune_result(report, self._space)
        complete = report.step == self._space.trial.steps
        continues = not complete and self._scheduler.on_trial_result(None, trial, seen) == self._scheduler.CONTINUE
        if not continues:
            self._scheduler.on_trial_complete(None, trial, seen)
        return continues

    def _end(self, trial: Trial, report: Report) -> None:
        """End a trial in the study, as a sweep does."""
        for constraint in self._space.constraints:
            trial.set_constraint(constraint.metric, violation(report.metrics, [constraint]))
        if report.step == self._space.trial.steps:
            self._study.tell(trial, [report.metrics[part.metric] for part in self._space.objectives])
        else:
            self._study.tell(trial, state=TrialState.PRUNED)


def volume(complete: Sequence[Mapping[str, float]], space: SearchSpace) -> float:
    """Return the hypervolume of the front of complete trials."""
    members = front(complete, space.objectives, space.constraints)
    return hypervolume_of([complete[index] for index in members], space.objectives)


@dataclass(frozen=True)
class Outcome:
    """Results of a strategy over all seeds.

    Attributes:
        volumes: hypervolume by seed and number of steps, shape (seeds, budget + 1).
        begun: number of started trials by seed.
        complete: number of complete trials by seed.
    """

    volumes: NDArray[np.float64]
    begun: list[int]
    complete: list[int]

    def quartiles(self) -> NDArray[np.float64]:
        """Return lower quartile, median, and upper quartile by steps; shape (3, budget + 1)."""
        return np.quantile(self.volumes, [0.25, 0.5, 0.75], axis=0)


def replay(name: str, strategy: str, seed: int) -> tuple[NDArray[np.float64], int, int]:
    """Replay a strategy; return the hypervolume by steps, shape (budget + 1,), and numbers of trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials = f"budget.trials={COMPLETE_TRIALS}"  # determines the population of NSGA-II
    space = space_of(name, [*STRATEGIES[strategy], f"search.seed={seed}", trials])
    budget = COMPLETE_TRIALS * space.trial.steps
    volumes = np.zeros(budget + 1)
    search = Replay(space, Table.of(trials_of(name), space))
    for spent, reached in search.run(budget):
        volumes[spent:] = reached
    return volumes, search.begun, len(search.complete)


def row(strategy: str, outcome: Outcome, baseline: Outcome) -> str:
    """Return a row of the Markdown table: quartiles at some steps, and when the baseline's last median is reached."""
    low, median, high = outcome.quartiles()
    cells = [f"{median[mark]:.2f} ({low[mark]:.2f} to {high[mark]:.2f})" for mark in marks(len(median) - 1)]
    (reached,) = np.nonzero(median >= baseline.quartiles()[1][-1])
    share = f"{reached[0] / (len(median) - 1):.2f}" if len(reached) else "not reached"
    trials = f"{np.median(outcome.begun):.0f} / {np.median(outcome.complete):.0f}"
    return f"| {' | '.join([strategy, *cells, share, trials])} |"


def header(budget: int) -> str:
    """Return the head of the table."""
    steps = [f"{mark} steps" for mark in marks(budget)]
    cells = ["strategy", *steps, f"share of the steps of {BASELINE}", "trials begun / complete"]
    return f"| {' | '.join(cells)} |\n|{' --- |' * len(cells)}"


def marks(budget: int) -> tuple[int, int, int]:
    """Return the steps in the columns of the table."""
    return budget // 4, budget // 2, budget


def picture(outcomes: Mapping[str, Outcome], best: float, path: Path) -> None:
    """Draw the hypervolume over steps: medians over seeds as lines, quartiles as bands."""
    figure = Figure(figsize=(7.4, 4.6), dpi=160, layout="constrained")
    panel = figure.subplots()
    for strategy, outcome in outcomes.items():
        color = COLORS[list(STRATEGIES).index(strategy)]
        low, median, high = outcome.quartiles()
        steps = np.arange(len(median))
        panel.step(steps, median, where="post", color=color, label=strategy)
        panel.fill_between(steps, low, high, step="post", color=color, alpha=0.12, linewidth=0)
    panel.axhline(best, color=COLORS[0], linestyle=":", linewidth=1)
    panel.set(xlabel="training steps of all trials", ylabel="hypervolume of the front   better →")
    panel.set_ylim(LEAST_SHOWN * best, best * 1.01)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, loc="lower right")
    figure.savefig(path)


def run(name: str, strategies: Sequence[str], seeds: int, workers: int, path: Path | None) -> None:
    """Replay strategies, print the table, and draw the picture."""
    space = space_of(name)
    table = Table.of(trials_of(name), space)
    best = volume([curve[-1].metrics for curve in table.curves], space)
    print(f"{name}: {len(table.points)} recorded trials; their front has hypervolume {best:.3f}; {seeds} seeds")
    print(header(COMPLETE_TRIALS * space.trial.steps))
    outcomes: dict[str, Outcome] = {}
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for strategy in dict.fromkeys([BASELINE, *strategies]):
            found = list(pool.map(replay, [name] * seeds, [strategy] * seeds, range(seeds)))
            volumes, begun, complete = zip(*found, strict=True)
            outcomes[strategy] = Outcome(np.array(volumes), list(begun), list(complete))
            print(row(strategy, outcomes[strategy], outcomes[BASELINE]), flush=True)
    if path is not None:
        picture(outcomes, best, path)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", help="of `record_tables.py`")
    parser.add_argument("--strategies", nargs="+", choices=list(STRATEGIES), default=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    run(asked.table, asked.strategies, asked.seeds, asked.workers, asked.picture)


if __name__ == "__main__":
    main()
