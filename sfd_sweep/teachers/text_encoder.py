"""The text encoder of a text-to-image teacher: its tokenizer, its network, and its training on images and captions."""

from __future__ import annotations

import random as python_random
import re
from collections.abc import Iterable, Iterator, Sequence
from string import ascii_lowercase
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import TrialFailed
from sfd_sweep.models.families.stable_diffusion import TextEncoder
from sfd_sweep.models.numerics import seeded
from sfd_sweep.optional_transformers import transformers_for
from sfd_sweep.teachers.recipes import TextPretraining

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

BATCH_SIZE = 64
IMAGE_WIDTH = 128  # of the hidden layer between latents and their embedding
LARGEST_FACTOR = 50.0  # of similarities
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
LETTERS = re.compile(r"[^\W\d_]+")


def new_text_encoder(prompts: Sequence[str], recipe: TextPretraining, *, seed: int) -> TextEncoder:
    """Return an untrained text encoder with a token for each word of these prompts.

    Raises:
        UserError: a prompt is too long for it, or transformers is not installed.
    """
    transformers = transformers_for("the text encoder of a teacher is one of transformers")
    tokenizer = word_tokenizer(prompts, recipe.tokens)
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.text_width,
        intermediate_size=4 * recipe.text_width,
        num_hidden_layers=recipe.text_layers,
        num_attention_heads=recipe.text_heads,
        max_position_embeddings=recipe.tokens,
        projection_dim=recipe.text_width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with seeded(seed, torch.device("cpu")):
        encoder = TextEncoder(tokenizer, transformers.CLIPTextModel(config))
    encoder.tokenize(prompts)
    return encoder


def word_tokenizer(texts: Iterable[str], tokens: int) -> CLIPTokenizer:
    """Return CLIP's tokenizer with a token for each word of these texts; it reads other text byte by byte.

    The vocabulary is laid out as CLIP's: 256 bytes, the same at the end of a word, merges, begin and end.

    Args:
        texts: the texts.
        tokens: of a prompt, begin and end included; longer ones do not fit the text encoder.
    """
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = bytes_to_unicode()
    words = sorted({word for text in texts for word in LETTERS.findall(text.lower())})
    merges = dict.fromkeys(merge for word in words for merge in _merges(word, letters))
    ends = [letter + END_OF_WORD for letter in letters.values()]
    vocabulary = dict.fromkeys([*letters.values(), *ends, *map("".join, merges), BEGIN, END])
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(vocabulary)}, merges=list(merges), model_max_length=tokens
    )


def _merges(word: str, letters: dict[int, str]) -> Iterator[tuple[str, str]]:
    """Yield the merges that make one token of a word, from its beginning on."""
    begun, *rest = [letters[byte] for byte in word.encode()]
    if rest:
        rest[-1] += END_OF_WORD
    for part in rest:
        yield begun, part
        begun += part


def train_text_encoder(
    encoder: TextEncoder,
    latents: Tensor,
    images: LabeledImages,
    recipe: TextPretraining,
    *,
    device: torch.device,
    seed: int,
) -> None:
    """Train the encoder in place, so that captions are more similar to latents of their class than to others.

    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (ICML 2021), with all images
    of a class as a caption's own. It is needed: a network that is trained on a random text encoder ignores prompts.

    Args:
        encoder: on the CPU before and after.
        latents: of the images, (n, c, h, w).
        images: whose labels and names of classes count.
        recipe: captions and training.
        device: where to train.
        seed: of every draw.

    Raises:
        TrialFailed: it diverged.
    """
    captions = [*recipe.captions, *_disturbed(recipe.captions, recipe.disturbed_captions, seed)]
    ids = encoder.tokenize([caption.replace("{}", name) for name in images.class_names for caption in captions])
    random = torch.Generator().manual_seed(seed)
    with seeded(seed, device):
        towers = _Towers(encoder, latents[0].numel(), recipe.text_width).to(device)
    towers.requires_grad_(True)
    optimizer = torch.optim.AdamW(towers.parameters(), recipe.text_lr)
    rate = OneCycleLR(optimizer, recipe.text_lr, total_steps=recipe.text_steps)
    for _ in range(recipe.text_steps):
        rows = torch.randint(len(images), (BATCH_SIZE,), generator=random)
        labels = images.labels[rows]
        caption = labels * len(captions) + torch.randint(len(captions), (BATCH_SIZE,), generator=random)
        loss = contrastive_loss(towers(latents[rows].to(device), ids[caption].to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    encoder.model.to("cpu").requires_grad_(False).eval()
    if not torch.isfinite(loss):
        raise TrialFailed(f"the text encoder diverged: its loss is {loss.item()}")


def contrastive_loss(similarities: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of both directions' cross-entropies, where all pairs of equal labels belong together.

    Args:
        similarities: of images, by row, and captions, by column, (n, n).
        labels: of both, (n,).
    """
    same = (labels[:, None] == labels[None]).float()
    targets = same / same.sum(1, keepdim=True)
    log_probabilities = similarities.log_softmax(1) + similarities.T.log_softmax(1)
    return -(targets * log_probabilities).sum(1).mean() / 2


class _Towers(nn.Module):
    """A text encoder and an encoder of latents; only the first is kept."""

    def __init__(self, encoder: TextEncoder, latent_size: int, width: int) -> None:
        super().__init__()
        self.text = encoder.model
        self.end = encoder.tokenizer.eos_token_id
        self.projection = nn.Linear(width, width, bias=False)
        self.image = nn.Sequential(
            nn.Flatten(), nn.Linear(latent_size, IMAGE_WIDTH), nn.ReLU(), nn.Linear(IMAGE_WIDTH, width)
        )
        self.log_factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, latents: Tensor, ids: Tensor) -> Tensor:
        """Return the similarities of latents (n, c, h, w) and captions (n, tokens): (n, n)."""
        states = self.text(input_ids=ids).last_hidden_state
        ended = (ids == self.end).float()[..., None]  # from the end of the caption to the end of the prompt
        captions = self.projection((states * ended).sum(1) / ended.sum(1))
        factor = self.log_factor.exp().clamp(max=LARGEST_FACTOR)
        return F.normalize(self.image(latents)) @ F.normalize(captions).T * factor


def _disturbed(captions: Sequence[str], copies: int, seed: int) -> Iterator[str]:
    """Yield copies of captions, each with a meaningless word or two in it."""
    random = python_random.Random(seed)
    for _ in range(copies):
        for caption in captions:
            words = caption.split()
            for _ in range(random.choice((1, 2))):
                word = "".join(random.choices(ascii_lowercase, k=random.randint(1, 3)))
                words.insert(random.randint(0, len(words)), word)
            yield " ".join(words)
