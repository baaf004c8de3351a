"""What the figures of one generator scatter by from one evaluation seed to another: the `error` that a file may state.

    python benchmarks/evaluation_error.py [--trials 4] [--seeds 10]

The first trials of `record_digits.py` are trained once, and their generators evaluated with other noise on the numbers
of samples of `search.yaml`. For each trial and metric it prints the mean and twice the standard deviation.
"""

import argparse
import tempfile

import numpy as np
import torch
from record_digits import SPACE, points

from sfd_sweep.config.loading import load_search_space
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.context import TrialContext
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import Trial, judge


def main() -> None:
    """Train, evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    spaces = [load_search_space(SPACE, [f"evaluation.seed={seed}"]) for seed in range(asked.seeds)]
    benches = [TrialContext.build(resolve_sweep(space), None) for space in spaces]
    space = spaces[0]
    metrics = [part.metric for part in space.objectives] + [part.metric for part in space.constraints]
    for number, point in enumerate(points(space, asked.trials)):
        settings = space.parameters.settings(point)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Folder.open(scratch)
            Trial(benches[0], settings, folder).advance(space.trial.steps)
            reports = [
                judge(
                    bench,
                    settings,
                    folder,
                    samples=space.evaluation.samples,
                    forget_samples=space.evaluation.forget_samples,
                )
                for bench in benches
            ]
        for metric in metrics:
            values = np.array([report.metrics[metric] for report in reports])
            print(f"trial {number}  {metric}: {values.mean():.4g} ± {2 * values.std(ddof=1):.2g}", flush=True)


if __name__ == "__main__":
    main()
