"""What a sweep of many trials costs its driver, and whether that grows with the number of trials.

    python benchmarks/scale.py [--trials 1000] [--reports 20] [--slots 2] [--seconds 0.05]

The trials train nothing, but everything around them is real: slots, Ray Tune, the study, and MLflow in SQLite with a
picture for each report. For each tenth of the trials it prints, of the driver's process alone: CPU seconds a trial,
those that the sampler takes besides to propose one, the most memory so far, what of that each trial has added, seconds
that MLflow takes to record a report, and how many reports the record was behind by then. In the end come the ratios of
the last tenth to the first (for what a trial adds to the memory, to the second: the first has all that is loaded once).
"""

import argparse
import io
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.config.loading import load_search_space
from sfd_sweep.execution.events import SweepObserver
from sfd_sweep.execution.run import run
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.runs import SweepRuns
from sfd_sweep.trial.files import GRID, REPORT, step_folder, trial_folder
from sfd_sweep.trial.report import Report, TrialState

SPACE = Path(__file__).parent.parent / "search_spaces" / "digits.yaml"


@dataclass(frozen=True)
class IdleBuild:
    """Makes labs whose trials only take their time."""

    seconds: float

    def __call__(self, _space: SearchSpace, sweep: Folder) -> "IdleLab":
        """A runtime for the trials of a sweep."""
        return IdleLab(self.seconds, sweep)


@dataclass(frozen=True)
class IdleLab:
    """A runtime without a model."""

    seconds: float
    sweep: Folder

    def start(self, number: int, settings: Settings) -> "IdleTrial":
        """A trial, with nothing to load."""
        return IdleTrial(self.seconds, settings, trial_folder(self.sweep, number))

    def judge(self, number: int, settings: Settings, *, samples: int, forget_samples: int) -> Report:
        """Nobody asks for it."""
        raise NotImplementedError


@dataclass(frozen=True)
class IdleTrial:
    """A trial whose figures follow from its settings and its step, with a trade-off between them."""

    seconds: float
    settings: Settings
    folder: Folder

    def advance(self, to: int) -> Report:
        """Wait, and leave what a real trial would leave, but for weights."""
        time.sleep(self.seconds)
        trade = self.settings.guidance_scale
        excess = abs(self.settings.generator_lr * 1e4 - 1)
        figures = {"fd_classifier": trade + excess + 5 / to, "unlearning_accuracy": 1 - 1 / (trade + 1)}
        report = Report(
            step=to,
            metrics=figures | {"override_distance": 10.0, "override_rate": 0.9, "retain_accuracy": 0.9},
            samples={"retained": 2000, "forgotten": 1000},
            losses={"generator": 0.5, "fake_score": 0.25},
            seconds={"training": self.seconds, "evaluating": 0.0, "saving": 0.0},
        )
        step_folder(self.folder, to).write(GRID, picture())
        step_folder(self.folder, to).write(REPORT, report.to_json().encode())
        return report


def picture() -> bytes:
    """A grid of samples by its size."""
    stream = io.BytesIO()
    Image.effect_noise((100, 100), 50).save(stream, "PNG")
    return stream.getvalue()


@dataclass(frozen=True)
class Reading:
    """What has been spent so far."""

    cpu_seconds: float
    sampler_seconds: float
    memory_mib: float
    mlflow_seconds: float
    told: int
    recorded: int


@dataclass(frozen=True)
class Cost:
    """What a tenth of the trials has cost, but for what they cost together."""

    cpu_seconds_a_trial: float
    sampler_seconds_a_trial: float
    kib_a_trial: float
    mlflow_seconds_a_report: float

    @classmethod
    def between(cls, before: Reading, now: Reading, trials: int) -> "Cost":
        """What so many trials have cost."""
        sampler = now.sampler_seconds - before.sampler_seconds
        return cls(
            (now.cpu_seconds - before.cpu_seconds - sampler) / trials,
            sampler / trials,
            (now.memory_mib - before.memory_mib) * 1024 / trials,
            (now.mlflow_seconds - before.mlflow_seconds) / max(1, now.recorded - before.recorded),
        )


