"""Time and memory of an update in each precision, with and without micro-batches and checkpoints, in one run.

    python benchmarks/precision.py [--teacher FOLDER] [--device cuda] [--rounds 3] [--repeats 5]

Every round trains each way for some updates from the same start, so that a busy machine slows all of them alike. Memory
on CUDA is the most that an update allocates beyond what is there between updates; on a CPU it is the most that is kept
for backward passes, weights aside (what a checkpoint computes again within one is not counted).
"""

import argparse
import statistics
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from step import FORGET, OVERRIDE, SEED, seconds_of
from torch import Tensor

from sfd_sweep.config import Resources, Settings
from sfd_sweep.method.batch import FixedOverride, ForgettingTask
from sfd_sweep.method.trainer import Trainer
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model

MEGABYTE = 1e6


@dataclass
class Cost:
    """What was measured of one way, over all rounds."""

    seconds: list[float] = field(default_factory=list)
    memory: int = 0


class KeptForBackward(torch.autograd.graph.saved_tensors_hooks):
    """The most bytes that are kept for backward passes at a time; memory that is kept twice counts once.

    Args:
        aside: tensors whose memory does not count.
    """

    def __init__(self, aside: Iterable[Tensor]) -> None:
        super().__init__(self._keep, lambda kept: kept.tensor)
        self.peak = 0
        self._bytes = 0
        self._uses = Counter(tensor.untyped_storage().data_ptr() for tensor in aside)

    def _keep(self, tensor: Tensor) -> "_Kept":
        kept = _Kept(tensor)
        storage = tensor.untyped_storage()
        self._use(storage.data_ptr(), storage.nbytes(), 1)
        weakref.finalize(kept, self._use, storage.data_ptr(), storage.nbytes(), -1)
        return kept

    def _use(self, address: int, size: int, more: int) -> None:
        was_used = self._uses[address] > 0
        self._uses[address] += more
        self._bytes += size * ((self._uses[address] > 0) - was_used)
        self.peak = max(self.peak, self._bytes)


@dataclass(frozen=True)
class _Kept:
    """Something that a weak reference can watch, which a tensor that autograd holds cannot."""

    tensor: Tensor


def memory_of(trainer: Trainer, device: torch.device) -> int:
    """The bytes that one update needs for a while."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        trainer.update()
        return int(torch.cuda.max_memory_allocated(device)) - int(before)
    networks = (trainer.teacher, trainer.fake_score, trainer.generator.model)
    kept = KeptForBackward(parameter for network in networks for parameter in network.parameters())
    with kept:
        trainer.update()
    return kept.peak


def measure(
    ways: dict[str, Resources],
    trainer: Callable[[Resources], Trainer],
    device: torch.device,
    *,
    rounds: int,
    repeats: int,
) -> dict[str, Cost]:
    """What each way costs; `trainer` makes a fresh one, and only one is in memory at a time."""
    costs = {name: Cost() for name in ways}
    for _ in range(rounds):
        for name, resources in ways.items():
            one, cost = trainer(resources), costs[name]
            one.update()  # the first allocates
            cost.memory = max(cost.memory, memory_of(one, device))
            cost.seconds += [seconds_of(one.update, device) for _ in range(repeats)]
    return costs


def ways_of(device: torch.device, micro_batch_size: int) -> dict[str, Resources]:
    """What is compared, by name; the first is what the others are compared with."""
    ways = {"float32": Resources()}
    if device.type == "cuda":
        ways["tf32"] = Resources(precision="tf32", gpus_per_worker=1)
    ways["bfloat16"] = Resources(precision="bfloat16")
    checkpoints: dict[str, object] = {"activation_checkpointing": True}
    micro_batches: dict[str, object] = {"micro_batch_size": micro_batch_size}
    savings = {
        "checkpoints": checkpoints,
        f"micro-batches of {micro_batch_size}": micro_batches,
        "both": checkpoints | micro_batches,
    }
    combined = dict(ways)
    for name, resources in ways.items():
        for what, saving in savings.items():
            combined[f"{name}, {what}"] = resources.model_copy(update=saving)
    return combined


def main() -> None:
    """Measure, and print what each way costs in terms of the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="builtin:digits", help="a diffusers folder")
    parser.add_argument("--batch-size", type=int, default=32, help="retained conditions an update")
    parser.add_argument("--forget-batch-size", type=int, default=16, help="forgotten conditions an update")
    parser.add_argument("--micro-batch-size", type=int, default=12, help="samples at a time, where they are limited")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5, help="updates of each way in a round")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = ModelFolder.open(arguments.teacher)
    teacher = load_score_model(folder, arguments.device)
    retained = tuple(index for index in range(len(folder.class_names)) if index != FORGET)
    task = ForgettingTask(retained, (FORGET,), FixedOverride({FORGET: OVERRIDE}))
    settings = Settings(
        generator_lr=1e-5, batch_size=arguments.batch_size, forget_batch_size=arguments.forget_batch_size
    )

    def trainer(resources: Resources) -> Trainer:
        phi = teacher.copy()  # a trainer may switch checkpoints on in it
        return Trainer(phi, phi, task, settings, class_names=folder.class_names, seed=SEED, resources=resources)

    ways = ways_of(arguments.device, arguments.micro_batch_size)
    costs = measure(ways, trainer, arguments.device, rounds=arguments.rounds, repeats=arguments.repeats)
    first = next(iter(costs.values()))
    print(f"{'':<34}{'ms an update':>12}{'MB of memory':>20}")
    for name, cost in costs.items():
        seconds, least = statistics.median(cost.seconds), statistics.median(first.seconds)
        time = f"{1000 * seconds:12.1f}{seconds / least:6.2f}×"
        print(f"{name:<34}{time}{cost.memory / MEGABYTE:13.1f}{cost.memory / first.memory:6.2f}×")


if __name__ == "__main__":
    main()
