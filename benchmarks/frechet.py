"""Time of the Fréchet distance on as many features as Inception-V3 has: this package and clean-fid in one run.

    python benchmarks/frechet.py [--features 2048] [--threads 2]

The script prints the seconds of the first distance to reference statistics, of each further one (the matrix root of
the reference is cached), and of clean-fid, and the difference of the results.
"""

import argparse
import time

import torch
from cleanfid.fid import frechet_distance as cleanfid_frechet_distance

from sfd_sweep.metrics.statistics import Statistics


def _features(count: int, size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator) / size**0.5
    features: torch.Tensor = torch.randn(count, size, generator=generator) @ mixing
    return features


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    samples, reference = (
        Statistics.over([_features(2 * arguments.features, arguments.features, seed)]) for seed in (0, 1)
    )
    seconds: dict[str, float] = {}
    figures: dict[str, float] = {}
    for name in ("first", "further"):
        started = time.perf_counter()
        figures[name] = samples.frechet_distance(reference)
        seconds[name] = time.perf_counter() - started
    started = time.perf_counter()
    arrays = (samples.mean, samples.covariance, reference.mean, reference.covariance)
    figures["clean-fid"] = float(cleanfid_frechet_distance(*(array.numpy() for array in arrays)))
    seconds["clean-fid"] = time.perf_counter() - started
    for name, spent in seconds.items():
        print(f"{name:>10}: {spent:7.2f} s, {seconds['clean-fid'] / spent:6.1f}x, distance {figures[name]:.9g}")
    print(f"relative difference {abs(figures['further'] / figures['clean-fid'] - 1):.2g}")


if __name__ == "__main__":
    main()
