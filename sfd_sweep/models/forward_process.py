"""Forward processes: how noise is mixed into a sample, as diffusers' schedulers describe it in a model folder.

Folders are described without torch, so this module imports torch and diffusers only inside of functions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

    from sfd_sweep.models.diffusion import NoiseSchedule

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "laplace", "sigmoid")  # that DDPMScheduler knows
GRID = "trailing"
"""Spacing of DDIM's steps: with `linspace`, it would move to one noise level and tell the network another (Lin et al.,
"Common Diffusion Noise Schedules and Sample Steps are Flawed", WACV 2024)."""
NOISE_TO_SIGNAL = {"t_min": 0.137, "t_init": 2.5, "t_max": 13.1}
"""b_t/a_t at the steps of the public release of Score Forgetting Distillation, which are nearly the same in label-
conditional models (t = 38, 440, 712) and in Stable Diffusion (20, 625, 980)."""

Config = Mapping[str, Any]


class ForwardProcess(ABC):
    """A kind of forward process. `config` is that of a scheduler.

    Attributes:
        scheduler_class: class of diffusers that describes the process in a folder.
        steps_in_words: what the steps of its schedule are called.
        sampler: the deterministic sampler of a model of many steps.
    """

    scheduler_class: ClassVar[str]
    steps_in_words: ClassVar[str]
    sampler: ClassVar[str]

    @abstractmethod
    def check(self, where: Path, config: Config) -> None:
        """Check the description in a folder.

        Raises:
            UserError: no schedule can be made of it.
        """

    @abstractmethod
    def prediction_type(self, config: Config) -> str:
        """Return what the network predicts, in diffusers' words."""

    def usual_steps(self, config: Config) -> dict[str, int] | None:  # noqa: ARG002
        """Return `t_min`, `t_init` and `t_max` with the noise that training usually has; None: their usual values."""
        return None

    @abstractmethod
    def load_scheduler(self, config: Config) -> Any:
        """Return diffusers' scheduler, without options that concern sampling in many steps alone."""

    @abstractmethod
    def schedule(self, scheduler: Any) -> NoiseSchedule:
        """Return the scheduler's table."""

    @abstractmethod
    def many_steps(self, scheduler: Any, *, steps: int, clip: bool) -> Any:
        """Return the deterministic sampler of so many steps.

        Args:
            scheduler: of the model.
            steps: forwards of the network.
            clip: whether every x̂_0 is brought to [-1, 1], where the sampler can.
        """


class VariancePreserving(ForwardProcess):
    """x_t = a_t·x_0 + b_t·ε with a² + b² = 1, from betas, as in DDPM."""

    scheduler_class = "DDPMScheduler"
    steps_in_words = "diffusion steps"
    sampler = "DDIM"

    def check(self, where: Path, config: Config) -> None:
        kind, betas = self.prediction_type(config), config.get("beta_schedule")
        if kind not in PREDICTION_TYPES:
            raise UserError(f"{where}: prediction_type {kind!r} is none of {', '.join(PREDICTION_TYPES)}")
        if betas not in BETA_SCHEDULES:
            raise UserError(
                f"{where}: {config.get('_class_name')} has beta_schedule {betas!r}; a model must have been "
                f"trained with one of {', '.join(BETA_SCHEDULES)}, or by flow matching "
                f"({FlowMatching.scheduler_class})"
            )

    def prediction_type(self, config: Config) -> str:
        return str(config.get("prediction_type", "epsilon"))

    def load_scheduler(self, config: Config) -> DDPMScheduler:
        from diffusers import DDPMScheduler

        # A one-step generator's output is used as it is: clipping belongs to samplers of many steps, and so does a
        # variance that the network has learned.
        return DDPMScheduler.from_config(dict(config), clip_sample=False, variance_type="fixed_small")

    def schedule(self, scheduler: DDPMScheduler) -> NoiseSchedule:
        from sfd_sweep.models.diffusion import NoiseSchedule

        return NoiseSchedule.variance_preserving(scheduler.alphas_cumprod)

    def many_steps(self, scheduler: DDPMScheduler, *, steps: int, clip: bool) -> DDIMScheduler:
        from diffusers import DDIMScheduler

        sampler = DDIMScheduler.from_config(scheduler.config, clip_sample=clip, timestep_spacing=GRID)
        sampler.set_timesteps(steps)
        return sampler


