"""Time and memory of an update in each precision, with and without micro-batches and activation checkpoints, in one
run.

    python benchmarks/precision.py [--teacher FOLDER] [--device cuda] [--rounds 3] [--repeats 5]

Each round trains every configuration for some updates from the same start, so that other load on the machine slows
all of them alike. On CUDA, memory is the peak that an update allocates beyond what persists between updates. On a
CPU, it is the peak of what is kept for backward passes, without weights and without what a checkpoint recomputes.
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
    """Measurements of one configuration over all rounds."""

    seconds: list[float] = field(default_factory=list)
    memory: int = 0


class KeptForBackward(torch.autograd.graph.saved_tensors_hooks):
    """Peak of the bytes that are kept for backward passes; memory that is kept twice counts once.

    Args:
        aside: tensors whose memory is not counted.
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
    """Holder that accepts a weak reference, which a tensor in autograd does not."""

    tensor: Tensor


def memory_of(trainer: Trainer, device: torch.device) -> int:
    """Return the bytes that one update needs temporarily."""
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
    configurations: dict[str, Resources],
    trainer: Callable[[Resources], Trainer],
    device: torch.device,
    *,
    rounds: int,
    repeats: int,
) -> dict[str, Cost]:
    """Measure each configuration. `trainer` builds a new trainer, and only one is in memory at a time."""
    costs = {name: Cost() for name in configurations}
    for _ in range(rounds):
        for name, resources in configurations.items():
            one, cost = trainer(resources), costs[name]
            one.update()  # the first update allocates
            cost.memory = max(cost.memory, memory_of(one, device))
            cost.seconds += [seconds_of(one.update, device) for _ in range(repeats)]
    return costs


def configurations_of(device: torch.device, micro_batch_size: int) -> dict[str, Resources]:
    """Return the configurations by name; the first is the baseline."""
    configurations = {"float32": Resources()}
    if device.type == "cuda":
        configurations["tf32"] = Resources(precision="tf32", gpus_per_worker=1)
    configurations["bfloat16"] = Resources(precision="bfloat16")
    checkpoints: dict[str, object] = {"activation_checkpointing": True}
    micro_batches: dict[str, object] = {"micro_batch_size": micro_batch_size}
    savings = {
        "checkpoints": checkpoints,
        f"micro-batches of {micro_batch_size}": micro_batches,
        "both": checkpoints | micro_batches,
    }
    combined = dict(configurations)
    for name, resources in configurations.items():
        for what, saving in savings.items():
            combined[f"{name}, {what}"] = resources.model_copy(update=saving)
    return combined


def main() -> None:
    """Measure, and print each configuration relative to the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="builtin:digits", help="a diffusers folder")
    parser.add_argument("--batch-size", type=int, default=32, help="retained conditions an update")
    parser.add_argument("--forget-batch-size", type=int, default=16, help="forgotten conditions an update")
    parser.add_argument("--micro-batch-size", type=int, default=12, help="samples in a micro-batch")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5, help="updates of each configuration in a round")
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
        phi = teacher.copy()  # a trainer may enable checkpoints in it
        return Trainer(phi, phi, task, settings, seed=SEED, resources=resources)

    configurations = configurations_of(arguments.device, arguments.micro_batch_size)
    costs = measure(configurations, trainer, arguments.device, rounds=arguments.rounds, repeats=arguments.repeats)
    first = next(iter(costs.values()))
    print(f"{'':<34}{'ms an update':>12}{'MB of memory':>20}")
    for name, cost in costs.items():
        seconds, least = statistics.median(cost.seconds), statistics.median(first.seconds)
        time = f"{1000 * seconds:12.1f}{seconds / least:6.2f}×"
        print(f"{name:<34}{time}{cost.memory / MEGABYTE:13.1f}{cost.memory / first.memory:6.2f}×")


if __name__ == "__main__":
    main()
