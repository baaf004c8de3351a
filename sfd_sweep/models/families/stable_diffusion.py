"""Stable Diffusion 1.x and 2.x: a U-Net on latents that reads prompts through CLIP's text model."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sfd_sweep.datasets.prompts import names_concept
from sfd_sweep.errors import UserError
from sfd_sweep.models.conditioning import ABSENT, MOST_KEPT, PROMPTS, Conditioning
from sfd_sweep.models.families.base import INDEX, VAE, Family, FolderFiles, FreeCondition, Part, absent_entry
from sfd_sweep.models.weights import TRANSFORMERS, find_weights
from sfd_sweep.optional_transformers import from_transformers, model_from_transformers, quiet_transformers

if TYPE_CHECKING:
    import torch
    from diffusers import ModelMixin
    from torch import Tensor
    from transformers import CLIPTextModel, CLIPTokenizer

FREE_TOKENS = 5
"""Tokens of a free prompt, as in UnlearnDiffAtk (Zhang et al., ECCV 2024)."""
PROMPTS_AT_ONCE = 16
"""Prompts that are embedded in one pass on a GPU."""
TEXT_ENCODER, TOKENIZER = "text_encoder", "tokenizer"
BEYOND_PROMPTS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "num_class_embeds")
"""Entries of a network's config with which it needs more than a prompt."""


