"""The forgetting metrics: pure functions of what a classifier says about samples.

Called classes are int64 of shape (n,), probabilities float of shape (n, classes). Where several classes are forgotten,
a sample counts as forgotten class if it is *any* of them: one forgotten class in another's place is not unlearned.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def unlearning_accuracy(called: Tensor, forgotten: Sequence[int]) -> float:
    """1 - the share of the samples that are called a forgotten class.

    Args:
        called: (n,), of samples of the forgotten conditions and of nothing else: they alone are the divisor.
        forgotten: the forgotten classes.
    """
    return 1 - _share(torch.isin(called, torch.tensor(forgotten)))


def override_rate(called: Tensor, overrides: Tensor) -> float:
    """The share of the samples of the forgotten conditions that are called their override.

    Args:
        called: (n,).
        overrides: (n, m): the m classes that each sample may have been overridden by.
    """
    return _share((called.unsqueeze(1) == overrides).any(1))


def retain_accuracy(called: Tensor, own: Tensor) -> float:
    """The share of the samples of the retained conditions that are called by their own condition.

    Args:
        called: (n,).
        own: (n, m): the m classes that are the condition's own, of each sample.
    """
    return _share((called.unsqueeze(1) == own).any(1))


def forget_probability(probabilities: Tensor, forgotten: Sequence[int]) -> float:
    """The mean probability, on the samples of the forgotten conditions, that they are of a forgotten class."""
    return float(probabilities[:, list(forgotten)].sum(1).mean())


def forget_entropy(probabilities: Tensor) -> float:
    """The mean entropy of the classifier on the samples of the forgotten conditions, in nats."""
    return float(torch.special.entr(probabilities).sum(1).mean())


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())
