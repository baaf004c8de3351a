"""What the final evaluation adds to a Fréchet distance: kernel distance, precision and recall, Inception score.

All are functions of features or probabilities of images; tensors may be on any device, and figures are in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SUBSETS = 100
SUBSET_SIZE = 1000
NEIGHBOURS = 3
SPLIT_SIZE = 5000
CHUNK = 2000


@dataclass(frozen=True)
class Fidelity:
    """How far samples are true to real images, and how far they cover them.

    Attributes:
        precision: share of the samples that lie among the real images.
        recall: share of the real images that lie among the samples.
    """

    precision: float
    recall: float


def kernel_distance(samples: Tensor, real: Tensor, *, seed: int = 0) -> float:
    """KID: the unbiased squared maximum mean discrepancy under (x·y/d + 1)³ (Bińkowski et al., ICLR 2018).

    The mean over 100 random subsets of 1,000 features (all, if there are fewer); being unbiased it can fall below 0.

    Args:
        samples: features, (n, d).
        real: features, (m, d).
        seed: of the subsets.
    """
    random = torch.Generator().manual_seed(seed)
    size = min(len(samples), len(real), SUBSET_SIZE)

    def subset(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=random)[:size].to(features.device)].double()

    distances = [_discrepancy(subset(samples), subset(real)) for _ in range(SUBSETS)]
    return float(torch.stack(distances).mean())


def _discrepancy(x: Tensor, y: Tensor) -> Tensor:
    """The unbiased estimate of two sets of equal size n: pairs of a feature with itself are left out."""
    n, d = x.shape

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / d + 1) ** 3

    def mean_of_pairs(a: Tensor) -> Tensor:
        return (kernel(a, a).sum() - (a.square().sum(1) / d + 1).pow(3).sum()) / (n * (n - 1))

    return mean_of_pairs(x) + mean_of_pairs(y) - 2 * kernel(x, y).mean()


def fidelity(samples: Tensor, real: Tensor) -> Fidelity:
    """Improved precision and recall (Kynkäänniemi et al., NeurIPS 2019), with three neighbours.

    A point lies among others if one of them is at least as near to it as to its own third neighbour.

    Args:
        samples: features, (n, d).
        real: features, (m, d).
    """
    return Fidelity(precision=_share_among(samples, real), recall=_share_among(real, samples))


def _share_among(points: Tensor, others: Tensor) -> float:
    radii = torch.cat([_distances(chunk, others).kthvalue(NEIGHBOURS + 1).values for chunk in others.split(CHUNK)])
    among = [(_distances(chunk, others) <= radii).any(1) for chunk in points.split(CHUNK)]
    return float(torch.cat(among).double().mean())


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a.float(), b.float(), compute_mode="use_mm_for_euclid_dist")


def inception_score(probabilities: Tensor) -> float:
    """exp(E KL(p(y|x) ‖ p(y))), the mean over consecutive splits of 5,000 images (Salimans et al., NeurIPS 2016).

    Args:
        probabilities: of Inception's classes, (n, classes), in an order that mixes the conditions.
    """
    scores = [_score(split.double()) for split in probabilities.split(SPLIT_SIZE)]
    return float(torch.stack(scores).mean())


def _score(p: Tensor) -> Tensor:
    marginal = p.mean(0, keepdim=True)
    divergence: Tensor = (torch.special.xlogy(p, p) - torch.special.xlogy(p, marginal)).sum(1)
    return divergence.mean().exp()
