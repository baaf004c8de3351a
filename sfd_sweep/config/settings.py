"""The hyperparameters of one trial."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

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

from sfd_sweep.config.methods import METHODS, Method

Override = int | str | tuple[int | str, ...]


def _of(*methods: Method, needs_null_condition: bool = False) -> Any:
    """Mark a field as a setting of some methods alone; a field without a mark is one of all methods.

    Args:
        methods: that read the field.
        needs_null_condition: whether it needs a teacher with a null condition, unless it has its default value.
    """
    return Field(json_schema_extra={"methods": list(methods), "needs_null_condition": needs_null_condition})


_SFD = _of("sfd")
_DISTILLATION = _of("sfd", "finetune")
_GUIDED_DISTILLATION = _of("sfd", "finetune", needs_null_condition=True)


class Settings(BaseModel):
    """Hyperparameters of Score Forgetting Distillation, and of the methods that it is compared with.

    A search-space file fixes or searches each field. Some are settings of some methods alone. The defaults of those of
    Score Forgetting Distillation are those of its public release for CIFAR-10 (Chen, Zhang & Zhou, "Score Forgetting
    Distillation", ICLR 2025). A guidance scale is w in x̂ = x̂(∅) + w·(x̂(c) - x̂(∅)): 1 is no guidance, and any other
    value costs a second forward pass.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    method: Method = "sfd"
    """Method of unlearning: `sfd` (Score Forgetting Distillation), `finetune` (distillation of retained conditions
    alone), `ascent` (gradient ascent), `esd` (Erased Stable Diffusion), `sa` (Selective Amnesia), `salun` (Saliency
    Unlearning), `uce` (Unified Concept Editing, for concepts), or `swap` (a label's embedding is replaced, for
    classes)."""
    generator_lr: PositiveFloat = 1e-5
    """Learning rate of the generator θ."""
    fake_score_lr_ratio: Annotated[PositiveFloat, _DISTILLATION] = 1.0
    """Learning rate of the fake score ψ, relative to the generator's."""
    retain_weight: NonNegativeFloat = 1.0
    """Weight λ_r of retained conditions in all losses."""
    forget_weight: NonNegativeFloat = 0.01
    """Weight λ_f of forgotten conditions in the generator's loss. `finetune` has none, and `swap` forgets without."""
    fake_score_forget_weight: Annotated[NonNegativeFloat, _SFD] = 0.01
    """Weight μ_f of forgotten conditions in the fake score's loss."""
    override: Override = "random"
    """What replaces the forgotten condition. For classes: a class (index or name), a list with one class for each
    forgotten class, `random` (a retained class for each sample), or `classifier` (the most likely retained class
    according to `task.override_classifier`). For a concept: words that replace it in each prompt, or `random`."""
    negative_prompt: Annotated[str | None, _SFD] = None
    """Prompt that the teacher's guidance points away from under forgotten prompts; null: the empty prompt."""
    fake_score_negative_prompt: Annotated[bool, _SFD] = False
    """Whether guidance of the fake score ψ points away from the negative prompt too, in both losses, as in the example
    for nudity of the release."""
    guidance_scale: Annotated[NonNegativeFloat, _GUIDED_DISTILLATION] = 1.0
    """Guidance κ4 of the teacher φ in the generator's loss; 1 is no guidance."""
    fake_score_guidance_scale: Annotated[NonNegativeFloat, _GUIDED_DISTILLATION] = 1.0
    """Guidance κ2 = κ3 of the fake score ψ in the generator's loss; 1 is no guidance."""
    fake_score_training_guidance_scale: Annotated[NonNegativeFloat, _GUIDED_DISTILLATION] = 1.0
    """Guidance κ1 of the fake score ψ in its own loss; 1 is no guidance."""
    condition_dropout: Annotated[float, _GUIDED_DISTILLATION] = Field(0.0, ge=0, lt=1)
    """Share of samples whose condition is dropped while ψ is trained. Guidance of ψ needs it; 0.1 is usual for
    prompts."""
    drop_before_generating: Annotated[bool, _DISTILLATION] = False
    """Whether a dropped condition is dropped before ψ's sample is generated: ψ then learns the null condition ∅ on
    G(z, ∅), as in the release, and otherwise on G(z, c)."""
    shared_conditions: Annotated[bool, _DISTILLATION] = False
    """Whether both updates of a step have the same conditions, as in the release for images; otherwise each draws its
    own."""
    alpha: Annotated[float, _DISTILLATION] = 1.2
    """Weight α of the score difference in the generator's loss (SiD)."""
    loss: Annotated[Literal["score_identity", "diff_instruct"], _DISTILLATION] = "score_identity"
    """Generator's loss: `score_identity` (SiD) differentiates through φ and ψ, `diff_instruct` does not."""
    fake_score_loss: Annotated[Literal["epsilon", "velocity"], _DISTILLATION] = "epsilon"
    """Error that ψ minimizes: that of the predicted noise ε, or of the predicted velocity v."""
    batch_size: PositiveInt = 128
    """Retained conditions in an update, over all workers."""
    forget_batch_size: NonNegativeInt = 128
    """Forgotten conditions in an update, over all workers."""
    t_min: NonNegativeInt = 38
    """Lowest diffusion step of the losses of a distillation."""
    t_init: PositiveInt = 440
    """Diffusion step at which the one-step generator starts: it denoises noise of that level in one pass."""
    t_max: PositiveInt = 712
    """Exclusive upper bound of the diffusion steps of the losses of a distillation."""
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
    negative_guidance_scale: Annotated[NonNegativeFloat, _of("esd")] = 1.0
    """Scale η with which ESD leads the generator away from the forgotten condition; the paper has 1 to 3."""
    fisher_weight: Annotated[NonNegativeFloat, _of("sa")] = 10.0
    """Weight λ of Selective Amnesia's penalty on changes of weights, by their Fisher information."""
    fisher_samples: Annotated[PositiveInt, _of("sa")] = 500
    """Samples of each condition from which Selective Amnesia estimates the Fisher information."""
    salient_share: Annotated[float, _of("salun")] = Field(0.5, gt=0, le=1)
    """Share of the weights that Saliency Unlearning trains: those with the largest gradients of the forgetting loss."""
    teacher_samples: Annotated[PositiveInt, _of("ascent", "salun")] = 500
    """Samples of the teacher under each forgotten condition: what `ascent` leads away from, and what `salun` finds the
    salient weights with."""
    edit_regularization: Annotated[PositiveFloat, _of("uce")] = 0.5
    """Weight λ with which UCE holds the projections near to the original ones."""

    @model_validator(mode="after")
    def _diffusion_steps_are_ordered(self) -> "Settings":
        if self.t_min >= self.t_max:
            raise ValueError(f"t_min ({self.t_min}) must be below t_max ({self.t_max})")
        return self

    @classmethod
    def methods_of(cls, name: str) -> tuple[Method, ...]:
        """Return the methods that read a field."""
        extra = cls.model_fields[name].json_schema_extra
        return tuple(extra["methods"]) if isinstance(extra, dict) else tuple(METHODS)  # type: ignore[arg-type]

    def of_method(self) -> dict[str, Any]:
        """Return the settings that the method reads, by name."""
        source = METHODS[self.method]
        common = set(source.reads) if not source.is_trained else {name for name, _ in self}
        owned = {name for name, _ in self if self.methods_of(name) != tuple(METHODS)}
        return {
            name: value for name, value in self if self.method in self.methods_of(name) and name in (common | owned)
        }

    @classmethod
    def needing_null_condition(cls) -> Iterator[tuple[str, float]]:
        """Yield each field that needs a null condition, with the neutral value that does not."""
        for name, field in cls.model_fields.items():
            if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("needs_null_condition"):
                yield name, field.default
