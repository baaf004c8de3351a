"""Memory of training all weights, compared with training adapters, in one run.

    python benchmarks/lora.py [--rank 16]

The first table measures trainers on a small text-to-image U-Net after one update: the bytes of their tensors, where
a tensor that networks share counts once, and the memory that an update keeps for its backward passes (as in
benchmarks/precision.py). The second table computes the same for the U-Net of Stable Diffusion 1.5, with tensors on
the "meta" device; the computation is checked on the small network. It leaves out activations, 16-bit casts of
weights, the autoencoder, and the text encoder. During evaluation, adapters need one more set of weights, with the
adapters merged.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from precision import memory_of
from torch import Tensor

from sfd_sweep.config import Resources, Settings
from sfd_sweep.method.batch import FixedOverride, ForgettingTask
from sfd_sweep.method.trainable_model import TrainableModel
from sfd_sweep.method.trainer import Trainer
from sfd_sweep.models.families.stable_diffusion import Prompts, TextEncoder
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.models.training_state import below

STABLE_DIFFUSION_15: dict[str, Any] = {
    "sample_size": 64,
    "cross_attention_dim": 768,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "attention_head_dim": 8,
}
"""The public configuration of the U-Net; other values are the defaults of diffusers."""
PARAMETERS = 859_520_964
SMALL: dict[str, Any] = {
    "sample_size": 8,
    "cross_attention_dim": 64,
    "block_out_channels": [64, 128],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": 8,
}
PROMPTS, TOKENS = ("a zero", "a one", "a two"), 8
TASK = ForgettingTask((1, 2), (0,), FixedOverride({0: 1}))


@dataclass(frozen=True)
class Memory:
    """Bytes that persist between updates.

    Attributes:
        weights: of the teacher, the fake score, and the generator.
        averages: moving average of the generator.
        gradients: of the fake score and the generator.
        moments: of both optimizers.
    """

    weights: int
    averages: int
    gradients: int
    moments: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.weights + self.averages + self.gradients + self.moments


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the tensors; a repeated tensor counts once."""
    return sum(tensor.nbytes for tensor in {id(each): each for each in tensors}.values())


def weights_of(*models: ScoreModel) -> int:
    """Return the bytes of the weights of several models."""
    return bytes_of(parameter for model in models for parameter in model.parameters())


def measured(trainer: Trainer) -> Memory:
    """Return the memory of a trainer after an update."""
    models, state = (trainer.teacher, trainer.fake_score, trainer.generator.model), trainer.state()
    trained = [parameter for model in models for parameter in model.parameters() if parameter.grad is not None]
    moments = {
        **below("generator_optimizer", state),
        **{f"ψ{k}": v for k, v in below("fake_score_optimizer", state).items()},
    }
    return Memory(
        weights=weights_of(*models),
        averages=bytes_of(below("average", state).values()),
        gradients=bytes_of(parameter.grad for parameter in trained if parameter.grad is not None),
        moments=bytes_of(moment for name, moment in moments.items() if not name.endswith("step")),
    )


def computed(teacher: ScoreModel, rank: int) -> Memory:
    """Compute the memory of a trainer: a gradient and two moments of Adam for each trained parameter."""
    fake_score, generator = (TrainableModel.of(teacher, rank) for _ in range(2))
    trained = [*fake_score.parameters.values(), *generator.parameters.values()]
    return Memory(
        weights=weights_of(teacher, fake_score.model, generator.model),
        averages=bytes_of(generator.copy().parameters.values()),
        gradients=bytes_of(trained),
        moments=2 * bytes_of(trained),
    )


def text_model(config: dict[str, Any], device: str) -> ScoreModel:
    """Return a random network with random prompts."""
    with torch.device(device):
        network = UNet2DConditionModel(**config)
        embeddings = torch.randn(len(PROMPTS) + 1, TOKENS, config["cross_attention_dim"])
    prompts = Prompts(cast(TextEncoder, None), PROMPTS, embeddings)  # the prompts are embedded already
    return ScoreModel(network, DDPMScheduler(), prompts)


def trainer_of(rank: int, resources: Resources) -> Trainer:
    """Return a trainer on the small network."""
    teacher = text_model(SMALL, "cpu")
    settings = Settings(lora_rank=rank, batch_size=8, forget_batch_size=4)
    return Trainer(teacher, teacher, TASK, settings, seed=0, resources=resources)


def print_memory(title: str, whole: Memory, adapted: Memory) -> None:
    """Print both and their ratios."""
    print(f"{title:<46}{'all weights':>16}{'adapters':>16}")
    for name in ("weights", "averages", "gradients", "moments", "total"):
        one, other = getattr(whole, name), getattr(adapted, name)
        print(f"  {name:<44}{one / 1e6:13,.2f} MB{other / 1e6:13,.2f} MB{other / one:8.4f}×")


def print_activations(rank: int) -> None:
    """Print what an update on the small network keeps for its backward passes; float16 takes as much as bfloat16."""
    savings: dict[str, object] = {"activation_checkpointing": True, "micro_batch_size": 4}
    ways = {"float32": Resources(), "bfloat16": Resources(precision="bfloat16")}
    ways |= {f"{name}, checkpoints, micro-batches of 4": each.model_copy(update=savings) for name, each in ways.items()}
    print(f"{'kept for backward passes, the small network':<46}{'all weights':>16}{'adapters':>16}")
    for name, resources in ways.items():
        kept = []
        for each in (0, rank):
            one = trainer_of(each, resources)
            one.update()
            kept.append(memory_of(one, torch.device("cpu")))
        print(f"  {name:<44}{kept[0] / 1e6:13,.2f} MB{kept[1] / 1e6:13,.2f} MB{kept[1] / kept[0]:8.4f}×")


def main() -> None:
    """Measure the small network, check the computation on it, and compute the large network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = []
    for rank in (0, arguments.rank):
        one = trainer_of(rank, Resources())
        one.update()
        found.append(measured(one))
        assert found[-1] == computed(text_model(SMALL, "meta"), rank)
    print_memory("trainer of a small U-Net, measured", *found)
    print_activations(arguments.rank)
    teacher = text_model(STABLE_DIFFUSION_15, "meta")
    assert sum(parameter.numel() for parameter in teacher.parameters()) == PARAMETERS
    whole, adapted = (computed(teacher, rank) for rank in (0, arguments.rank))
    print_memory("U-Net of Stable Diffusion 1.5, computed", whole, adapted)
    print(f"  {'in addition during evaluation':<44}{0:13,.2f} MB{PARAMETERS * 4 / 1e6:13,.2f} MB")


if __name__ == "__main__":
    main()
