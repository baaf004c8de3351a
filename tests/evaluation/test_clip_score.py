"""CLIP scores, against the embeddings of transformers."""

from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from tiny_clip import save_clip

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.clip_score import ClipScore

PROMPTS = ("a bee", "cow", "an ant on a flower in a field")  # the last is longer than the tiny model reads

SEED = 1  # of weights with which some cosines are negative and some are not


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"), seed=SEED)


def test_a_score_is_the_cosine_of_transformers_embeddings_and_never_negative(folder: Path) -> None:
    pixels = torch.randint(0, 256, (12, 3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels[:6] //= 4  # dark ones, so that not all are alike
    c = torch.arange(12) % 3
    model, processor = (kind.from_pretrained(folder) for kind in (transformers.CLIPModel, transformers.CLIPProcessor))
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels]
    with torch.no_grad():
        seen = model.eval()(
            **processor(images=pictures, text=list(PROMPTS), padding=True, truncation=True, return_tensors="pt")
        )
    cosines = torch.cosine_similarity(seen.image_embeds, seen.text_embeds[c])
    scores = ClipScore(f"clip:{folder}", PROMPTS).scores(pixels.float() / 127.5 - 1, c)
    torch.testing.assert_close(scores, cosines.clamp(min=0), rtol=1e-4, atol=1e-5)
    assert cosines.min() < 0 < cosines.max()


def test_without_prompts_there_is_no_score(folder: Path) -> None:
    with pytest.raises(UserError, match="there is no prompt"):
        ClipScore(str(folder), ())
