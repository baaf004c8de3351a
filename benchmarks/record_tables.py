"""Record digits trials with their learning curves, so that `search.py` can replay them without training.

    python benchmarks/record_tables.py tuning/three_classes [--trials 512] [--again 50] [--workers 2]

A table is a search-space file in `tables/` and a Parquet file beside it. Samplers and schedulers are chosen by the
tables in `tables/tuning` only; those in `tables/held_out` show what the choice is worth elsewhere.

The settings are the points of a scrambled Sobol sequence in the searched parameters, in the logarithm where the scale
is logarithmic. Every trial runs to its full budget in a plain loop, in a worker process with one thread; the first
ones run again with the next seed of the trial, which shows what training noise is worth. The table is rewritten after
each trial, so that an interrupted recording continues where it ended.
"""

import argparse
import functools
import math
import multiprocessing
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
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

TABLES = Path(__file__).parent / "tables"


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
    sequence = qmc.Sobol(len(searched), scramble=True, rng=0).random_base2(math.ceil(math.log2(count)))
    return [from_unit(point, searched) for point in sequence[:count]]


def space_of(table: str, overrides: Sequence[str] = ()) -> SearchSpace:
    """Load the search space of a table, with some of its keys changed."""
    return load_search_space(TABLES / f"{table}.yaml", overrides)


def trials_of(table: str) -> pd.DataFrame:
    """Load the recorded evaluations of a table: one row for each, by `seed`, `trial` and `step`."""
    return pd.read_parquet(TABLES / f"{table}.parquet")


@functools.cache
def _context(table: str) -> TrialContext:
    """Return the context of this process, which its trials share."""
    torch.set_num_threads(1)
    return TrialContext.build(resolve_sweep(space_of(table)), None)


def curve(table: str, seed: int, number: int, point: dict[str, float]) -> list[dict[str, float]]:
    """Train a trial; return one row for each evaluation before it ends or fails."""
    context = _context(table)
    plan = context.plan
    space = plan.space.model_copy(update={"trial": plan.space.trial.model_copy(update={"seed": seed})})
    context = replace(context, plan=replace(plan, space=space))
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        trial = TrialRunner(context, space.parameters.settings(point), Folder.open(scratch))
        try:
            for step in space.trial.milestones():
                report = trial.advance(step)
                samples = {f"{kind}_samples": count for kind, count in report.samples.items()}
                rows.append({"seed": seed, "trial": number, "step": step, **point, **report.metrics, **samples})
        except TrialFailed as error:
            print(f"trial {number} failed: {error}", flush=True)
    return rows


def record(table: str, trials: int, again: int, workers: int) -> None:
    """Record the trials that a table lacks."""
    path = TABLES / f"{table}.parquet"
    rows = [trials_of(table)] if path.exists() else []
    recorded = {key for known in rows for key in zip(known["seed"], known["trial"], strict=True)}
    settings, seed = points(space_of(table), trials), space_of(table).trial.seed
    asked = [(seed, number) for number in range(trials)] + [(seed + 1, number) for number in range(again)]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        begun = {pool.submit(curve, table, *key, settings[key[1]]): key for key in asked if key not in recorded}
        for count, done in enumerate(as_completed(begun), start=1):
            rows.append(pd.DataFrame(done.result()))
            half = path.with_suffix(".half")
            whole = pd.concat(rows, ignore_index=True).sort_values(["seed", "trial", "step"], ignore_index=True)
            whole.to_parquet(half, index=False)
            half.replace(path)
            print(f"{table}: trial {begun[done]}, {count} of {len(begun)}", flush=True)


def main() -> None:
    """Read the arguments and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", help="name of a search-space file below tables/, without its suffix")
    parser.add_argument("--trials", type=int, default=304)
    parser.add_argument("--again", type=int, default=50, help="how many of them also run with the next seed")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    record(arguments.table, arguments.trials, arguments.again, arguments.workers)


if __name__ == "__main__":
    main()
