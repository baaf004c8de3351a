"""Real digits, the shipped judge, and generators whose figures are known beforehand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.classifiers.small_cnn import SmallCnn
from sfd_sweep.evaluation.evaluator import Generate

Forgetting = Callable[[dict[int, int]], Generate]


@pytest.fixture(scope="session")
def digits() -> LabeledImages:
    return load_images("builtin:digits")


@pytest.fixture
def classifier() -> SmallCnn:
    loaded = load_classifier("builtin:digits")
    assert isinstance(loaded, SmallCnn)
    return loaded


@pytest.fixture(scope="session")
def real_digits(digits: LabeledImages) -> Forgetting:
    """Makes a generator that draws real digits; those of a forgotten class are of another, as the mapping says."""

    def forgetting(mapping: dict[int, int]) -> Generate:
        def generate(labels: Tensor, generator: torch.Generator) -> Tensor:
            drawn = torch.rand(len(labels), generator=generator)
            chosen = [mapping.get(label, label) for label in labels.tolist()]
            pools = {label: digits.of_classes([label]).images for label in set(chosen)}
            return torch.stack([pools[c][int(u * len(pools[c]))] for c, u in zip(chosen, drawn.tolist(), strict=True)])

        return generate

    return forgetting