class Meter(SweepObserver):
    """Prints a line for each tenth of the trials."""

    def __init__(self, trials: int) -> None:
        self._tenth = trials // 10
        self._ended = 0
        self._told = 0
        self._recorded = 0
        self._mlflow_seconds = 0.0
        self._sampler_seconds = 0.0
        self._before = self._read()
        self.costs: list[Cost] = []

    def watch(self) -> None:
        """Have every report that MLflow takes in this process counted and timed, and every proposal timed."""
        report_trial, ask = SweepRuns.report_trial, SweepStudy.ask

        def timed_report(runs: SweepRuns, number: int, reports: Sequence[tuple[Report, float]]) -> None:
            began = time.perf_counter()
            report_trial(runs, number, reports)
            self._mlflow_seconds += time.perf_counter() - began
            self._recorded += len(reports)

        def timed_ask(study: SweepStudy) -> int:
            began = time.thread_time()
            number = ask(study)
            self._sampler_seconds += time.thread_time() - began
            return number

        SweepRuns.report_trial = timed_report  # type: ignore[assignment, method-assign]
        SweepStudy.ask = timed_ask  # type: ignore[assignment, method-assign]

    def trial_reported(self, number: int, report: Report, waiting_seconds: float) -> None:  # noqa: ARG002
        """Count it."""
        self._told += 1

    def trial_finished(self, number: int, state: TrialState, reason: str | None) -> None:  # noqa: ARG002
        """Count it, and print what the last tenth has cost."""
        self._ended += 1
        if self._ended % self._tenth == 0:
            now = self._read()
            cost = Cost.between(self._before, now, self._tenth)
            print(
                f"{self._ended:>6}  {cost.cpu_seconds_a_trial:>18.3f}  {cost.sampler_seconds_a_trial:>9.4f}"
                f"  {now.memory_mib:>10.0f}  {cost.kib_a_trial:>11.0f}  {cost.mlflow_seconds_a_report:>17.4f}"
                f"  {now.told - now.recorded:>6}",
                flush=True,
            )
            self.costs.append(cost)
            self._before = now

    def _read(self) -> Reading:
        return Reading(
            time.process_time(),
            self._sampler_seconds,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            self._mlflow_seconds,
            self._told,
            self._recorded,
        )


def main() -> None:
    """Run the sweep, and print what it costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--reports", type=int, default=20)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.05, help="that a trial takes to its next report")
    parser.add_argument("--sampler", default="tpe")
    asked = parser.parse_args()
    meter = Meter(asked.trials)
    meter.watch()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        space = load_search_space(
            SPACE,
            [
                *("search.first=[]", "search.scheduler={type: none}", f"search.sampler={asked.sampler}"),
                *(f"budget.trials={asked.trials}", f"trial.steps={asked.reports}", "trial.evaluate_every=1"),
                *("evaluation.final_samples=null", f"resources.slots={asked.slots}", "resources.cpus_per_worker=0.1"),
                *(f"storage={scratch}/runs", f"tracking.uri=sqlite:///{scratch}/mlflow.db"),
            ],
        )
        print("trials  CPU seconds a trial  sampler's  memory MiB  KiB a trial  MLflow s a report  behind")
        outcome = run(space, observer=meter, build=IdleBuild(asked.seconds))
    first, second, *_, last = meter.costs
    print(
        f"last to first: CPU {last.cpu_seconds_a_trial / first.cpu_seconds_a_trial:.2f}, "
        f"memory a trial {last.kib_a_trial / second.kib_a_trial:.2f}, "
        f"MLflow {last.mlflow_seconds_a_report / first.mlflow_seconds_a_report:.2f}; "
        f"the sampler's CPU {last.sampler_seconds_a_trial / first.sampler_seconds_a_trial:.2f}"
    )
    print(f"{asked.trials} trials of {asked.reports} reports in {outcome.wall_seconds:.0f} s")


if __name__ == "__main__":
    main()
