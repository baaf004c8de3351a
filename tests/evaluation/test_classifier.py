import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifier import BUILTIN_CLASSIFIERS, Classifier, ClassifierConfig


@pytest.fixture
def folder(classifier: Classifier, tmp_path: Path) -> Path:
    classifier.save(tmp_path / "classifier")
    return tmp_path / "classifier"


def test_the_shipped_classifier_is_as_accurate_on_held_out_digits_as_it_says(
    classifier: Classifier, digits: LabeledImages
) -> None:
    _, held_out = digits.split(1 / 3, seed=0)
    accuracy = accuracy_score(held_out.labels, classifier(held_out.images).argmax(1))
    assert accuracy == pytest.approx(classifier.config.held_out_accuracy, abs=1e-6)
    assert accuracy > 0.99


def test_the_shipped_classifier_is_small() -> None:
    assert sum(path.stat().st_size for path in BUILTIN_CLASSIFIERS["builtin:digits"].iterdir()) < 200_000


def test_logits_come_from_features(classifier: Classifier, digits: LabeledImages) -> None:
    features = classifier.features(digits.images[:50])
    assert features.shape == (50, 64)
    assert torch.equal(classifier.logits_from_features(features), classifier(digits.images[:50]))


@pytest.mark.parametrize(("size", "channels", "widths"), [(32, 3, (8, 16, 16, 16)), (28, 1, (4, 8, 8)), (5, 2, (4,))])
def test_a_classifier_can_have_other_sizes(size: int, channels: int, widths: tuple[int, ...], tmp_path: Path) -> None:
    config = ClassifierConfig(
        image_size=size, channels=channels, widths=widths, features=7, class_names=("cat", "dog", "frog")
    )
    classifier = Classifier(config).eval()
    classifier.round_to_half_precision()
    classifier.save(tmp_path)
    images = torch.rand(4, *config.image_shape)
    assert classifier(images).shape == (4, 3)
    assert torch.equal(Classifier.load(tmp_path)(images), classifier(images))


def test_a_saved_classifier_loads_to_the_same_weights_and_the_same_hash(classifier: Classifier, folder: Path) -> None:
    loaded = Classifier.load(folder)
    assert loaded.content_hash() == classifier.content_hash()
    assert all(torch.equal(weight, loaded.state_dict()[name]) for name, weight in classifier.state_dict().items())
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_any_change_of_a_weight_changes_the_hash(classifier: Classifier) -> None:
    before = classifier.content_hash()
    classifier.head.bias.data[3] += 1e-3
    assert classifier.content_hash() != before


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


def _cut_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (_remove_config, r"config\.json is missing; give builtin:digits or a folder"),
        (_remove_weights, r"model\.safetensors is missing"),
        (_truncate_weights, "no whole safetensors file"),
        (_empty_weights, "no whole safetensors file"),
        (_garble_the_header, "no whole safetensors file"),
        (_turn_a_weight, r"head\.weight is of shape \(64, 10\), not \(10, 64\)"),
        (_lose_a_weight, r"projection\.bias is of shape missing, not \(64,\)"),
        (_poison_a_weight, r"head\.bias .*not finite"),
        (_edit_config(widths=[8, 16]), "does not fit config.json"),
        (_edit_config(widths=[8, 16, 16, 16, 16]), r"image_size \(8\) cannot be halved 4 times"),
        (_edit_config(image_size="large"), "image_size: Input should be a valid integer"),
        (_edit_config(pickle="x"), "pickle: Extra inputs are not permitted"),
        (_cut_config, "the file: Invalid JSON"),
    ],
)
def test_a_broken_classifier_is_refused_in_one_line(folder: Path, break_it: Callable[[Path], None], words: str) -> None:
    break_it(folder)
    with pytest.raises(UserError, match=words) as caught:
        Classifier.load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_missing_folder_a_file_and_an_unknown_builtin_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for source in (tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises(UserError, match="there is no classifier"):
            Classifier.load(source)
    with pytest.raises(UserError, match="no classifier 'builtin:cifar' is shipped; there are: builtin:digits"):
        Classifier.load("builtin:cifar")
