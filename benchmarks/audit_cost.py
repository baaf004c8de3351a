"""Cost of an audit: seconds and network passes of each attack, and what these passes take on large networks.

    python benchmarks/audit_cost.py [FOLDER] [--level full] [--large cifar10|sd15] [--space FILE] [--tflops 150]

Every attack of a level is made once, on one generator (by default `builtin:digits-distilled`, which forgets a 0), and
its samples are counted that pass through the network: without gradients, with gradients of the input alone, and with
gradients of the weights. For `cifar10` these counts are multiplied by the time of such passes through a U-Net of the
paper's size, measured in the same run on random weights, and the product is checked on one attack that is made on it.
For `sd15` they are multiplied by the floating-point operations of the U-Net and the decoder of Stable Diffusion 1.5,
counted on the "meta" device: a pass back costs as much as a pass forward for the input, and twice as much for the
weights. Judge, classifier, and text encoder are left out there. An audit has up to four subjects, and the level `full`
makes each attack with three seeds.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel, UNet2DModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sfd_sweep.audit.attacks.base import Attack, AttackContext
from sfd_sweep.audit.attacks.relearning import Relearning
from sfd_sweep.audit.building import AuditContext
from sfd_sweep.audit.images import ConditionImages
from sfd_sweep.audit.levels import SEEDS
from sfd_sweep.cli.options import override_of
from sfd_sweep.config import load_search_space
from sfd_sweep.export.folder_audit import AuditSources, audit_settings
from sfd_sweep.export.folder_evaluation import AS_DESCRIBED, folder_evaluation
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.conditioning import ClassLabels
from sfd_sweep.models.score_model import ScoreModel

MADE, SEARCHED, TRAINED = KINDS = ("made", "searched", "trained")
"""Passes without gradients, with gradients of the input alone, and with gradients of the weights."""
FORWARDS = {MADE: 1, SEARCHED: 2, TRAINED: 3}
"""What a pass costs, in forward passes."""
CIFAR10: dict[str, Any] = {
    "sample_size": 32,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "num_class_embeds": 11,
}
STABLE_DIFFUSION_15: dict[str, Any] = {
    "sample_size": 64,
    "cross_attention_dim": 768,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": 8,
}
DECODER: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}


@dataclass(frozen=True)
class Cost:
    """What an attack takes.

    Attributes:
        seconds: that it took here.
        passes: samples through the network, by kind.
        decoded: samples that were turned into images, by kind.
    """

    seconds: float
    passes: Mapping[str, int]
    decoded: Mapping[str, int]


Price = Callable[[Cost], float]
"""Seconds that an attack takes on a large network."""


@contextmanager
def counted() -> Iterator[tuple[Counter[str], Counter[str]]]:
    """Count the samples that pass through any model, and those that are decoded, by kind."""
    passes: Counter[str] = Counter()
    decoded: Counter[str] = Counter()
    forward, decode = ScoreModel.forward, ScoreModel.decode

    def counting_forward(model: ScoreModel, x_t: Tensor, t: Tensor, c: Tensor) -> Any:
        if not torch.is_grad_enabled():
            kind = MADE
        else:
            kind = TRAINED if next(model.network.parameters()).requires_grad else SEARCHED
        passes[kind] += len(x_t)
        return forward(model, x_t, t, c)

    def counting_decode(model: ScoreModel, x_0: Tensor) -> Tensor:
        decoded[SEARCHED if torch.is_grad_enabled() else MADE] += len(x_0)
        return decode(model, x_0)

    with patch.object(ScoreModel, "forward", counting_forward), patch.object(ScoreModel, "decode", counting_decode):
        yield passes, decoded


def cost_of(attack: Attack, generator: OneStepGenerator, context: AttackContext) -> Cost:
    """Make an attack with one seed."""
    with counted() as (passes, decoded):
        started = time.perf_counter()
        for _ in attack.curve(generator, context, 0):
            pass
        return Cost(time.perf_counter() - started, passes, decoded)


class Unseeing:
    """A judge that decides nothing, for networks whose images show nothing."""

    name = "none"

    def shows_forgotten(self, images: Tensor) -> Tensor:
        """Return False for each image."""
        return torch.zeros(len(images), dtype=torch.bool)

    def content_hash(self) -> str:
        """Return its name."""
        return self.name


def on_cifar10(context: AttackContext) -> Price:
    """Measure the passes of one sample through a U-Net of the paper's size, and check them on a small attack."""
    names = tuple(map(str, range(10)))
    network = UNet2DModel(**CIFAR10)
    generator = OneStepGenerator(ScoreModel(network, DDPMScheduler(), ClassLabels(names, has_null=True)), 625)
    print(f"U-Net for CIFAR-10: {sum(each.numel() for each in network.parameters()) / 1e6:.1f} million parameters")
    batch, found = 25, {}
    z, c = torch.randn(batch, 3, 32, 32, requires_grad=True), torch.zeros(batch, dtype=torch.int64)
    for kind in KINDS:
        network.requires_grad_(kind == TRAINED)
        times = []
        for _ in range(3):
            started = time.perf_counter()
            with torch.set_grad_enabled(kind != MADE):
                made = generator(z, c)
            if kind != MADE:
                torch.autograd.backward(made.mean())
            times.append(time.perf_counter() - started)
        found[kind] = min(times) / batch
    images = ConditionImages(torch.rand(batch, 3, 32, 32) * 2 - 1, c, 256)
    small = replace(context, judge=Unseeing(), forgotten_images=images, retained_images=images, samples=100)
    cost = cost_of(Relearning(images=batch, budgets=(0, 2), candidates=50), generator, small)

    def price(cost: Cost) -> float:
        return sum(number * found[kind] for kind, number in cost.passes.items())

    print("seconds for one sample: " + ", ".join(f"{kind} {each:.4f}" for kind, each in found.items()))
    print(f"two updates of relearning: {cost.seconds:.1f} s, {price(cost):.1f} s by these figures")
    return price


