"""Recipes: frozen models of everything that making a model depends on besides its data, and the presets of pretraining.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sfd_sweep.config.config_errors import advice
from sfd_sweep.errors import UserError

RecipeT = TypeVar("RecipeT", bound="Recipe")

Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Recipe(BaseModel):
    """Base of all recipes. `--set FIELD=VALUE` changes a field (`config.with_overrides`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def preset_named(presets: Mapping[str, RecipeT], name: str) -> RecipeT:
    """Return a preset by its name.

    Raises:
        UserError: the name is unknown.
    """
    if name not in presets:
        raise UserError(f"--preset {name}: unknown preset{advice(name, presets)}")
    return presets[name]


class TextPretraining(Recipe):
    """The components before a text-to-image network: captions, a text encoder, and an autoencoder."""

    captions: tuple[str, ...] = Field(
        (
            "{}",
            "a handwritten {}",
            "a photo of the digit {}",
            "the number {}",
            "a picture of a {}",
            "a drawing of the digit {}",
            "a scan of the number {}",
            "handwritten digit {}",
        ),
        min_length=1,
        description="captions of images; {} is the name of an image's class",
    )
    disturbed_captions: int = Field(
        6,
        ge=0,
        description="copies of each caption with meaningless words in it, which make the text encoder robust against "
        "unseen phrasings",
    )
    tokens: Annotated[int, Field(ge=3)] = Field(16, description="length of a prompt, with its begin and its end")
    text_width: Count = Field(32, description="size of a token's embedding")
    text_layers: Count = Field(2, description="layers of the text encoder")
    text_heads: Count = Field(4, description="attention heads of each")
    text_steps: Count = Field(800, description="optimizer steps of the text encoder")
    text_lr: float = Field(3e-3, gt=0, description="its highest learning rate")
    latent_channels: Count = Field(4, description="channels of a latent")
    autoencoder_channels: tuple[Count, ...] = Field(
        (16, 32), min_length=1, description="width at each resolution; each but the first halves the image"
    )
    kl_weight: float = Field(1e-2, ge=0, description="weight of the latents' divergence from a normal distribution")
    autoencoder_steps: Count = Field(600, description="optimizer steps of the autoencoder")
    autoencoder_lr: float = Field(3e-3, gt=0, description="its highest learning rate")

    @model_validator(mode="after")
    def _check(self) -> TextPretraining:
        if odd := [caption for caption in self.captions if caption.count("{}") != 1]:
            raise ValueError(f"captions must have one {{}} each, for the class, and {odd[0]!r} has not")
        if self.text_width % self.text_heads:
            raise ValueError(f"text_width {self.text_width} does not fall into {self.text_heads} text_heads")
        return self

    def prompts(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """Return every caption of the first class, then of the second, and so on."""
        return tuple(caption.replace("{}", name) for name in class_names for caption in self.captions)

    def shortest_prompts(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """Return the shortest caption of each class, by its index."""
        return tuple(min(self.captions, key=len).replace("{}", name) for name in class_names)


class Pretraining(Recipe):
    """A teacher's network and its training. The defaults are the preset `digits`."""

    image_size: Count | None = Field(
        None, description="pixels along the edge that images are brought to first; null: they stay as they are"
    )
    channels: tuple[Count, ...] = Field((16, 32), min_length=1, description="width at each resolution")
    layers_per_block: Count = Field(1, description="residual blocks at each resolution")
    norm_groups: Count = Field(8, description="groups of the group norms")
    attention_sizes: tuple[Count, ...] = Field((), description="heights of the feature maps that attend to themselves")
    middle_attention: bool = Field(False, description="whether the smallest feature map attends to itself")
    attention_head_dim: Count | None = Field(
        8, description="channels of an attention head; null: one head, as wide as its feature map"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="share of a residual block's values dropped in training")
    process: Literal["diffusion", "flow_matching"] = Field(
        "diffusion",
        description="how noise is mixed in: `diffusion`, by the schedule of DDPM or Stable Diffusion; `flow_matching`, "
        "as (1 - σ)·x_0 + σ·ε",
    )
    prediction_type: Literal["epsilon", "v_prediction"] = Field(
        "v_prediction", description="what the network puts out, and whose plain squared error is the loss"
    )
    steps: Count = Field(3000, description="optimizer steps")
    batch_size: Count = Field(64, description="images of a step, over all workers")
    micro_batch_size: Count | None = Field(None, description="images of one forward at most; null: a worker's share")
    precision: Literal["float32", "tf32", "bfloat16"] = Field("float32", description="of the network's products")
    lr: float = Field(3e-3, gt=0, description="highest learning rate")
    lr_schedule: Literal["one_cycle", "constant"] = Field("one_cycle", description="how the learning rate moves")
    warm_up_steps: int = Field(0, ge=0, description="steps of linear growth before a constant learning rate")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's; 0 makes it Adam")
    gradient_clip: float = Field(1.0, gt=0, description="greatest norm of the gradient")
    ema_decay: Share = Field(0.995, description="decay of the average of the weights, which is the teacher")
    label_dropout: Share = Field(0.12, description="share of images trained without label, which guidance needs")
    horizontal_flips: bool = Field(False, description="whether every second image is mirrored in training")
    text: TextPretraining | None = Field(
        None, description="components before a text-to-image network; null: the teacher is label-conditional"
    )
    stored_as: Literal["float16", "float32"] = Field("float16", description="the teacher's weights on disk")
    seed: int = Field(0, ge=0, description="of weights and of every draw")

    @model_validator(mode="after")
    def _check(self) -> Pretraining:
        if self.warm_up_steps and self.lr_schedule != "constant":
            raise ValueError("warm_up_steps go with lr_schedule constant; one_cycle has its own warm-up")
        if self.process == "flow_matching" and self.prediction_type != "v_prediction":
            raise ValueError("process flow_matching predicts the velocity; set prediction_type to v_prediction")
        if any(width % self.norm_groups for width in self.channels):
            raise ValueError(f"norm_groups {self.norm_groups} does not divide each of the channels {self.channels}")
        if self.text is None:
            return self
        if self.horizontal_flips:
            raise ValueError("horizontal_flips are of images, and a text-to-image teacher is trained on latents")
        if not self.middle_attention:
            raise ValueError("a network that reads text needs middle_attention")
        if odd := [width for width in self.text.autoencoder_channels if width % self.norm_groups]:
            raise ValueError(f"norm_groups {self.norm_groups} does not divide text.autoencoder_channels {odd[0]}")
        return self


_PAPER = Pretraining(
    image_size=32,
    channels=(128, 256, 256, 256),
    layers_per_block=2,
    norm_groups=32,
    attention_sizes=(16,),
    middle_attention=True,
    attention_head_dim=None,
    dropout=0.1,
    prediction_type="epsilon",
    steps=800_000,
    batch_size=128,
    lr=2e-4,
    lr_schedule="constant",
    warm_up_steps=5000,
    weight_decay=0,
    ema_decay=0.9999,
    label_dropout=0.1,
    horizontal_flips=True,
    stored_as="float32",
)
"""Ho, Jain & Abbeel, "Denoising Diffusion Probabilistic Models" (NeurIPS 2020), with labels: the teachers that Score
Forgetting Distillation was published with."""

PRESETS = {
    "digits": Pretraining(),
    "digits-flow": Pretraining(process="flow_matching"),
    "digits-text": Pretraining(
        channels=(32, 64),
        middle_attention=True,
        attention_head_dim=16,
        prediction_type="epsilon",
        weight_decay=0,
        ema_decay=0.998,
        label_dropout=0.1,
        text=TextPretraining(),
    ),
    "small-cifar10": Pretraining(
        image_size=32,
        channels=(32, 64, 64),
        middle_attention=True,
        attention_head_dim=32,
        lr=1e-3,
        ema_decay=0.998,
        label_dropout=0.1,
        horizontal_flips=True,
        stored_as="float32",
    ),
    "ddpm-cifar10": _PAPER,
    "ddpm-stl10": _PAPER.model_copy(update={"image_size": 64, "channels": (128, 256, 256, 256, 512)}),
}
"""Teachers of 8×8 digits and of 32×32 photographs that a laptop trains within minutes, and the published networks."""