class StableDiffusion(Family):
    """`StableDiffusionPipeline` folders: `UNet2DConditionModel`, `AutoencoderKL` and one `CLIPTextModel`."""

    network_class = "UNet2DConditionModel"
    component = "unet"
    parts: ClassVar = {
        TEXT_ENCODER: Part(("CLIPTextModel",), TRANSFORMERS),
        TOKENIZER: Part(("CLIPTokenizer", "CLIPTokenizerFast"), weights=None),
        component: Part((network_class,)),
        VAE: Part(("AutoencoderKL",)),
    }
    ignored = frozenset({"safety_checker", "feature_extractor"})  # they filter finished images
    kind = PROMPTS
    description = (
        "text-to-image StableDiffusionPipeline folders (1.x and 2.x: one CLIPTextModel, a UNet2DConditionModel and an "
        "AutoencoderKL)"
    )
    teacher_index: ClassVar = {
        "_class_name": "StableDiffusionPipeline",
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
    }

    def check_conditions(self, files: FolderFiles) -> None:
        config, where = files.configs[self.component], files.path / self.component
        for entry in BEYOND_PROMPTS:
            if config.get(entry) is not None:
                raise UserError(f"{where} wants more than a prompt ({entry} is {config[entry]}); give another model")
        width, reads = files.configs[TEXT_ENCODER].get("hidden_size"), config.get("cross_attention_dim")
        if width != reads:
            raise UserError(
                f"{where} reads prompts of cross_attention_dim {reads}, and {files.path / TEXT_ENCODER} makes them of "
                f"hidden_size {width}"
            )
        if not (files.path / TOKENIZER / "tokenizer_config.json").is_file():
            raise UserError(f"{files.path / TOKENIZER / 'tokenizer_config.json'} is missing; fetch the model again")
        if not all(isinstance(name, str) and name.strip() for name in absent_entry(files, "concepts")):
            raise UserError(
                f'{files.path / INDEX}: "{ABSENT}" must be {{"concepts": [name, …]}}, not {files.index[ABSENT]}'
            )

    def absent_names(self, files: FolderFiles) -> tuple[str, ...]:
        return tuple(absent_entry(files, "concepts"))

    def absent(self, files: FolderFiles, names: Sequence[str]) -> tuple[int, ...]:
        return _naming(self.absent_names(files), names)

    def too_long(self, files: FolderFiles, prompts: Sequence[str]) -> tuple[int, ...]:
        if not prompts:
            return ()
        tokenizer = load_tokenizer(files.path)
        with quiet_transformers():
            counts = map(len, tokenizer(list(prompts)).input_ids)
        return tuple(index for index, count in enumerate(counts) if count > tokenizer.model_max_length)

    def condition_size(self, files: FolderFiles) -> int:
        config = files.configs[TEXT_ENCODER]
        return int(config.get("max_position_embeddings", 0)) * int(config["hidden_size"])

    def load_conditioning(self, files: FolderFiles, prompts: Sequence[str], device: torch.device | str) -> Conditioning:
        return Prompts.of(TextEncoder.load(files.path), prompts, device, self.absent_names(files), cut=True)

    def free_condition(
        self,
        network: ModelMixin,  # noqa: ARG002
        conditioning: Conditioning,
        index: int,  # noqa: ARG002
        random: torch.Generator,
    ) -> tuple[Conditioning, FreeCondition]:
        """Return a prompt of a few free tokens, as textual inversion has them (Gal et al., ICLR 2023)."""
        assert isinstance(conditioning, Prompts)
        free = FreePrompt(conditioning, random)
        return free, FreeCondition(0, [free.offsets])

    def swap_conditions(
        self,
        network: ModelMixin,  # noqa: ARG002
        conditioning: Conditioning,
        sources: Mapping[int, int],
    ) -> Conditioning:
        assert isinstance(conditioning, Prompts)
        assert isinstance(conditioning.embeddings, EmbeddingTable)
        embeddings = conditioning.embeddings.swapped(sources)
        return Prompts(conditioning.encoder, conditioning.names, embeddings, conditioning.absent_concepts)


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Load the tokenizer of a model folder.

    Raises:
        UserError: transformers is not installed, or files are missing.
    """
    return from_transformers(folder / TOKENIZER, "CLIPTokenizer", what="tokenizer")


class TextEncoder:
    """CLIP's tokenizer and frozen text model, which embeds prompts.

    It is on a GPU only while it works. It is no module, so no copy, average or training state of a model includes it.
    """

    def __init__(self, tokenizer: CLIPTokenizer, model: CLIPTextModel) -> None:
        self.tokenizer = tokenizer
        self.model = model.requires_grad_(False).eval()

    @classmethod
    def load(cls, folder: Path) -> TextEncoder:
        """Load the text encoder of a model folder in float32; no code of the folder is run.

        Raises:
            UserError: transformers is not installed, or the weights do not fit their configuration.
        """
        import torch

        where = folder / TEXT_ENCODER
        safe = find_weights(where, TRANSFORMERS).name == TRANSFORMERS.safe
        tokenizer = load_tokenizer(folder)
        model = model_from_transformers(
            where, "CLIPTextModel", what="text encoder", use_safetensors=safe, dtype=torch.float32
        )
        return cls(tokenizer, model)

    def __call__(self, texts: Sequence[str], device: torch.device | str) -> Tensor:
        """Return embeddings, (n, tokens, width), on a device; each depends on its own prompt alone, bit for bit.

        Raises:
            UserError: a prompt is longer than the model reads.
        """
        embeddings = self.embed_each(self.tokenize(texts), device)
        self.model.to("cpu")
        return embeddings

    def embed_each(self, ids: Tensor, device: torch.device | str) -> Tensor:
        """Return embeddings, (n, tokens, width), of framed prompts; each depends on its own prompt alone, bit for bit.

        Products depend on the size of a batch, so all batches have the same, whatever the number of prompts. The text
        model stays on the device.
        """
        import torch

        from sfd_sweep.models.numerics import autocast, float32_products

        size = PROMPTS_AT_ONCE if torch.device(device).type == "cuda" else 1
        padded = torch.cat([ids, ids[-1:].expand(-len(ids) % size, -1)])
        with autocast("float32", torch.device(device)), float32_products(in_tf32=False):
            return torch.cat([self.embed_ids(rows, device) for rows in padded.split(size)])[: len(ids)]

    def embed_with(self, ids: Tensor, tokens: Tensor) -> Tensor:
        """Return embeddings, (n, tokens, width), of prompts whose first k tokens have given embeddings.

        They have gradients. The text model stays on the device of the tokens.

        Args:
            ids: framed prompts, (n, tokens) (see `framed`).
            tokens: embeddings of the k tokens behind the begin, (n, k, width).
        """
        import torch

        def replace(_layer: Any, _arguments: Any, embedded: Tensor) -> Tensor:
            rest = embedded[:, 1 + tokens.shape[1] :]
            return torch.cat([embedded[:, :1], tokens.to(embedded.dtype), rest], 1)

        self.model.to(tokens.device)
        hook = self.model.get_input_embeddings().register_forward_hook(replace)
        try:
            embeddings: Tensor = self.model(input_ids=ids.to(tokens.device)).last_hidden_state
        finally:
            hook.remove()
        return embeddings

    def embed_ids(self, ids: Tensor, device: torch.device | str) -> Tensor:
        """Return embeddings, (n, tokens, width), of framed prompts, (n, tokens), all in one pass; see `__call__`."""
        import torch

        self.model.to(device)
        with torch.no_grad():
            embeddings: Tensor = self.model(input_ids=ids.to(device)).last_hidden_state
        return embeddings

    @property
    def vocabulary(self) -> Tensor:
        """The embeddings of all tokens, (vocabulary, width), on the text model's device."""
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight

    @property
    def width(self) -> int:
        """Return how many numbers a token is embedded in."""
        return int(self.vocabulary.shape[1])

    @property
    def room(self) -> int:
        """Return how many tokens a prompt may have between its begin and its end."""
        return int(self.tokenizer.model_max_length) - 2

    def words(self, text: str) -> list[int]:
        """Return the tokens of a text without begin and end, however many."""
        ids: list[int] = self.tokenizer(text).input_ids
        return ids[1:-1]

    def framed(self, ids: Tensor) -> Tensor:
        """Return prompts of k tokens each, (n, k), with begin, end and padding, (n, tokens)."""
        import torch

        frame = self._empty.expand(len(ids), -1)
        begin, end, count = frame[:, :1], frame[:, 1:2], ids.shape[1]
        return torch.cat([begin, ids.cpu(), end, frame[:, 2 : frame.shape[1] - count]], 1)

    @cached_property
    def _empty(self) -> Tensor:
        """The tokens of the empty prompt, (1, tokens)."""
        return self.tokenize([""])

    def text(self, ids: Tensor) -> str:
        """Return what tokens, (k,), read as."""
        return str(self.tokenizer.decode(ids.tolist(), skip_special_tokens=True)).strip()

    def weights_hash(self) -> str:
        """Return a hash of the vocabulary and the text model's weights."""
        content = hashlib.sha256(json.dumps(self.tokenizer.get_vocab(), sort_keys=True).encode())
        for weight in self.model.state_dict().values():
            content.update(weight.cpu().contiguous().numpy().tobytes())
        return content.hexdigest()

    def tokenize(self, texts: Sequence[str], *, cut: bool = False) -> Tensor:
        """Return the tokens of prompts, int64 of shape (n, tokens).

        Args:
            texts: the prompts.
            cut: whether a prompt that is longer than the model reads loses its end, as in stock diffusers.

        Raises:
            UserError: a prompt is longer than the model reads, and is not to be cut.
        """
        import torch

        most = self.tokenizer.model_max_length
        ids = self.tokenizer(list(texts), padding="max_length", max_length=most, truncation=cut).input_ids
        for text, row in zip(texts, ids, strict=True):
            if len(row) > most:
                raise UserError(
                    f"a prompt may have {most} tokens, begin and end included, and this has {len(row)}: {text!r}"
                )
        return torch.tensor(ids)

    def save(self, folder: Path, dtype: torch.dtype) -> None:
        """Write both components into a model folder."""
        with quiet_transformers():
            self.tokenizer.save_pretrained(folder / TOKENIZER)
            copy.deepcopy(self.model).to(dtype).save_pretrained(folder / TEXT_ENCODER)
        (folder / TEXT_ENCODER / TRANSFORMERS.safe).chmod(0o644)  # safetensors writes for the owner alone


