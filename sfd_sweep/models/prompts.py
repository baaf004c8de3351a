"""Prompts as conditions: embedded once, and then known by their index, as classes are."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from sfd_sweep.errors import UserError
from sfd_sweep.extras import quiet_transformers, transformers_for
from sfd_sweep.models.components import TEXT_ENCODER, TOKENIZER
from sfd_sweep.models.weights import TRANSFORMERS, find_weights

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer


class TextEncoder:
    """From prompts to what the network reads of them: CLIP's tokenizer and text model, frozen.

    It waits in the main memory and is on a GPU only while it works. Like a decoder it is no module and never copied.

    Args:
        tokenizer: of the text model.
        model: CLIP's.
    """

    def __init__(self, tokenizer: CLIPTokenizer, model: CLIPTextModel) -> None:
        self.tokenizer = tokenizer
        self.model = model.requires_grad_(False).eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> TextEncoder:
        return self

    @classmethod
    def load(cls, folder: Path) -> TextEncoder:
        """The text encoder of a model's folder, in float32; no code out of it is run.

        Raises:
            UserError: transformers is not installed, or the folder's weights do not fit their description.
        """
        where = folder / TEXT_ENCODER
        transformers = transformers_for(f"{where} is a text encoder of transformers")
        safe = find_weights(where, TRANSFORMERS).name == TRANSFORMERS.safe
        try:
            with quiet_transformers():
                tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / TOKENIZER, local_files_only=True)
                model, loaded = transformers.CLIPTextModel.from_pretrained(
                    where,
                    local_files_only=True,
                    use_safetensors=safe,
                    dtype=torch.float32,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                )
        except (OSError, ValueError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{folder} has no text encoder that transformers can load: {reason}") from error
        # transformers makes up weights that it does not find.
        made_up = sorted({*loaded["missing_keys"], *(name for name, *_ in loaded["mismatched_keys"])})
        if made_up:
            raise UserError(
                f"{where}: the weights do not fit config.json ({made_up[0]} is missing or of another shape); fetch the "
                "model again"
            )
        return cls(tokenizer, model)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str], device: torch.device | str) -> Tensor:
        """The embeddings of prompts, (n, tokens, width), on a device; each depends on its prompt alone, bit for bit.

        Raises:
            UserError: a prompt is longer than the model reads.
        """
        ids = self.tokenize(texts).to(device)
        self.model.to(device)
        rows = [self.model(input_ids=row).last_hidden_state for row in ids.split(1)]
        self.model.to("cpu")
        return torch.cat(rows)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """The tokens of prompts, int64 of shape (n, tokens).

        Raises:
            UserError: a prompt is longer than the model reads.
        """
        return torch.tensor([self._ids(text) for text in texts])

    def _ids(self, text: str) -> list[int]:
        most = self.tokenizer.model_max_length
        ids: list[int] = self.tokenizer(text, padding="max_length", max_length=most).input_ids
        if len(ids) > most:
            raise UserError(
                f"a prompt may have {most} tokens, begin and end included, and this has {len(ids)}: {text!r}"
            )
        return ids

    def save(self, folder: Path, dtype: torch.dtype) -> None:
        """Write both parts into a model's folder, the weights in a precision."""
        with quiet_transformers():
            self.tokenizer.save_pretrained(folder / TOKENIZER)
            copy.deepcopy(self.model).to(dtype).save_pretrained(folder / TEXT_ENCODER)
        (folder / TEXT_ENCODER / TRANSFORMERS.safe).chmod(0o644)  # safetensors writes for the owner alone


class Prompts:
    """Prompts and their embeddings by index; the last row, after all prompts, is that of the null prompt, "".

    Copies of a model share them, as they share its decoder.

    Args:
        encoder: what embedded them.
        texts: the prompts.
        embeddings: (len(texts) + 1, tokens, width), on the device of the models that have them.
    """

    def __init__(self, encoder: TextEncoder, texts: Sequence[str], embeddings: Tensor) -> None:
        self.encoder = encoder
        self.texts = tuple(texts)
        self._embeddings = embeddings

    def __deepcopy__(self, memo: dict[int, Any]) -> Prompts:
        return self

    @classmethod
    def of(cls, encoder: TextEncoder, texts: Sequence[str], device: torch.device | str) -> Prompts:
        """Embed prompts.

        Raises:
            UserError: one is longer than the encoder reads.
        """
        return cls(encoder, texts, encoder([*texts, ""], device))

    def __len__(self) -> int:
        """How many there are, the null prompt left out; and so its index."""
        return len(self.texts)

    @property
    def width(self) -> int:
        """How many numbers a token is embedded in."""
        return self._embeddings.shape[-1]

    def __getitem__(self, c: Tensor) -> Tensor:
        """The embeddings (n, tokens, width) of the prompts of indices c, (n,)."""
        return self._embeddings[c]
