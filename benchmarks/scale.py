"""Cost of a sweep of many trials for its driver, and how it grows with the number of trials.

    python benchmarks/scale.py [--trials 1000] [--reports 20] [--slots 2] [--seconds 0.05]

The trials do not train; everything else is real: slots, Ray Tune, the study, and MLflow in SQLite with a picture for
each report. For each tenth of the trials, the script prints the following of the driver's process: CPU seconds per
trial without the sampler, CPU seconds of the sampler per trial, peak memory, memory added per trial, seconds of
MLflow per report, and the number of reports that wait for MLflow. At the end it prints the ratios of the last tenth
to the first; for memory per trial to the second, because the first includes everything that is loaded once.
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
from sfd_sweep.trial.files import GRID, REPORT, step_folder
from sfd_sweep.trial.report import Report, TrialState

SPACE = Path(__file__).parent.parent / "search_spaces" / "digits.yaml"
FIGURES = {"override_distance": 10.0, "override_rate": 0.9, "retain_accuracy": 0.9}
"""The same for all."""


@dataclass(frozen=True)
class IdleBuild:
    """Builds runtimes whose trials only wait."""

    seconds: float

    def __call__(self, _space: SearchSpace, _sweep: Folder) -> "IdleRuntime":
        """Return the runtime of a sweep."""
        return IdleRuntime(self.seconds)


@dataclass(frozen=True)
class IdleRuntime:
    """A runtime without a model."""

    seconds: float

    def start_trial(self, settings: Settings, folder: Folder) -> "IdleTrial":
        """Return a trial."""
        return IdleTrial(self.seconds, settings, folder)

    def evaluate_final(self, settings: Settings, folder: Folder, *, samples: int, forget_samples: int) -> Report:
        """Not used: `final_samples` is null."""
        raise NotImplementedError

    def evaluate_swap(self, *, samples: int, forget_samples: int) -> Report:
        """Return figures of a null baseline."""
        counts = {"retained": samples, "forgotten": forget_samples}
        return Report(0, FIGURES | {"fd_classifier": 1.0, "unlearning_accuracy": 1.0}, counts, {}, {"evaluating": 0.0})


@dataclass(frozen=True)
class IdleTrial:
    """A trial whose metrics are functions of its settings and its step, with a trade-off."""

    seconds: float
    settings: Settings
    folder: Folder

    def advance(self, to: int) -> Report:
        """Wait, and write the files of a real trial except weights."""
        time.sleep(self.seconds)
        trade = self.settings.guidance_scale
        excess = abs(self.settings.generator_lr * 1e4 - 1)
        figures = {"fd_classifier": trade + excess + 5 / to, "unlearning_accuracy": 1 - 1 / (trade + 1)}
        figures |= {"excess_relearning_rate": 1 / (trade + 2), "excess_inversion_rate": 0.0}
        report = Report(
            step=to,
            metrics=figures | FIGURES,
            samples={"retained": 2000, "forgotten": 1000},
            losses={"generator": 0.5, "fake_score": 0.25},
            seconds={"training": self.seconds, "evaluating": 0.0, "saving": 0.0},
        )
        step_folder(self.folder, to).write(GRID, picture())
        step_folder(self.folder, to).write(REPORT, report.to_json().encode())
        return report


def picture() -> bytes:
    """Return an image of the size of a sample grid."""
    stream = io.BytesIO()
    Image.effect_noise((100, 100), 50).save(stream, "PNG")
    return stream.getvalue()


@dataclass(frozen=True)
class Reading:
    """Totals so far."""

    cpu_seconds: float
    sampler_seconds: float
    memory_mib: float
    mlflow_seconds: float
    reported: int
    recorded: int


@dataclass(frozen=True)
class Cost:
    """Cost per trial or report over a tenth of the trials."""

    cpu_seconds_per_trial: float
    sampler_seconds_per_trial: float
    kib_per_trial: float
    mlflow_seconds_per_report: float

    @classmethod
    def between(cls, before: Reading, now: Reading, trials: int) -> "Cost":
        """Return the cost of the trials between two readings."""
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
        self._reported = 0
        self._recorded = 0
        self._mlflow_seconds = 0.0
        self._sampler_seconds = 0.0
        self._before = self._read()
        self.costs: list[Cost] = []

    def watch(self) -> None:
        """Count and time every report that MLflow writes in this process, and time every proposal."""
        report_trial, ask = SweepRuns.report_trial, SweepStudy.ask

        def timed_report(runs: SweepRuns, number: int, reports: Sequence[Report]) -> None:
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

    def trial_reported(self, number: int, report: Report) -> None:  # noqa: ARG002
        """Count the report."""
        self._reported += 1

    def trial_finished(self, number: int, state: TrialState, reason: str | None) -> None:  # noqa: ARG002
        """Count it, and print the cost of the last tenth."""
        self._ended += 1
        if self._ended % self._tenth == 0:
            now = self._read()
            cost = Cost.between(self._before, now, self._tenth)
            print(
                f"{self._ended:>6}  {cost.cpu_seconds_per_trial:>18.3f}  {cost.sampler_seconds_per_trial:>9.4f}"
                f"  {now.memory_mib:>10.0f}  {cost.kib_per_trial:>11.0f}  {cost.mlflow_seconds_per_report:>17.4f}"
                f"  {now.reported - now.recorded:>7}",
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
            self._reported,
            self._recorded,
        )


def main() -> None:
    """Run the sweep, and print its cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--reports", type=int, default=20)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.05, help="between two reports of a trial")
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
        print("trials  CPU seconds / trial    sampler  memory MiB  KiB / trial  MLflow s / report  waiting")
        outcome = run(space, observer=meter, build=IdleBuild(asked.seconds))
    first, second, *_, last = meter.costs
    print(
        f"last to first: CPU {last.cpu_seconds_per_trial / first.cpu_seconds_per_trial:.2f}, "
        f"memory per trial {last.kib_per_trial / second.kib_per_trial:.2f}, "
        f"MLflow {last.mlflow_seconds_per_report / first.mlflow_seconds_per_report:.2f}; "
        f"the sampler's CPU {last.sampler_seconds_per_trial / first.sampler_seconds_per_trial:.2f}"
    )
    print(f"{asked.trials} trials of {asked.reports} reports in {outcome.wall_seconds:.0f} s")


if __name__ == "__main__":
    main()