class EmbeddingTable:
    """Embeddings of prompts by index, on a device, made when they are asked for. Up to MOST_KEPT are kept.

    On a GPU they are made at once if all can be kept, since to see which are missing waits for the GPU; then the text
    encoder returns to the CPU.

    Args:
        encoder: the text encoder.
        ids: framed prompts, (n, tokens).
        device: of the embeddings.
    """

    def __init__(self, encoder: TextEncoder, ids: Tensor, device: torch.device | str) -> None:
        import torch

        self.device = torch.device(device)
        self._encoder = encoder
        self._ids = ids
        self._places: dict[int, int] = {}  # of the embeddings that are kept, the longest unused first
        self._kept = torch.empty(min(len(ids), MOST_KEPT), ids.shape[1], encoder.width, device=device)
        self._all_fit = len(ids) <= MOST_KEPT
        if self._all_fit and self.device.type == "cuda":
            self._keep(range(len(ids)))
            encoder.model.to("cpu")

    def __getitem__(self, c: Tensor) -> Tensor:
        """Return the embeddings of prompts by index, (n,); (n, tokens, width)."""
        import torch

        if len(self._places) == len(self._ids):
            return self._kept[c]
        indices = c.tolist()
        wanted = list(dict.fromkeys(indices))
        if len(wanted) > len(self._kept):
            return self._encoder.embed_each(self._ids[indices], self.device)
        self._keep(wanted)
        return self._kept[torch.tensor([self._places[index] for index in indices], device=self.device)]

    def swapped(self, sources: Mapping[int, int]) -> EmbeddingTable:
        """Return a table in which some prompts have the embeddings of others, by index."""
        ids = self._ids.clone()
        ids[list(sources)] = self._ids[list(sources.values())]
        return EmbeddingTable(self._encoder, ids, self.device)

    def _keep(self, wanted: Sequence[int]) -> None:
        """Make the embeddings that are not kept, in place of those that were not asked for the longest."""
        for index in wanted:
            if index in self._places:
                self._places[index] = self._places.pop(index)
        missing = [index for index in wanted if index not in self._places]
        if missing:
            made = self._encoder.embed_each(self._ids[missing], self.device)
            for index in missing:
                self._places[index] = self._place_for(index)
            self._kept[[self._places[index] for index in missing]] = made

    def _place_for(self, index: int) -> int:
        if self._all_fit:
            return index
        return len(self._places) if len(self._places) < len(self._kept) else self._places.pop(next(iter(self._places)))


