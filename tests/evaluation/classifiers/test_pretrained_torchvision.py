"""torchvision's classifiers give the library's own logits, on what its own transform makes of the images."""

from pathlib import Path
from urllib.parse import urlparse

import pytest
import torch
from torch import Tensor
from torchvision import models

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.loading import load_classifier


def keep_weights(name: str, folder: Path) -> torch.nn.Module:
    """Lay random weights where torch.hub keeps what it has downloaded, and return their network."""
    torch.manual_seed(0)
    network = models.get_model(name)
    file = folder / "torch" / "checkpoints" / Path(urlparse(models.get_model_weights(name).DEFAULT.url).path).name
    file.parent.mkdir(parents=True)
    torch.save(network.state_dict(), file)
    return network.eval()


@pytest.mark.parametrize(("name", "width"), [("resnet18", 512), ("mobilenet_v3_small", 1024)])
def test_logits_are_the_librarys_own_logits(
    name: str, width: int, pixels: Tensor, images: Tensor, no_network: None, tmp_path: Path
) -> None:
    network = keep_weights(name, tmp_path)
    classifier = load_classifier(f"torchvision:{name}")
    with torch.no_grad():
        expected = network(models.get_model_weights(name).DEFAULT.transforms()(pixels))
    features = classifier.features(images)
    assert features.shape == (4, width)
    torch.testing.assert_close(classifier.logits_from_features(features), expected)
    assert classifier.class_names[:2] == ("tench", "goldfish")
    classifier.check_images(classifier.class_names, (3, 32, 32))


def test_a_network_that_ends_in_a_convolution_has_no_features_for_its_logits(no_network: None, tmp_path: Path) -> None:
    keep_weights("squeezenet1_1", tmp_path)
    with pytest.raises(UserError, match="torchvision:squeezenet1_1: its logits are not those of one linear layer"):
        load_classifier("torchvision:squeezenet1_1")


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no classifier 'resnet43'; did you mean torchvision:resnet"):
        load_classifier("torchvision:resnet43")


def test_weights_that_cannot_be_fetched_are_refused(no_network: None) -> None:
    with pytest.raises(
        UserError, match="could not be fetched from https.*does not answer.*check the network"
    ) as caught:
        load_classifier("torchvision:resnet18")
    assert "\n" not in str(caught.value)


def test_a_file_of_weights_that_was_cut_short_is_refused(no_network: None, tmp_path: Path) -> None:
    keep_weights("resnet18", tmp_path)
    [file] = (tmp_path / "torch" / "checkpoints").iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="could not be fetched"):
        load_classifier("torchvision:resnet18")
