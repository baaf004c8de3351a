"""Spread of the metrics of one generator over evaluation seeds: the `error` of an objective or a constraint.

    python benchmarks/evaluation_error.py [tuning/three_classes] [--trials 4] [--seeds 10]

The first trials of a table of `record_tables.py` are trained once. Their generators are evaluated with different
noise, on the numbers of samples in its search space. For each trial and metric the script prints the mean and twice
the standard deviation.
"""

import argparse
import tempfile

import numpy as np
import torch
from record_tables import points, space_of

from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext, TrialRunner


def main() -> None:
    """Train, evaluate, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", default="tuning/three_classes", help="of `record_tables.py`")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    spaces = [space_of(asked.table, [f"evaluation.seed={seed}"]) for seed in range(asked.seeds)]
    contexts = [TrialContext.build(resolve_sweep(space), None) for space in spaces]
    space = spaces[0]
    metrics = [part.metric for part in space.objectives] + [part.metric for part in space.constraints]
    for number, point in enumerate(points(space, asked.trials)):
        settings = space.parameters.settings(point)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Folder.open(scratch)
            TrialRunner(contexts[0], settings, folder).advance(space.trial.steps)
            reports = [
                context.evaluate_final(
                    settings,
                    folder,
                    samples=space.evaluation.samples,
                    forget_samples=space.evaluation.forget_samples,
                )
                for context in contexts
            ]
        for metric in metrics:
            values = np.array([report.metrics[metric] for report in reports])
            print(f"trial {number}  {metric}: {values.mean():.4g} ± {2 * values.std(ddof=1):.2g}", flush=True)


if __name__ == "__main__":
    main()
