"""Time lost between two trials: long-lived slots, compared with one `TorchTrainer` for each trial, in one run.

    python benchmarks/overhead.py [--trials 6]

Both run the same short digits trials, one after another, and record when each training step begins and ends. The gap
is the time from the end of the last step of a trial to the start of the first step of the next; it includes
evaluating and saving. The baseline is the nesting in Ray's documentation: a Tune function that fits a
`TorchTrainer`, with default settings.
"""

import argparse
import functools
import json
import os
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.config.loading import load_search_space
from sfd_sweep.execution.cluster import SWITCHES
from sfd_sweep.execution.run import run
from sfd_sweep.execution.worker import SlotRuntime, build_runtime
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.storage.folder import Folder

SPACE = Path(__file__).parent.parent / "search_spaces" / "digits.yaml"


def note_steps(events: Path) -> None:
    """Make every training step of this process append its times to a file."""
    from sfd_sweep.method.generator_training import UpdateLosses
    from sfd_sweep.method.trainer import Trainer

    update = Trainer.update

    def timed(trainer: Trainer) -> UpdateLosses:
        begin = time.time()
        losses = update(trainer)
        with events.open("a") as stream:
            stream.write(json.dumps({"step": trainer.step, "begin": begin, "end": time.time()}) + "\n")
        return losses

    Trainer.update = timed  # type: ignore[assignment, method-assign]


def gaps(events: Path) -> list[float]:
    """Return the seconds from the last step of each trial to the first step of the next."""
    steps = [json.loads(line) for line in events.read_text().splitlines()]
    return [after["begin"] - before["end"] for before, after in pairwise(steps) if after["step"] == 1]


def build_and_note(events: Path, space: SearchSpace, sweep: Folder) -> SlotRuntime:
    """Build the usual runtime in a process that records its steps."""
    note_steps(events)
    return build_runtime(space, sweep)


def run_slots(space: SearchSpace, events: Path) -> list[Settings]:
    """Run the sweep on one slot; return the settings of its trials, in order."""
    outcome = run(space, build=functools.partial(build_and_note, events))
    return [trial.settings for trial in SweepStudy(space, Folder.open(outcome.folder)).trials()]


def train_one(config: dict) -> None:  # type: ignore[type-arg]
    """Train one trial inside a `TorchTrainer`."""
    import torch
    from ray import train

    from sfd_sweep.trial.resolve import resolve_sweep
    from sfd_sweep.trial.runner import TrialContext, TrialRunner

    torch.set_num_threads(1)
    note_steps(Path(config["events"]))
    space: SearchSpace = config["space"]
    context = TrialContext.build(resolve_sweep(space), None)
    with tempfile.TemporaryDirectory() as folder:
        report = TrialRunner(context, config["settings"], Folder.open(folder)).advance(space.trial.steps)
    train.report(report.metrics)


def run_nested(space: SearchSpace, settings: list[Settings], events: Path, storage: Path) -> None:
    """Run the same trials, each as a `TorchTrainer` of its own inside a Tune function."""
    import ray
    from ray import train, tune
    from ray.train.torch import TorchTrainer

    def objective(config: dict) -> None:  # type: ignore[type-arg]
        TorchTrainer(
            train_one,
            train_loop_config={"events": str(events), "space": space, "settings": settings[config["trial"]]},
            scaling_config=train.ScalingConfig(num_workers=1),
            run_config=train.RunConfig(name=f"trial-{config['trial']}", storage_path=str(storage)),
        ).fit()

    for name in SWITCHES:  # the sweep has set them in this process; the baseline uses Ray's defaults
        os.environ.pop(name, None)
    ray.init(address="local", log_to_driver=False, logging_level="ERROR")
    tune.Tuner(
        objective,
        param_space={"trial": tune.grid_search(list(range(len(settings))))},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(name="nested", storage_path=str(storage), verbose=0),
    ).fit()
    ray.shutdown()


def main() -> None:
    """Measure both, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=6)
    trials = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.chdir(folder)
        space = load_search_space(
            SPACE,
            [
                f"budget.trials={trials}",
                "trial.steps=2",
                "trial.evaluate_every=2",
                "evaluation.samples=90",
                "evaluation.forget_samples=40",
                "evaluation.final_samples=null",
                "resources.slots=1",
                f"storage={folder / 'runs'}",
                f"tracking.uri=sqlite:///{folder / 'mlflow.db'}",
            ],
        )
        settings = run_slots(space, folder / "slots.jsonl")
        run_nested(space, settings, folder / "nested.jsonl", folder / "nested")
        slots, nested = gaps(folder / "slots.jsonl"), gaps(folder / "nested.jsonl")
    for name, seconds in (("slots", slots), ("one TorchTrainer per trial", nested)):
        each = ", ".join(f"{gap:.2f}" for gap in seconds)
        print(f"{name:<26} median {statistics.median(seconds):6.2f} s between trials   ({each})")
    print(f"ratio {statistics.median(nested) / statistics.median(slots):.1f}×")


if __name__ == "__main__":
    main()
