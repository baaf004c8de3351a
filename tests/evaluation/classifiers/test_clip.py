"""CLIP's logits and scores against transformers' own, for texts that the caller gives."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_clip import EMBEDDING, save_clip
from torch import Tensor

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.classifiers.clip import ClipScore
from sfd_sweep.evaluation.classifiers.loading import is_portable, load_classifier

CONCEPTS = ("a bee", "Monet", "cow")
PROMPTS = ("a bee", "cow", "an ant on a flower in a field")  # the last is longer than the tiny model reads


@pytest.fixture(name="folder", scope="session")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(name="clip")
def _clip(folder: Path) -> Classifier:
    return load_classifier(f"clip:{folder}", concepts=CONCEPTS)


def by_transformers(folder: Path, pictures: list[Image.Image], texts: list[str]) -> Tensor:
    model, processor = (kind.from_pretrained(folder) for kind in (transformers.CLIPModel, transformers.CLIPProcessor))
    with torch.no_grad():
        logits: Tensor = model.eval()(
            **processor(images=pictures, text=texts, padding=True, return_tensors="pt")
        ).logits_per_image
    return logits


@pytest.mark.parametrize("shape", [(24, 24), (16, 16), (20, 11)])
def test_logits_are_those_of_transformers_for_photographs_of_the_concepts(
    shape: tuple[int, int], clip: Classifier, folder: Path, pixels: Tensor, images: Tensor
) -> None:
    height, width = shape
    pictures = [Image.fromarray(image[:, :height, :width].permute(1, 2, 0).numpy()) for image in pixels]
    expected = by_transformers(folder, pictures, [f"a photo of {concept}" for concept in CONCEPTS])
    features = clip.features(images[..., :height, :width])
    assert features.shape == (4, EMBEDDING)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(clip.logits_from_features(features), expected, rtol=1e-4, atol=1e-4)
    assert expected.std(0).min() > 0.01  # or all images would look the same to it, and the comparison be empty


def test_a_gray_image_gives_the_logits_that_transformers_gives_for_it_in_rgb(
    clip: Classifier, folder: Path, pixels: Tensor, images: Tensor
) -> None:
    pictures = [Image.fromarray(image[0].numpy()).convert("RGB") for image in pixels]
    expected = by_transformers(folder, pictures, [f"a photo of {concept}" for concept in CONCEPTS])
    torch.testing.assert_close(clip(images[:, :1]), expected, rtol=1e-4, atol=1e-4)


def test_its_classes_are_the_concepts_in_any_order(clip: Classifier, images: Tensor) -> None:
    assert clip.class_names == CONCEPTS
    reordered = clip.for_classes(("cow", "a bee", "Monet"))
    torch.testing.assert_close(reordered(images), clip(images)[:, [2, 0, 1]])


def test_images_may_be_gray_or_rgb_and_of_any_size(clip: Classifier) -> None:
    for channels in (1, 3):
        clip.check_images(CONCEPTS, (channels, 99, 98))
        clip.for_classes(CONCEPTS[::-1]).check_images(CONCEPTS, (channels, 99, 98))
    with pytest.raises(UserError, match="takes images of 1 or 3 channels, not of 4"):
        clip.check_images(CONCEPTS, (4, 99, 98))


def test_the_hash_is_that_of_concepts_weights_and_preparation(clip: Classifier, folder: Path, tmp_path: Path) -> None:
    source = f"clip:{folder}"
    assert load_classifier(source, concepts=CONCEPTS).content_hash() == clip.content_hash()
    assert deepcopy(clip).content_hash() == clip.content_hash()
    others = [load_classifier(source, concepts=("a bee", "cow")), load_classifier(source, concepts=CONCEPTS[::-1])]
    for name, weight in [
        ("visual", "visual_projection.weight"),
        ("text", "text_projection.weight"),
        ("", "logit_scale"),
    ]:
        changed = save_clip(tmp_path / name / "weights")
        weights = load_file(changed / "model.safetensors")
        save_file({**weights, weight: weights[weight] + 1}, changed / "model.safetensors", {"format": "pt"})
        others.append(load_classifier(f"clip:{changed}", concepts=CONCEPTS))
    bilinear = save_clip(tmp_path / "bilinear", resample=2)
    others.append(load_classifier(f"clip:{bilinear}", concepts=CONCEPTS))
    assert len({clip.content_hash(), *(other.content_hash() for other in others)}) == 1 + len(others)


def test_it_is_frozen_and_gives_the_same_logits_each_time(clip: Classifier, images: Tensor) -> None:
    assert not clip.training
    assert not any(parameter.requires_grad for parameter in clip.parameters())
    torch.testing.assert_close(clip(images), clip(images), rtol=0, atol=0)


def test_a_repository_is_the_same_on_every_machine_and_a_folder_is_not(folder: Path) -> None:
    assert is_portable("clip:openai/clip-vit-large-patch14")
    assert not is_portable(f"clip:{folder}")


def test_a_folder_whose_path_looks_like_a_repository_is_not_portable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_clip(tmp_path / "models" / "clip")
    monkeypatch.chdir(tmp_path)
    assert not is_portable("clip:models/clip")
    assert load_classifier("clip:models/clip", concepts=CONCEPTS).class_names == CONCEPTS


@pytest.mark.parametrize(
    ("concepts", "words"),
    [
        ((), "none is given; name the concepts"),
        (("a bee", " "), "a concept is an empty text"),
        (("a bee", "cow", "a bee"), "the concept 'a bee' is there twice"),
        (("a bee",), "'a bee' is the only one; name another"),
    ],
)
def test_texts_that_are_no_classes_are_refused(concepts: tuple[str, ...], words: str, folder: Path) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load_classifier(f"clip:{folder}", concepts=concepts)
    assert "\n" not in str(caught.value)


def test_a_classifier_with_classes_of_its_own_takes_no_concepts() -> None:
    with pytest.raises(UserError, match="builtin:digits has classes of its own"):
        load_classifier("builtin:digits", concepts=CONCEPTS)


def _empty(folder: Path) -> None:
    (folder / "config.json").unlink()


def _without_tokenizer(folder: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()


def _truncate(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _poison(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["logit_scale"] = torch.tensor(float("nan"))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _drop_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (_empty, "there is no CLIP, config.json is missing"),
        (_without_tokenizer, "CLIP's tokenizer is missing"),
        (_truncate, "holds no CLIPModel that transformers can load"),
        (_poison, "logit_scale holds values that are not finite"),
        (_drop_a_weight, r"text_projection\.weight is missing or of another shape\); it is no CLIPModel"),
    ],
)
def test_a_broken_folder_is_refused_in_one_line(break_it: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    save_clip(tmp_path)
    break_it(tmp_path)
    with pytest.raises(UserError, match=words) as caught:
        load_classifier(f"clip:{tmp_path}", concepts=CONCEPTS)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_repository_that_cannot_be_reached_is_refused(no_network: None) -> None:
    with pytest.raises(UserError, match="'somebody/clip' is no folder here and could not be fetched"):
        load_classifier("clip:somebody/clip", concepts=CONCEPTS)


def test_a_score_is_the_cosine_of_transformers_embeddings_and_never_negative(tmp_path: Path) -> None:
    folder = save_clip(tmp_path, seed=1)  # some of its cosines are negative and some are not
    pixels = torch.randint(0, 256, (12, 3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels[:6] //= 4  # dark ones, so that not all are alike
    c = torch.arange(12) % 3
    model, processor = (kind.from_pretrained(folder) for kind in (transformers.CLIPModel, transformers.CLIPProcessor))
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels]
    with torch.no_grad():
        output = model.eval()(
            **processor(images=pictures, text=list(PROMPTS), padding=True, truncation=True, return_tensors="pt")
        )
    cosines = torch.cosine_similarity(output.image_embeds, output.text_embeds[c])
    scores = ClipScore(f"clip:{folder}", PROMPTS).scores(pixels.float() / 127.5 - 1, c)
    torch.testing.assert_close(scores, cosines.clamp(min=0), rtol=1e-4, atol=1e-5)
    assert cosines.min() < 0 < cosines.max()


def test_without_prompts_there_is_no_score(folder: Path) -> None:
    with pytest.raises(UserError, match="there is no prompt"):
        ClipScore(str(folder), ())