def on_stable_diffusion(tflops: float) -> Price:
    """Count the floating-point operations of one sample through U-Net and decoder."""
    with torch.device("meta"):
        network, decoder = UNet2DConditionModel(**STABLE_DIFFUSION_15), AutoencoderKL(**DECODER)
        latent, words = torch.randn(1, 4, 64, 64), torch.randn(1, 77, 768)
        runs = (lambda: network(latent, torch.zeros(1), words), lambda: decoder.decode(latent))
        of_network, of_decoder = map(operations, runs)
    print(f"Stable Diffusion 1.5: {of_network / 1e12:.2f} and {of_decoder / 1e12:.2f} TFLOP for U-Net and decoder")

    def price(cost: Cost) -> float:
        passes = sum(number * FORWARDS[kind] for kind, number in cost.passes.items())
        decoded = sum(number * FORWARDS[kind] for kind, number in cost.decoded.items())
        return (passes * of_network + decoded * of_decoder) / (tflops * 1e12)

    return price


@torch.no_grad()
def operations(run: Callable[[], object]) -> int:
    """Return the floating-point operations of a computation."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def run(asked: argparse.Namespace) -> None:
    """Make every attack once, and print the table."""
    folder, space = Path(asked.folder), None if asked.space is None else load_search_space(asked.space)
    settings = audit_settings(folder, AuditSources(), space)
    forget, override = ((), None) if space else ((0,), override_of(["1"]))
    evaluation = folder_evaluation(folder, forget=forget, override=override, assets=AS_DESCRIBED, space=space)
    audit = AuditContext.build(evaluation.evaluator, settings, start=evaluation.start, override=evaluation.override)
    attacks = dict.fromkeys(unit.attack for unit in audit.units(asked.level))
    costs = {attack.name: cost_of(attack, evaluation.generator, audit.attacks) for attack in attacks}
    price = on_cifar10(audit.attacks) if asked.large == "cifar10" else on_stable_diffusion(asked.tflops)
    seeds = len(SEEDS[asked.level])
    print(f"\n| attack | here | {' | '.join(KINDS)} | decoded | {asked.large} | {asked.large}, seeds: {seeds} |")
    print("|" + " --- |" * (len(KINDS) + 5))
    for name, cost in costs.items():
        counts = [f"{cost.passes.get(kind, 0):,}" for kind in KINDS] + [f"{sum(cost.decoded.values()):,}"]
        cells = [name, duration(cost.seconds), *counts, duration(price(cost)), duration(seeds * price(cost))]
        print(f"| {' | '.join(cells)} |")
    here, large = sum(cost.seconds for cost in costs.values()), sum(map(price, costs.values()))
    print(f"| all | {duration(here)} |{' |' * (len(KINDS) + 1)} {duration(large)} | {duration(seeds * large)} |")


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="builtin:digits-distilled", help="a generator's folder")
    parser.add_argument("--level", choices=sorted(SEEDS), default="full")
    parser.add_argument("--space", help="search-space file of a text-to-image generator")
    parser.add_argument("--large", choices=("cifar10", "sd15"), default="cifar10")
    parser.add_argument("--tflops", type=float, default=150, help="that a GPU keeps up, for sd15")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    run(arguments)


if __name__ == "__main__":
    main()
