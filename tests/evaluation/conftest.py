"""Real digits, the shipped classifier, images of 8 bits, and generators whose figures are known beforehand."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sfd_sweep import hub
from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.evaluation.classifiers import pretrained
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.classifiers.trainable import SmallCnn
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


@pytest.fixture
def pixels() -> Tensor:
    """uint8 of shape (4, 3, 24, 24): smooth, as photographs are, with an edge."""
    grid = torch.linspace(0, 3, 24)
    waves = torch.stack([torch.sin(k * grid[:, None] + grid[None]) for k in range(12)]).view(4, 3, 24, 24)
    waves[:, :, :, 12:] += 0.5
    return ((waves.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


@pytest.fixture
def images(pixels: Tensor) -> Tensor:
    """The same in [-1, 1]."""
    return pixels.float() / 127.5 - 1


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No server answers, and nothing was downloaded before."""
    for module in (hub, pretrained):
        monkeypatch.setattr(module, "answers", lambda _url: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
