"""Record digits trials with their learning curves, so that `search.py` can replay them without training.

    python benchmarks/record_digits.py [--trials 512] [--workers 2]

The settings are the points of a scrambled Sobol sequence in the searched parameters of `search.yaml`, in the
logarithm where the scale is logarithmic. Every trial runs to its full budget in a plain loop, in a worker process
with one thread. The table is rewritten after each trial, so that an interrupted recording continues where it ended.
"""

import argparse
import functools
import multiprocessing
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import qmc

from sfd_sweep.config import FloatDistribution, SearchSpace
from sfd_sweep.config.loading import load_search_space
from sfd_sweep.errors import TrialFailed
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext, TrialRunner

SPACE = Path(__file__).parent / "search.yaml"
TABLE = Path(__file__).parent / "digits_trials.parquet"


def distributions(space: SearchSpace) -> dict[str, FloatDistribution]:
    """Return the searched parameters by name; all are continuous here."""
    return {name: part for name, part in space.parameters.searched().items() if isinstance(part, FloatDistribution)}


def to_unit(values: Mapping[str, float], searched: Mapping[str, FloatDistribution]) -> NDArray[np.float64]:
    """Map a point of the search space to the unit cube, on the scale of each parameter; shape (parameters,)."""
    return np.array([_place(values[name], part) for name, part in searched.items()])


def from_unit(point: NDArray[np.float64], searched: Mapping[str, FloatDistribution]) -> dict[str, float]:
    """Invert `to_unit`."""
    return {name: _value(float(place), part) for place, (name, part) in zip(point, searched.items(), strict=True)}


def _place(value: float, part: FloatDistribution) -> float:
    low, high, value = (float(np.log(edge)) if part.log else edge for edge in (part.low, part.high, value))
    return (value - low) / (high - low)


def _value(place: float, part: FloatDistribution) -> float:
    if part.log:
        return float(part.low * (part.high / part.low) ** place)
    return part.low + place * (part.high - part.low)


def points(space: SearchSpace, count: int) -> list[dict[str, float]]:
    """Return the first settings of the sequence."""
    searched = distributions(space)
    sequence = qmc.Sobol(len(searched), scramble=True, rng=0).random(count)
    return [from_unit(point, searched) for point in sequence]


@functools.cache
def _context() -> TrialContext:
    """Return the context of this process, which its trials share."""
    torch.set_num_threads(1)
    return TrialContext.build(resolve_sweep(load_search_space(SPACE)), None)


def curve(number: int, point: dict[str, float]) -> list[dict[str, float]]:
    """Train a trial; return one row for each evaluation before it ends or fails."""
    context = _context()
    space = context.plan.space
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        trial = TrialRunner(context, space.parameters.settings(point), Folder.open(scratch))
        try:
            for step in space.trial.milestones():
                report = trial.advance(step)
                samples = {f"{kind}_samples": count for kind, count in report.samples.items()}
                rows.append({"trial": number, "step": step, **point, **report.metrics, **samples})
        except TrialFailed as error:
            print(f"trial {number} failed: {error}", flush=True)
    return rows


def write(table: pd.DataFrame) -> None:
    """Replace the table."""
    half = TABLE.with_suffix(".half")
    table.to_parquet(half, index=False)
    half.replace(TABLE)


def main() -> None:
    """Record the trials that the table lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    tables = [pd.read_parquet(TABLE)] if TABLE.exists() else []
    recorded = {number for table in tables for number in table["trial"]}
    with ProcessPoolExecutor(asked.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        proposed = enumerate(points(load_search_space(SPACE), asked.trials))
        begun = {pool.submit(curve, number, point): number for number, point in proposed if number not in recorded}
        for done in as_completed(begun):
            tables.append(pd.DataFrame(done.result()))
            write(pd.concat(tables, ignore_index=True).sort_values(["trial", "step"], ignore_index=True))
            print(f"trial {begun[done]} of {asked.trials}", flush=True)


if __name__ == "__main__":
    main()
