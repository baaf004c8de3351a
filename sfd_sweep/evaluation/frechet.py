"""The Fréchet distance of two Gaussians, and the statistics that it needs of features."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Statistics:
    """Mean and covariance of features, in float64 on the CPU.

    Attributes:
        mean: (d,).
        covariance: (d, d), with n - 1 in the divisor.
        count: n, how many features they are of.
    """

    mean: Tensor
    covariance: Tensor
    count: int

    @classmethod
    def of(cls, features: Tensor) -> Statistics:
        """The statistics of features of shape (n, d).

        Raises:
            ValueError: there are fewer than two, and a covariance needs two.
        """
        return cls.over([features])

    @classmethod
    def over(cls, batches: Iterable[Tensor]) -> Statistics:
        """The statistics of all features together that come in batches of shape (n_i, d).

        Batches are pooled by their means and scatter matrices (Chan, Golub & LeVeque, 1983), which stays exact where a
        sum of squares would cancel.

        Raises:
            ValueError: there are fewer than two features in all.
        """
        count, mean, scatter = 0, torch.zeros(()), torch.zeros(())
        for batch in batches:
            if len(batch) == 0:
                continue
            features = batch.double()
            batch_mean = features.mean(0)
            centred = features - batch_mean
            shift = batch_mean - mean
            total = count + len(features)
            scatter = scatter + centred.T @ centred + torch.outer(shift, shift) * (count * len(features) / total)
            mean = mean + shift * (len(features) / total)
            count = total
        if count < 2:
            raise ValueError(f"a covariance needs two features or more, not {count}")
        return cls(mean.cpu(), (scatter / (count - 1)).cpu(), count)

    @cached_property
    def root(self) -> Tensor:
        """The covariance's symmetric root, (d, d). It is computed once, however many distances it serves."""
        eigenvalues, eigenvectors = torch.linalg.eigh(self.covariance)
        root: Tensor = eigenvectors * eigenvalues.clamp(min=0).sqrt() @ eigenvectors.T
        return root


def frechet_distance(samples: Statistics, reference: Statistics) -> float:
    """The squared Fréchet distance of the Gaussians with these statistics (Dowson & Landau, 1982); never negative.

    `|m_s - m_r|² + tr(C_s + C_r - 2·(C_s C_r)^½)`. The product of covariances has the eigenvalues of the symmetric
    `C_r^½ C_s C_r^½`, whose roots' sum is the trace: it takes no root of an asymmetric matrix, and singular
    covariances are as good as others. It is symmetric in its arguments; the reference is the one whose root is kept.
    """
    eigenvalues = torch.linalg.eigvalsh(reference.root @ samples.covariance @ reference.root)
    trace_of_root = eigenvalues.clamp(min=0).sqrt().sum()
    traces = samples.covariance.trace() + reference.covariance.trace()
    distance = (samples.mean - reference.mean).square().sum() + traces - 2 * trace_of_root
    return max(float(distance), 0.0)
