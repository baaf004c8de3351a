"""A small TorchScript network with the interface of the file that FID is measured with, and random weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sfd_sweep.evaluation import inception_weights


class _Layers(nn.Module):
    """Three channels of 299×299 pixels, about [-1, 1], to 2,048 features."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 16, kernel_size=7, stride=5)
        self.projection = nn.Linear(16 * 9, 2048)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.convolution(x))
        return torch.relu(self.projection(nn.functional.adaptive_avg_pool2d(hidden, (3, 3)).flatten(1)))


class _Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = _Layers()
        self.output = nn.Linear(2048, 1008)

    def forward(self, img: Tensor, return_features: bool = False, no_output_bias: bool = False) -> Tensor:
        """Pixels from 0 to 255 to features or class probabilities."""
        x = nn.functional.interpolate(img, (299, 299), mode="bilinear", align_corners=False)
        features = self.layers((x - 128) / 128)
        if return_features:
            return features
        logits = features @ self.output.weight.T if no_output_bias else self.output(features)
        return logits.softmax(1)


def write_stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write it as the weights' file, and let its checksum be the right one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.jit.script(_Network().eval())
    folder.mkdir(parents=True, exist_ok=True)
    torch.jit.save(network, folder / inception_weights.WEIGHTS)
    monkeypatch.setattr(inception_weights, "SHA256", inception_weights._sha256(folder / inception_weights.WEIGHTS))
    return folder
