"""Classifiers of transformers give the library's own logits, on what its own processor makes of the images."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForImageClassification

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.classifiers.pretrained import Preparation, PretrainedClassifier, _Logits

NAMES = {0: "cat", 1: "dog", 2: "frog"}
VIT = transformers.ViTConfig(
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    image_size=16,
    patch_size=8,
    id2label=NAMES,
)
RESNET = transformers.ResNetConfig(
    embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", id2label=NAMES
)


def save_vit(folder: Path) -> None:
    torch.manual_seed(0)
    transformers.ViTForImageClassification(VIT).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)


def save_resnet(folder: Path) -> None:
    torch.manual_seed(0)
    transformers.ResNetForImageClassification(RESNET).save_pretrained(folder)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.875).save_pretrained(folder)


SAVERS = pytest.mark.parametrize(("save", "width"), [(save_vit, 16), (save_resnet, 16)])


@SAVERS
def test_logits_and_the_head_over_the_features_are_the_librarys_own_logits(
    save: Callable[[Path], None], width: int, pixels: Tensor, images: Tensor, tmp_path: Path
) -> None:
    save(tmp_path)
    classifier = load_classifier(tmp_path)
    processor, model = (
        kind.from_pretrained(tmp_path) for kind in (AutoImageProcessor, AutoModelForImageClassification)
    )
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels]
    with torch.no_grad():
        expected = model.eval()(**processor(images=pictures, return_tensors="pt")).logits
    features = classifier.features(images)
    assert features.shape == (4, width)
    torch.testing.assert_close(classifier.logits_from_features(features), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(classifier(images), expected, rtol=1e-4, atol=1e-5)
    assert classifier.class_names == ("cat", "dog", "frog")
    classifier.check_images(("dog", "cat", "frog"), (3, 99, 99))


def test_a_processor_that_works_with_pil_prepares_the_same(pixels: Tensor, tmp_path: Path) -> None:
    save_vit(tmp_path)
    by_torch, by_pil = (
        Preparation(AutoImageProcessor.from_pretrained(tmp_path, backend=backend))(pixels)
        for backend in ("torchvision", "pil")
    )
    assert by_torch.shape == (4, 3, 16, 16)
    torch.testing.assert_close(by_torch, by_pil, rtol=0, atol=1.5 / 127.5)


def test_a_folder_loads_to_the_same_hash_and_another_size_or_weight_to_another(tmp_path: Path) -> None:
    save_vit(tmp_path)
    first = load_classifier(tmp_path).content_hash()
    assert load_classifier(tmp_path).content_hash() == first
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}, resample=3).save_pretrained(tmp_path)
    assert load_classifier(tmp_path).content_hash() != first
    save_vit(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "classifier.bias": weights["classifier.bias"] + 1}, tmp_path / "model.safetensors")
    assert load_classifier(tmp_path).content_hash() != first


def _edit(name: str, **changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **changes}))

    return edit


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _truncate(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _poison(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"][0] = float("inf")
    save_file(weights, folder / "model.safetensors")


def _replace_by_a_network_without_head(folder: Path) -> None:
    transformers.ViTModel(VIT).save_pretrained(folder)


def _pickle_instead(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (_remove("model.safetensors"), "no file named model.safetensors"),
        (_remove("preprocessor_config.json"), "preprocessor_config.json"),
        (_truncate, "holds no image classifier that transformers can load"),
        (_pickle_instead, "no file named model.safetensors"),
        (_poison, "classifier.bias holds values that are not finite"),
        (_edit("config.json", hidden_size="large"), "hidden_size"),
        (_edit("config.json", hidden_size=32), "weights do not fit its config.json"),
        (_edit("config.json", model_type="oracle"), "`oracle`"),
        (
            _edit("config.json", model_type="oracle", auto_map={"AutoConfig": "code.Config"}),
            "holds no image classifier",
        ),
        (_edit("config.json", model_type="clip_text_model"), "holds no image classifier"),
        (_replace_by_a_network_without_head, r"classifier\.bias is missing or of another shape"),
    ],
)
def test_a_broken_folder_is_refused_in_one_line(
    break_it: Callable[[Path], None], words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_vit(tmp_path)
    break_it(tmp_path)
    capfd.readouterr()
    with pytest.raises(UserError, match=words) as caught:
        load_classifier(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_without_transformers_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_vit(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'sfd-sweep\[transformers\]'"):
        load_classifier(tmp_path)


def test_a_network_with_two_heads_has_no_features_for_its_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.DeiTConfig(**{key: value for key, value in VIT.to_dict().items() if key != "model_type"})
    transformers.DeiTForImageClassificationWithTeacher(config).save_pretrained(tmp_path)
    model = transformers.DeiTForImageClassificationWithTeacher.from_pretrained(tmp_path)

    def prepare(images: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(images.float() / 255, size=(16, 16))

    with pytest.raises(UserError, match="not those of one linear layer over pooled features"):
        PretrainedClassifier(_Logits(model), prepare, {}, tuple(NAMES.values()), channels=3, name="deit")


def test_a_repository_that_cannot_be_reached_is_refused(no_network: None) -> None:
    with pytest.raises(UserError, match="'somebody/classifier' is no folder here and could not be fetched") as caught:
        load_classifier("somebody/classifier")
    assert "\n" not in str(caught.value)
