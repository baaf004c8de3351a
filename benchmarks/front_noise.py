"""What noise does to a front that is known: which knee to choose, and how often intervals and shares are right.

    python benchmarks/front_noise.py [--repeats 200] [--draws 300]

True figures lie on or behind a known front; observed ones are the true ones with normal noise. For each front, number
of trials, and error (twice the standard deviation, as a share of the front's extent) the script prints

- the true loss of the chosen knee: the distance below the plane through the ends of the true front (Das, 1999) that it
  falls short of the true knee's, for the knee of the observed front and for its member that is the knee most often;
- how often the true hypervolume is within the 90 % interval;
- for members of the observed front, the mean share of draws on the front, and how many are on the true one.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from sfd_sweep.config import Objective
from sfd_sweep.search.pareto import hypervolume, knee, non_dominated
from sfd_sweep.search.uncertainty import front_uncertainty, knee_probability, most_probable_knee

METRICS = ("override_distance", "fd_classifier", "fid")
"""Of any scale without an upper end; the figures lie far from 0."""
OFFSET, REFERENCE = 10.0, 12.0

Losses = NDArray[np.float64]


def main() -> None:
    """Draw, choose, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--draws", type=int, default=300)
    asked = parser.parse_args()
    print("objectives curvature trials error | knee loss: observed, most probable | interval | share, true")
    random = np.random.default_rng(0)
    for count in (2, 3):
        for power in (0.5, 1.0 / 1.5):
            for trials in (20, 100):
                for error in (0.05, 0.1, 0.2, 0.4):
                    rows = [one(random, count, power, trials, error, asked.draws) for _ in range(asked.repeats)]
                    mean = np.nanmean(rows, axis=0)
                    spread = np.nanstd(np.diff(np.array(rows)[:, :2], axis=1)) / asked.repeats**0.5
                    print(
                        f"{count} {power:.2f} {trials:3d} {error:.2f} | {mean[0]:.4f} {mean[1]:.4f} "
                        f"(difference ± {spread:.4f}) | {mean[2]:.2f} | {mean[3]:.2f} {mean[4]:.2f}",
                        flush=True,
                    )


def one(random: np.random.Generator, count: int, power: float, trials: int, error: float, draws: int) -> list[float]:
    """Return the figures of one front: two losses of knees, a hit of the interval, and two shares."""
    true = figures(random, count, power, trials)
    seen = true + error / 2 * random.standard_normal(true.shape)
    objectives = [
        Objective(metric=name, goal="minimize", reference_point=REFERENCE, error=error) for name in METRICS[:count]
    ]
    errors = {part.metric: part.error for part in objectives}
    candidates = [dict(zip(METRICS, row, strict=False)) for row in seen]
    observed = np.flatnonzero(non_dominated(seen))
    shares = knee_probability([candidates[index] for index in observed], objectives, [], errors, draws=draws)
    choices = [knee(seen[observed]), most_probable_knee(seen[observed], shares)]
    distance = below_the_plane(true)
    found = front_uncertainty(candidates, objectives, [], errors, draws=draws)
    bound = np.full(count, REFERENCE)
    volume = hypervolume(true, bound)
    low, high = found.hypervolume.low, found.hypervolume.high
    best = distance[non_dominated(true)].max()
    return [
        *(float(best - distance[observed[choice]]) for choice in choices),
        float(low <= volume <= high),
        float(found.probability[observed].mean()),
        float(non_dominated(true)[observed].mean()),
    ]


def figures(random: np.random.Generator, count: int, power: float, trials: int) -> Losses:
    """Return true losses: Σ z^power = 1 on the front, from 0 to 1 in each objective, and up to 0.5 behind it."""
    on_plane = random.dirichlet(np.ones(count), trials)
    behind = random.exponential(0.15, (trials, 1)) * (random.random((trials, 1)) < 0.7)
    losses: Losses = OFFSET + on_plane ** (1 / power) + behind
    return losses


def below_the_plane(losses: Losses) -> Losses:
    """Return how far each point lies below the plane through the ends of the non-dominated ones."""
    members = losses[non_dominated(losses)]
    low, high = members.min(axis=0), members.max(axis=0)
    distance: Losses = (1 - ((losses - low) / np.where(high > low, high - low, 1)).sum(axis=1)) / losses.shape[1] ** 0.5
    return distance


if __name__ == "__main__":
    main()
