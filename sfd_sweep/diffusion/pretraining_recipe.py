"""How teachers are pretrained: the recipe, and the ones that have names. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Pretraining(BaseModel):
    """A teacher's network and its training. The defaults are the preset `digits`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    prediction_type: Literal["epsilon", "v_prediction"] = Field(
        "v_prediction", description="what the network puts out, and whose plain squared error is the loss"
    )
    steps: Count = Field(3000, description="optimiser steps")
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
    horizontal_flips: bool = Field(False, description="whether every second image is seen mirrored")
    stored_as: Literal["float16", "float32"] = Field("float16", description="the teacher's weights on disk")
    seed: int = Field(0, ge=0, description="of weights and of every draw")

    @model_validator(mode="after")
    def _one_cycle_warms_up_by_itself(self) -> Pretraining:
        if self.warm_up_steps and self.lr_schedule != "constant":
            raise ValueError("warm_up_steps go with lr_schedule constant; one_cycle has its own warm-up")
        return self

    @model_validator(mode="after")
    def _groups_fit(self) -> Pretraining:
        if any(width % self.norm_groups for width in self.channels):
            raise ValueError(f"norm_groups {self.norm_groups} does not divide each of the channels {self.channels}")
        return self

    def with_changes(self, changes: Mapping[str, Any]) -> Pretraining:
        """Another recipe, with some fields changed; plain data, as in JSON.

        Raises:
            pydantic.ValidationError: there is no such field, or it cannot have the value.
        """
        # By way of JSON, because only there strictness still lets lists be tuples.
        return self.model_validate_json(json.dumps(self.model_dump() | dict(changes)), strict=True)


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
    "small-cifar10": Pretraining(
        image_size=32,
        channels=(32, 64, 64),
        norm_groups=8,
        middle_attention=True,
        attention_head_dim=32,
        steps=3000,
        lr=1e-3,
        ema_decay=0.998,
        label_dropout=0.1,
        horizontal_flips=True,
        stored_as="float32",
    ),
    "ddpm-cifar10": _PAPER,
    "ddpm-stl10": _PAPER.with_changes({"image_size": 64, "channels": (128, 256, 256, 256, 512)}),
}
"""By name: what trains within a minute on 8×8 digits and within minutes on 32×32 photographs, on a laptop; and the
published networks, for GPUs."""
