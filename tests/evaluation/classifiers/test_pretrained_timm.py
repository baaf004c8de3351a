"""Classifiers of timm give the library's own logits, on what its own transform makes of the images."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from timm.models import save_for_hf
from torch import Tensor

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.classifiers.pretrained import timm_repository

NAMES = ["cat", "dog", "frog"]


def save(folder: Path, architecture: str = "test_vit", *, names: list[str] | None = NAMES, classes: int = 3) -> None:
    torch.manual_seed(0)
    network = timm.create_model(architecture, num_classes=classes)
    config = None if names is None else {"label_names": names}
    save_for_hf(network, str(folder), model_config=config, safe_serialization=True)


@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet", "test_efficientnet", "test_convnext"])
def test_logits_and_the_head_over_the_features_are_the_librarys_own_logits(
    architecture: str, pixels: Tensor, images: Tensor, tmp_path: Path
) -> None:
    save(tmp_path, architecture)
    classifier = load_classifier(tmp_path)
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    pictures = torch.stack([transform(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in pixels])
    with torch.no_grad():
        expected = model(pictures)
    features = classifier.features(images)
    assert features.shape == (4, model.get_classifier().in_features)
    scale = float(expected.abs().max())
    # PIL and torchvision round a gray level apart in resizing, which is 1 % of a random network's logits
    torch.testing.assert_close(classifier.logits_from_features(features), expected, rtol=0, atol=0.02 * scale)
    assert classifier.class_names == tuple(NAMES)
    torch.testing.assert_close(classifier(images), model(classifier._prepare(pixels)), rtol=1e-4, atol=1e-5 * scale)


def test_imagenets_classes_have_the_names_that_timm_gives_them(tmp_path: Path) -> None:
    save(tmp_path, names=None, classes=1000)
    classifier = load_classifier(tmp_path)
    assert len(classifier.class_names) == 1000
    assert classifier.class_names[0] == "tench, Tinca tinca"
    with pytest.raises(UserError, match=f"the classifier {tmp_path} knows 1000 classes, not 10;"):
        classifier.check_images([str(index) for index in range(10)], (3, 32, 32))


def _edit(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**content, **changes}))

    return edit


def _truncate(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no classifier that timm can load"),
        (_truncate, "holds no classifier that timm can load"),
        (_edit(architecture="oracle"), "oracle"),
        (_edit(label_names=["cat", "dog"]), "names 2 classes, but its network tells 3 apart"),
        (_edit(label_names=None), "names no classes"),
    ],
)
def test_a_broken_folder_is_refused_in_one_line(break_it: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    save(tmp_path)
    break_it(tmp_path)
    with pytest.raises(UserError, match=words) as caught:
        load_classifier(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_name_stands_for_the_repository_of_its_weights() -> None:
    assert timm_repository("resnet50") == "timm/resnet50.a1_in1k"
    assert timm_repository("resnet50.a2_in1k") == "timm/resnet50.a2_in1k"


@pytest.mark.parametrize("name", ["resnet51", "resnet50.of_mine", ""])
def test_a_name_that_timm_does_not_know_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(UserError, match=r"did you mean timm:\w+"):
        load_classifier(f"timm:{name}")


def test_weights_that_cannot_be_fetched_are_refused(no_network: None) -> None:
    with pytest.raises(UserError, match=r"'timm/resnet50\.a1_in1k' .* could not be fetched") as caught:
        load_classifier("timm:resnet50")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("by_name", [True, False])
def test_without_timm_it_is_said_what_to_install(
    by_name: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'sfd-sweep\[timm\]'"):
        load_classifier("timm:resnet50" if by_name else tmp_path)
