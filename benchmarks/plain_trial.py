"""One trial of a search space in a plain loop, without Ray and MLflow.

    python benchmarks/plain_trial.py search_spaces/digits.yaml [--device cuda] [--set trial.steps=200] [--point 0]

It needs only torch, diffusers, clean-fid, filelock, numpy, Pillow, pyarrow, pydantic, ruamel.yaml, safetensors, SciPy,
and scikit-learn for the digits. Searched parameters take the values of one point of `search.first`.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.config.loading import load_search_space
from sfd_sweep.errors import TrialFailed, UserError
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import Report
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext, TrialRunner


def settings_of(space: SearchSpace, index: int) -> Settings:
    """Return the settings at a point of `search.first`.

    Raises:
        UserError: the point does not exist, or does not set every searched parameter.
    """
    if index >= len(space.search.first):
        raise UserError(f"--point {index}: search.first has {len(space.search.first)} points, numbered from 0")
    point = space.search.first[index]
    missing = space.parameters.searched().keys() - point.keys()
    if missing:
        raise UserError(f"search.first.{index}: {', '.join(sorted(missing))} has no value; add it")
    return space.parameters.settings(point)


def print_row(report: Report, columns: Sequence[str], steps: int) -> None:
    """Print one evaluation as a row of the table, after `steps` updates."""
    figures = "".join(f"{report.metrics[name]:>30.4f}" for name in columns)
    print(f"{report.step:>6}{figures}{steps / report.seconds['training']:>10.2f}", flush=True)


def run(space: SearchSpace, settings: Settings, device: str) -> None:
    """Run the trial and print a row for each evaluation."""
    start = time.perf_counter()
    context = TrialContext.build(resolve_sweep(space), None, device)
    print(
        f"loaded in {time.perf_counter() - start:.1f} s; {settings.batch_size} + {settings.forget_batch_size} samples"
    )
    columns = tuple(dict.fromkeys((*space.asked_metrics, "unlearning_accuracy")))
    print(f"{'step':>6}" + "".join(f"{name:>30}" for name in columns) + f"{'steps/s':>10}")
    start, done = time.perf_counter(), 0
    with tempfile.TemporaryDirectory() as scratch:
        trial = TrialRunner(context, settings, Folder.open(scratch))
        for step in space.trial.milestones():
            print_row(trial.advance(step), columns, step - done)
            done = step
    seconds = time.perf_counter() - start
    print(f"{done} steps in {seconds:.1f} s with {len(space.trial.milestones())} evaluations")


def main() -> None:
    """Read the arguments and run the trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", type=Path, help="a search-space file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the file")
    parser.add_argument("--point", type=int, default=0, help="index into search.first")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        space = load_search_space(arguments.space, arguments.set)
        run(space, settings_of(space, arguments.point), arguments.device)
    except (UserError, TrialFailed) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
