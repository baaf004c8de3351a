"""The settings of one trial: everything a distillation run depends on besides its teacher and its seed."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Override = int | str | tuple[int | str, ...]


class Settings(BaseModel):
    """Hyperparameters of Score Forgetting Distillation.

    Each field may be fixed or searched in a search-space file. The defaults are those of the public release for
    CIFAR-10 (Chen, Zhang & Zhou, "Score Forgetting Distillation", ICLR 2025). Guidance scales are w in
    x̂ = x̂(∅) + w·(x̂(c) - x̂(∅)): 1 is no guidance, and any other costs a second forward.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    generator_lr: float = Field(1e-5, gt=0, description="learning rate of the generator θ")
    fake_score_lr_ratio: float = Field(1.0, gt=0, description="learning rate of the fake score ψ over the generator's")
    retain_weight: float = Field(1.0, ge=0, description="λ_r: weight of the retained conditions in both losses")
    forget_weight: float = Field(
        0.01, ge=0, description="λ_f: weight of the forgotten condition in the generator's loss"
    )
    fake_score_forget_weight: float = Field(
        0.01, ge=0, description="μ_f: weight of the forgotten condition in the fake score's loss"
    )
    override: Override = Field(
        "random",
        description="what replaces the forgotten: a class (index or name), a list with one for each forgotten class, "
        "`random` (a retained class for each sample) or `classifier` (the likeliest retained class); of a concept: "
        "the words that take its place in each prompt, or `random`",
    )
    negative_prompt: str | None = Field(
        None,
        description="what guidance of the teacher leads away from under forgotten prompts, in place of the empty "
        "prompt; null: nothing else",
    )
    guidance_scale: float = Field(
        1.0, ge=0, description="κ4: guidance of the teacher φ in the generator's loss; 1 is none"
    )
    fake_score_guidance_scale: float = Field(
        1.0, ge=0, description="κ2 = κ3: guidance of the fake score ψ in the generator's loss"
    )
    fake_score_training_guidance_scale: float = Field(
        1.0, ge=0, description="κ1: guidance of the fake score ψ while it is trained"
    )
    condition_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of samples whose condition ψ is not told while it is trained, as its guidance needs; 0.1 is "
        "usual with prompts",
    )
    alpha: float = Field(1.2, description="α: how far the generator's loss is corrected by the score difference (SiD)")
    loss: Literal["score_identity", "diff_instruct"] = Field(
        "score_identity", description="generator's loss: with the gradient through φ and ψ, or Diff-Instruct's without"
    )
    fake_score_loss: Literal["epsilon", "velocity"] = Field(
        "epsilon", description="denoising error of ψ that is squared: of the noise ε or of the velocity v"
    )
    batch_size: int = Field(128, gt=0, description="retained conditions an update, over all workers")
    forget_batch_size: int = Field(128, ge=0, description="forgotten conditions an update, over all workers")
    t_min: int = Field(38, ge=0, description="least diffusion step of both losses")
    t_init: int = Field(440, ge=1, description="diffusion step at which the generator is evaluated")
    t_max: int = Field(712, ge=1, description="diffusion step that both losses stay below")
    beta1: float = Field(0.0, ge=0, lt=1, description="Adam's β1")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam's β2")
    gradient_clip: float = Field(1.0, gt=0, description="largest absolute value of a gradient's component")
    ema_decay: float = Field(0.9999, ge=0, lt=1, description="decay of the moving average of θ that is judged and kept")

    lora_rank: int = Field(
        0,
        ge=0,
        description="rank of the adapters that are trained in place of the weights of θ and ψ (LoRA, Hu et al., 2021), "
        "in attention, or throughout a network that has none; 0 trains all weights",
    )

    @model_validator(mode="after")
    def _diffusion_steps_are_ordered(self) -> "Settings":
        if self.t_min >= self.t_max:
            raise ValueError(f"t_min ({self.t_min}) must be below t_max ({self.t_max})")
        return self
