"""The hyperparameters of one trial."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

Override = int | str | tuple[int | str, ...]

_NEEDS_NULL_CONDITION = Field(json_schema_extra={"needs_null_condition": True})
"""Marks a field that needs a teacher with a null condition, unless it has its default value."""


class Settings(BaseModel):
    """Hyperparameters of Score Forgetting Distillation.

    A search-space file fixes or searches each field. The defaults are those of the public release for CIFAR-10 (Chen,
    Zhang & Zhou, "Score Forgetting Distillation", ICLR 2025). A guidance scale is w in x̂ = x̂(∅) + w·(x̂(c) - x̂(∅)):
    1 is no guidance, and any other value costs a second forward pass.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    generator_lr: PositiveFloat = 1e-5
    """Learning rate of the generator θ."""
    fake_score_lr_ratio: PositiveFloat = 1.0
    """Learning rate of the fake score ψ, relative to the generator's."""
    retain_weight: NonNegativeFloat = 1.0
    """Weight λ_r of retained conditions in both losses."""
    forget_weight: NonNegativeFloat = 0.01
    """Weight λ_f of forgotten conditions in the generator's loss."""
    fake_score_forget_weight: NonNegativeFloat = 0.01
    """Weight μ_f of forgotten conditions in the fake score's loss."""
    override: Override = "random"
    """What replaces the forgotten condition. For classes: a class (index or name), a list with one class for each
    forgotten class, `random` (a retained class for each sample), or `classifier` (the most likely retained class
    according to `task.override_classifier`). For a concept: words that replace it in each prompt, or `random`."""
    negative_prompt: str | None = None
    """Prompt that the teacher's guidance points away from under forgotten prompts; null: the empty prompt."""
    fake_score_negative_prompt: bool = False
    """Whether guidance of the fake score ψ points away from the negative prompt too, in both losses, as in the example
    for nudity of the release."""
    guidance_scale: Annotated[NonNegativeFloat, _NEEDS_NULL_CONDITION] = 1.0
    """Guidance κ4 of the teacher φ in the generator's loss; 1 is no guidance."""
    fake_score_guidance_scale: Annotated[NonNegativeFloat, _NEEDS_NULL_CONDITION] = 1.0
    """Guidance κ2 = κ3 of the fake score ψ in the generator's loss; 1 is no guidance."""
    fake_score_training_guidance_scale: Annotated[NonNegativeFloat, _NEEDS_NULL_CONDITION] = 1.0
    """Guidance κ1 of the fake score ψ in its own loss; 1 is no guidance."""
    condition_dropout: Annotated[float, _NEEDS_NULL_CONDITION] = Field(0.0, ge=0, lt=1)
    """Share of samples whose condition is dropped while ψ is trained. Guidance of ψ needs it; 0.1 is usual for
    prompts."""
    drop_before_generating: bool = False
    """Whether a dropped condition is dropped before ψ's sample is generated: ψ then learns the null condition ∅ on
    G(z, ∅), as in the release, and otherwise on G(z, c)."""
    shared_conditions: bool = False
    """Whether both updates of a step have the same conditions, as in the release for images; otherwise each draws its
    own."""
    alpha: float = 1.2
    """Weight α of the score difference in the generator's loss (SiD)."""
    loss: Literal["score_identity", "diff_instruct"] = "score_identity"
    """Generator's loss: `score_identity` (SiD) differentiates through φ and ψ, `diff_instruct` does not."""
    fake_score_loss: Literal["epsilon", "velocity"] = "epsilon"
    """Error that ψ minimizes: that of the predicted noise ε, or of the predicted velocity v."""
    batch_size: PositiveInt = 128
    """Retained conditions in an update, over all workers."""
    forget_batch_size: NonNegativeInt = 128
    """Forgotten conditions in an update, over all workers."""
    t_min: NonNegativeInt = 38
    """Lowest diffusion step of both losses."""
    t_init: PositiveInt = 440
    """Diffusion step at which the one-step generator starts: it denoises noise of that level in one pass."""
    t_max: PositiveInt = 712
    """Exclusive upper bound of the diffusion steps of both losses."""
    beta1: float = Field(0.0, ge=0, lt=1)
    """β1 of Adam."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """β2 of Adam."""
    adam_epsilon: PositiveFloat = 1e-8
    """ε of Adam's denominator; the release has 1e-6 for its text models in half precision."""
    gradient_clip: PositiveFloat = 1.0
    """Largest absolute value of a gradient component."""
    ema_decay: float = Field(0.9999, ge=0, lt=1)
    """Decay of the moving average of θ, which is evaluated and exported."""
    ema_warmup: bool = True
    """Whether the decay rises with the step k as (1 + k)/(10 + k) up to `ema_decay`, so that the start does not
    dominate the average of a short run. It then reaches 0.9999 after 89,990 steps. Without warm-up the decay is
    constant, as in the release."""
    network_dropout: bool = False
    """Whether the dropout of θ and ψ is active while each is trained, at the rate of the teacher's network, as in the
    release; masks then depend on the numbers of workers and micro-batches."""
    lora_rank: NonNegativeInt = 0
    """Rank of the LoRA adapters (Hu et al., 2021) that are trained instead of the weights of θ and ψ; 0 trains all
    weights. Adapters are in the attention layers or, in a network without attention, in all layers."""

    @model_validator(mode="after")
    def _diffusion_steps_are_ordered(self) -> "Settings":
        if self.t_min >= self.t_max:
            raise ValueError(f"t_min ({self.t_min}) must be below t_max ({self.t_max})")
        return self

    @classmethod
    def needing_null_condition(cls) -> Iterator[tuple[str, float]]:
        """Yield each field that needs a null condition, with the neutral value that does not."""
        for name, field in cls.model_fields.items():
            if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("needs_null_condition"):
                yield name, field.default
