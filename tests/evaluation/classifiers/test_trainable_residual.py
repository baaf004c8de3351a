"""Residual networks against torchvision's own."""

from pathlib import Path

import torch
from test_pretrained_torchvision import keep_weights
from torch import Tensor
from torchvision.models import ResNet34_Weights

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.evaluation.classifiers.trainable import imagenet_weights
from sfd_sweep.teachers.classifier_training import PRESETS


def test_with_imagenets_weights_the_features_are_those_of_torchvisions_resnet34(
    pixels: Tensor, images: Tensor, no_network: None, tmp_path: Path
) -> None:
    theirs = keep_weights("resnet34", tmp_path)
    some = LabeledImages(pixels, torch.zeros(4, dtype=torch.int64), ("cat", "dog"))
    ours = PRESETS["resnet34-224"].network_for(some).build().eval()
    ours.load_state_dict({**ours.state_dict(), **imagenet_weights()})
    theirs.fc = torch.nn.Identity()
    prepare = ResNet34_Weights.IMAGENET1K_V1.transforms(crop_size=224, resize_size=224)
    with torch.no_grad():
        torch.testing.assert_close(ours.features(images), theirs(prepare(images / 2 + 0.5)), rtol=1e-4, atol=1e-4)
        assert ours(images).shape == (4, 2)
