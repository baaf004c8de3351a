"""Folders that train-classifier writes: what is in them comes back, and nothing broken is taken for a classifier."""

import json
import struct
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score
from torch.nn import BatchNorm2d

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.loading import BUILTIN_CLASSIFIERS, load_classifier
from sfd_sweep.evaluation.classifiers.trainable import ClassifierConfig, ResidualConfig, SmallCnn, SmallCnnConfig

PETS = ("cat", "dog", "frog")
RESIDUAL = ResidualConfig(
    image_size=12,
    channels=3,
    class_names=PETS,
    stem="small",
    widths=(4, 8),
    blocks=(1, 2),
    mean=(0.1, 0.2, 0.3),
    std=(0.9, 0.8, 0.7),
)


@pytest.fixture
def folder(classifier: SmallCnn, tmp_path: Path) -> Path:
    classifier.save(tmp_path / "classifier")
    return tmp_path / "classifier"


def test_the_shipped_classifier_is_as_accurate_on_held_out_digits_as_it_says(
    classifier: SmallCnn, digits: LabeledImages
) -> None:
    _, held_out = digits.split(1 / 3, seed=0)
    accuracy = accuracy_score(held_out.labels, classifier(held_out.images).argmax(1))
    assert accuracy == pytest.approx(classifier.config.held_out_accuracy, abs=1e-6)
    assert accuracy > 0.99


def test_the_shipped_classifier_is_small() -> None:
    assert sum(path.stat().st_size for path in BUILTIN_CLASSIFIERS["builtin:digits"].iterdir()) < 200_000


def test_logits_come_from_features(classifier: SmallCnn, digits: LabeledImages) -> None:
    features = classifier.features(digits.images[:50])
    assert features.shape == (50, 64)
    assert torch.equal(classifier.logits_from_features(features), classifier(digits.images[:50]))


def cnn(size: int, channels: int, widths: tuple[int, ...]) -> SmallCnnConfig:
    return SmallCnnConfig(image_size=size, channels=channels, widths=widths, features=7, class_names=PETS)


@pytest.mark.parametrize(
    "config", [cnn(32, 3, (8, 16, 16, 16)), cnn(28, 1, (4, 8, 8)), cnn(5, 2, (4,)), RESIDUAL], ids=str
)
def test_a_classifier_of_any_shape_is_the_same_after_saving(config: ClassifierConfig, tmp_path: Path) -> None:
    classifier = config.build()
    images = torch.rand(4, config.channels, config.image_size, config.image_size) * 2 - 1
    classifier(images)  # batch-norm statistics are no longer those of a new network
    classifier.eval().round_to_half_precision()
    classifier.save(tmp_path)
    loaded = load_classifier(tmp_path)
    assert loaded(images).shape == (4, 3)
    assert torch.equal(loaded(images), classifier(images))
    assert loaded.content_hash() == classifier.content_hash()
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_batch_norm_statistics_beyond_half_precision_are_kept(tmp_path: Path) -> None:
    classifier = RESIDUAL.build()
    norm = next(module for module in classifier.modules() if isinstance(module, BatchNorm2d))
    norm.running_var.fill_(1e6)
    classifier.save(tmp_path)
    loaded = next(module for module in load_classifier(tmp_path).modules() if isinstance(module, BatchNorm2d))
    assert torch.equal(loaded.running_var, norm.running_var)


def test_weights_lie_on_the_disk_in_half_precision(tmp_path: Path) -> None:
    classifier = RESIDUAL.build()
    classifier.save(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert {saved[name].dtype for name, _ in classifier.named_parameters()} == {torch.float16}


def test_a_saved_classifier_loads_to_the_same_weights_and_the_same_hash(classifier: SmallCnn, folder: Path) -> None:
    loaded = load_classifier(folder)
    assert loaded.content_hash() == classifier.content_hash()
    assert all(torch.equal(weight, loaded.state_dict()[name]) for name, weight in classifier.state_dict().items())
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_any_change_of_a_weight_changes_the_hash(classifier: SmallCnn) -> None:
    changed = deepcopy(classifier)
    changed.head.bias.data[3] += 1e-3
    assert changed.content_hash() != classifier.content_hash()


def test_another_normalization_is_another_classifier() -> None:
    torch.manual_seed(0)
    plain = RESIDUAL.build()
    other = RESIDUAL.model_copy(update={"mean": (0.5, 0.5, 0.5)}).build()
    other.load_state_dict(plain.state_dict())
    assert other.content_hash() != plain.content_hash()


def _remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _truncate_weights(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _empty_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def _garble_the_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + bytes(100))


def _turn_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "head.weight": weights["head.weight"].T.contiguous()}, folder / "model.safetensors")


def _lose_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["projection.bias"]
    save_file(weights, folder / "model.safetensors")


def _poison_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["head.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors")


def _edit_config(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return edit


def _write_config(content: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "config.json").write_text(content)

    return write


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (_remove_config, r"config\.json is missing; give builtin:digits, a folder"),
        (_remove_weights, r"model\.safetensors is missing"),
        (_truncate_weights, "no complete safetensors file"),
        (_empty_weights, "no complete safetensors file"),
        (_garble_the_header, "no complete safetensors file"),
        (_turn_a_weight, r"does not fit config\.json: .* mismatch for head\.weight: .*\[64, 10\]"),
        (_lose_a_weight, r"does not fit config\.json: .* Missing key.* \"projection\.bias\""),
        (_poison_a_weight, r"head\.bias .*not finite"),
        (_edit_config(widths=[8, 16]), "does not fit config.json"),
        (_edit_config(widths=[8, 16, 16, 16, 16]), r"image_size \(8\) cannot be halved 4 times"),
        (_edit_config(image_size="large"), "image_size: Input should be a valid integer"),
        (_edit_config(pickle="x"), "pickle: Extra inputs are not permitted"),
        (
            _edit_config(architecture="transformer"),
            "'transformer' .* does not match any of the expected tags: 'cnn', 'resnet'",
        ),
        (_edit_config(architecture="resnet"), "resnet.stem: Field required"),
        (_write_config("{"), "cannot be read as JSON"),
        (_write_config("[]"), "holds no JSON object"),
        (_write_config("{}"), "neither class_names .* nor architectures .* nor architecture"),
    ],
)
def test_a_broken_classifier_is_refused_in_one_line(folder: Path, break_it: Callable[[Path], None], words: str) -> None:
    break_it(folder)
    with pytest.raises(UserError, match=words) as caught:
        load_classifier(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blocks": (1,)}, "widths are of 2 stages, but blocks of 1"),
        ({"mean": (0.5,)}, r"of as many colors as channels \(3\)"),
        ({"std": (1.0, 0.0, 1.0)}, "greater than 0"),
        ({"class_names": ("cat",)}, "at least 2"),
    ],
)
def test_a_residual_network_of_an_impossible_shape_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ResidualConfig.model_validate({**RESIDUAL.model_dump(), **changes})


def test_a_missing_folder_a_file_and_an_unknown_builtin_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for source in (tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises(UserError, match="there is no classifier"):
            load_classifier(source)
    with pytest.raises(UserError, match="no classifier 'builtin:cifar' is shipped; there are: builtin:digits"):
        load_classifier("builtin:cifar")