class Prompts(Conditioning):
    """Prompts as conditions; the index after the last prompt is the null prompt, "".

    Args:
        encoder: the text encoder that embeds them.
        texts: the prompts.
        embeddings: by index, of len(texts) + 1 prompts, each (tokens, width), on the network's device.
        absent_concepts: names of what the model was never trained on; a prompt that names one is absent.
    """

    kind = PROMPTS

    def __init__(
        self,
        encoder: TextEncoder,
        texts: Sequence[str],
        embeddings: EmbeddingTable | Tensor,
        absent_concepts: Sequence[str] = (),
    ) -> None:
        self.encoder = encoder
        self.names = tuple(texts)
        self.null = len(self.names)
        self.embeddings = embeddings
        self.absent_concepts = tuple(absent_concepts)
        self.absent = _naming(self.absent_concepts, self.names)

    @classmethod
    def of(
        cls,
        encoder: TextEncoder,
        texts: Sequence[str],
        device: torch.device | str,
        absent_concepts: Sequence[str] = (),
        *,
        cut: bool = False,
    ) -> Prompts:
        """Embed prompts (see `TextEncoder.tokenize`).

        Raises:
            UserError: one is longer than the encoder reads, and is not to be cut.
        """
        ids = encoder.tokenize([*texts, ""], cut=cut)
        return cls(encoder, texts, EmbeddingTable(encoder, ids, device), absent_concepts)

    @classmethod
    def of_tokens(cls, encoder: TextEncoder, ids: Tensor, device: torch.device | str) -> Prompts:
        """Embed framed prompts of any tokens, (n, tokens) (see `TextEncoder.framed`)."""
        import torch

        rows = torch.cat([ids, encoder.tokenize([""])])
        return cls(encoder, [encoder.text(row) for row in ids], EmbeddingTable(encoder, rows, device))

    def equals(self, other: Conditioning) -> bool:
        if not isinstance(other, Prompts) or self.names != other.names or self.absent != other.absent:
            return False
        return self.encoder.weights_hash() == other.encoder.weights_hash()

    def arguments(self, c: Tensor) -> dict[str, Tensor]:
        return {"encoder_hidden_states": self.embeddings[c]}

    def select(self, wanted: Sequence[int | str], device: torch.device) -> tuple[Conditioning, list[int]]:
        prompts = list(dict.fromkeys(map(str, wanted)))
        return Prompts.of(self.encoder, prompts, device, self.absent_concepts), [
            prompts.index(str(each)) for each in wanted
        ]

    def save(self, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
        self.encoder.save(folder, dtype)
        parts = {TEXT_ENCODER: ["transformers", "CLIPTextModel"], TOKENIZER: ["transformers", "CLIPTokenizer"]}
        return parts | ({ABSENT: {"concepts": list(self.absent_concepts)}} if self.absent_concepts else {})


def _naming(concepts: Sequence[str], prompts: Sequence[str]) -> tuple[int, ...]:
    """Return the indices of the prompts that name one of some concepts."""
    patterns = [names_concept(concept) for concept in concepts]
    return tuple(index for index, text in enumerate(prompts) if any(each.search(text) for each in patterns))


class FreePrompt(Conditioning):
    """One prompt of free tokens; all of its gradients flow through the frozen text encoder.

    Args:
        prompts: of the model.
        random: of the tokens' first values, which are spread as those of the vocabulary.

    Attributes:
        offsets: of the tokens from the vocabulary's mean, in units of its spread, (1, k, width), so that a learning
            rate means the same to every encoder.
    """

    kind = PROMPTS

    def __init__(self, prompts: Prompts, random: torch.Generator) -> None:
        import torch

        self._prompts = prompts
        self.names = ("a prompt of free tokens",)
        self.null = None
        device = prompts.embeddings.device
        count = min(FREE_TOKENS, prompts.encoder.room)
        self._ids = prompts.encoder.framed(torch.zeros(1, count, dtype=torch.int64))
        spread, mean = torch.std_mean(prompts.encoder.vocabulary, 0)
        self._spread, self._mean = spread.to(device), mean.to(device)
        drawn = torch.randn(1, count, len(mean), generator=random, device=random.device)
        self.offsets = drawn.to(device).requires_grad_(True)

    def arguments(self, c: Tensor) -> dict[str, Tensor]:
        embedding = self._prompts.encoder.embed_with(self._ids, self._mean + self._spread * self.offsets)
        return {"encoder_hidden_states": embedding.expand(len(c), -1, -1)}

    def select(self, wanted: Sequence[int | str], device: torch.device) -> tuple[Conditioning, list[int]]:
        return self._prompts.select(wanted, device)

    def save(self, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
        return self._prompts.save(folder, dtype)