class FlowMatching(ForwardProcess):
    """x_t = (1 - σ_t)·x_0 + σ_t·ε, and v = ε - x_0 (Lipman et al., "Flow Matching for Generative Modeling", ICLR 2023).

    Step t has the noise level σ = s·u/(1 + (s - 1)·u) for u = (t + 1)/T and a shift s, and the network is told σ·T,
    as by `FlowMatchEulerDiscreteScheduler` (Esser et al., "Scaling Rectified Flow Transformers", ICML 2024).
    """

    scheduler_class = "FlowMatchEulerDiscreteScheduler"
    steps_in_words = "steps of flow matching"
    sampler = "Euler"

    def check(self, where: Path, config: Config) -> None:
        steps, shift = config.get("num_train_timesteps", 1000), config.get("shift", 1.0)
        if type(steps) is not int or steps < 1:
            raise UserError(f"{where}: num_train_timesteps must be a whole number above 0, not {steps!r}")
        if type(shift) not in (int, float) or not shift > 0:
            raise UserError(f"{where}: shift must be a number above 0, not {shift!r}")
        for name in ("use_dynamic_shifting", "invert_sigmas", "shift_terminal"):
            if config.get(name):
                raise UserError(
                    f"{where}: {self.scheduler_class} has {name} {config[name]}, so a step has no fixed noise level; "
                    "give the shift that the model was trained with, as a number"
                )

    def prediction_type(self, config: Config) -> str:  # noqa: ARG002
        return "v_prediction"

    def usual_steps(self, config: Config) -> dict[str, int]:
        steps, shift = config.get("num_train_timesteps", 1000), config.get("shift", 1.0)
        levels = {name: ratio / (1 + ratio) for name, ratio in NOISE_TO_SIGNAL.items()}  # σ, from σ/(1 - σ)
        unshifted = {name: level / (shift - (shift - 1) * level) for name, level in levels.items()}
        return {name: max(0, round(u * steps) - 1) for name, u in unshifted.items()}

    def load_scheduler(self, config: Config) -> FlowMatchEulerDiscreteScheduler:
        from diffusers import FlowMatchEulerDiscreteScheduler

        names = ("num_train_timesteps", "shift")
        return FlowMatchEulerDiscreteScheduler(**{name: config[name] for name in names if name in config})

    def schedule(self, scheduler: FlowMatchEulerDiscreteScheduler) -> NoiseSchedule:
        from sfd_sweep.models.diffusion import NoiseSchedule

        return NoiseSchedule.flow_matching(scheduler.sigmas.flip(0), scheduler.timesteps.flip(0))

    def many_steps(
        self,
        scheduler: FlowMatchEulerDiscreteScheduler,
        *,
        steps: int,
        clip: bool,  # noqa: ARG002
    ) -> FlowMatchEulerDiscreteScheduler:
        from diffusers import FlowMatchEulerDiscreteScheduler

        sampler = FlowMatchEulerDiscreteScheduler.from_config(scheduler.config)
        # By default, the last of the steps would be from T⁻¹ to 0, and two steps hardly more than one.
        sampler.set_timesteps(sigmas=[1 - done / steps for done in range(steps)])
        return sampler


VARIANCE_PRESERVING, FLOW_MATCHING = VariancePreserving(), FlowMatching()


def process_of(scheduler_class: str | None) -> ForwardProcess:
    """Return the process that a scheduler of this class describes."""
    return FLOW_MATCHING if scheduler_class == FlowMatching.scheduler_class else VARIANCE_PRESERVING
