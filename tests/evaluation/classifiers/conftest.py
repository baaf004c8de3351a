"""Images of 8 bits, as the libraries prepare them, and as a judge sees them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sfd_sweep import hub
from sfd_sweep.evaluation.classifiers import torchvision_model


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
    for module in (hub, torchvision_model):
        monkeypatch.setattr(module, "answers", lambda _url: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
