"""Mean and covariance of features, and the Fréchet distance between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Statistics:
    """Mean and covariance of features, in float64 on the CPU.

    Attributes:
        mean: (d,).
        covariance: (d, d), divided by n - 1.
        count: n, the number of features.
    """

    mean: Tensor
    covariance: Tensor
    count: int

    @classmethod
    def over(cls, batches: Iterable[Tensor]) -> Statistics:
        """Return the statistics of all features of batches of shape (n_i, d).

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
            centered = features - batch_mean
            shift = batch_mean - mean
            total = count + len(features)
            scatter = scatter + centered.T @ centered + torch.outer(shift, shift) * (count * len(features) / total)
            mean = mean + shift * (len(features) / total)
            count = total
        if count < 2:
            raise ValueError(f"a covariance needs two features or more, not {count}")
        return cls(mean.cpu(), (scatter / (count - 1)).cpu(), count)

    @classmethod
    def mixture(cls, parts: Sequence[tuple[Statistics, float]]) -> Statistics:
        """Return the statistics of a mixture of groups of features, which weigh as given instead of by their number.

        With weights in proportion to the numbers they are those of all features together.

        Args:
            parts: a group's statistics, and its weight.
        """
        count, total = sum(part.count for part, _ in parts), sum(weight for _, weight in parts)
        shares = [(part, weight / total) for part, weight in parts]
        mean = torch.stack([share * part.mean for part, share in shares]).sum(0)
        spread = torch.zeros_like(parts[0][0].covariance)
        for part, share in shares:
            shift = part.mean - mean
            spread += share * (part.covariance * ((part.count - 1) / part.count) + torch.outer(shift, shift))
        return cls(mean, spread * (count / (count - 1)), count)

    @cached_property
    def root(self) -> Tensor:
        """The covariance's symmetric root, (d, d)."""
        eigenvalues, eigenvectors = torch.linalg.eigh(self.covariance)
        root: Tensor = eigenvectors * eigenvalues.clamp(min=0).sqrt() @ eigenvectors.T
        return root

    def frechet_distance(self, reference: Statistics) -> float:
        """Return the squared Fréchet distance of the Gaussians (Dowson & Landau, 1982); never negative.

        `|m_s - m_r|² + tr(C_s + C_r - 2·(C_s C_r)^½)`. The eigenvalues of `C_s C_r` are those of the symmetric
        `C_r^½ C_s C_r^½`, so no root of an asymmetric matrix is needed and covariances may be singular. The distance is
        symmetric; the reference is the one whose root is kept.
        """
        eigenvalues = torch.linalg.eigvalsh(reference.root @ self.covariance @ reference.root)
        trace_of_root = eigenvalues.clamp(min=0).sqrt().sum()
        traces = self.covariance.trace() + reference.covariance.trace()
        distance = (self.mean - reference.mean).square().sum() + traces - 2 * trace_of_root
        return max(float(distance), 0.0)
