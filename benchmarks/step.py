"""Time of one update of Score Forgetting Distillation: one batch, compared with the published order, in one run.

    python benchmarks/step.py [--device cuda] [--repeats 20]

The published order takes four passes: the fake score on retained and then on forgotten samples, and the generator
likewise, each with its own forward and backward, and with as many forgotten samples as retained ones. This package
puts both kinds into one batch with a weight for each sample, and the forgotten share is a setting. The published
order is implemented below from the description of the method. For equal batches the gradients must agree, and are
compared.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sfd_sweep.config import Settings
from sfd_sweep.method.batch import FixedOverride, ForgettingTask, UpdateBatch, draw_update_batch
from sfd_sweep.method.trainer import Trainer
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.score_model import ScoreModel

FORGET, OVERRIDE, SEED = 0, 1, 0


class SeparatePasses:
    """An update in the published order, without guidance, on the networks and optimizers of a trainer.

    The trainer must not be updated on its own afterwards.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.settings = trainer.settings
        self.task = trainer.task
        self.phi, self.psi, self.theta = trainer.teacher, trainer.fake_score, trainer.generator.model
        self.theta_optimizer, self.psi_optimizer = trainer.generator_optimizer.adam, trainer.fake_score_optimizer.adam
        self.average = AveragedModel(self.theta, multi_avg_fn=get_ema_multi_avg_fn(self.settings.ema_decay))
        self.random = torch.Generator(trainer.random.device).manual_seed(SEED)

    def update(self) -> None:
        """Update the fake score, then the generator."""
        settings = self.settings
        passes = self._passes(settings.fake_score_forget_weight)
        self._minimize(self.psi.requires_grad_(True), self.psi_optimizer, self._denoising_error, passes)
        self.psi.requires_grad_(False)
        passes = self._passes(settings.forget_weight)
        self._minimize(self.theta, self.theta_optimizer, self._cross_conditioned_loss, passes)
        self.average.update_parameters(self.theta)

    def _passes(self, forget_weight: float) -> Iterator[tuple[float, UpdateBatch]]:
        """Yield the retained and the forgotten batch, each with its weight."""
        settings = self.settings
        draw = draw_update_batch(
            self.task,
            batch_size=settings.batch_size,
            forget_batch_size=settings.forget_batch_size,
            t_range=range(settings.t_min, settings.t_max),
            sample_shape=self.phi.sample_shape,
            generator=self.random,
        )
        yield settings.retain_weight, draw[: settings.batch_size]
        yield forget_weight, draw[settings.batch_size :]

    def _minimize(
        self,
        model: ScoreModel,
        optimizer: torch.optim.Optimizer,
        loss_of: Callable[[UpdateBatch], Tensor],
        passes: Iterator[tuple[float, UpdateBatch]],
    ) -> None:
        optimizer.zero_grad()
        for weight, draw in passes:
            (weight * loss_of(draw)).backward()
        nn.utils.clip_grad_value_(model.parameters(), self.settings.gradient_clip)
        optimizer.step()

    def _generate(self, draw: UpdateBatch) -> Tensor:
        t_init = torch.full_like(draw.t, self.settings.t_init)
        b_init = self.theta.schedule.at(t_init, draw.z.ndim).b
        return self.theta.forward(b_init * draw.z, t_init, draw.c).x_0

    def _denoising_error(self, draw: UpdateBatch) -> Tensor:
        """E ‖v̂_ψ - v‖², v = a·ε - b·x_0."""
        with torch.no_grad():
            x_0 = self._generate(draw)
        point = self.phi.schedule.at(draw.t, x_0.ndim)
        a, b = point.a, point.b
        prediction = self.psi.forward(a * x_0 + b * draw.epsilon, draw.t, draw.c)
        return (prediction.velocity - (a * draw.epsilon - b * x_0)).square().sum((1, 2, 3)).mean()

    def _cross_conditioned_loss(self, draw: UpdateBatch) -> Tensor:
        """E Σ (x̂_φ - x̂_ψ)·[(x̂_φ - x_0) - α·(x̂_φ - x̂_ψ)] / ω, with c_φ = c_o where c is forgotten."""
        x_0 = self._generate(draw)
        point = self.phi.schedule.at(draw.t, x_0.ndim)
        a, b = point.a, point.b
        x_t = a * x_0 + b * draw.epsilon
        x_psi = self.psi.forward(x_t, draw.t, draw.c).x_0
        x_phi = self.phi.forward(x_t, draw.t, draw.c.masked_fill(draw.forgotten, OVERRIDE)).x_0
        omega = (x_phi - x_0).abs().mean((1, 2, 3), keepdim=True).detach().clamp_min(1e-5)
        difference = x_phi - x_psi
        loss = difference * ((x_phi - x_0) - self.settings.alpha * difference) / omega
        return loss.sum((1, 2, 3)).mean()


def gradients(*models: ScoreModel) -> list[Tensor]:
    """Return all gradients of each model as one vector."""
    rows = [[each.grad.flatten() for each in model.parameters() if each.grad is not None] for model in models]
    return [torch.cat(row) for row in rows]


def compare_gradients(ours: Trainer, published: SeparatePasses) -> None:
    """Do one update of each on equal draws, and print how much their gradients differ."""
    ours.update()
    published.update()
    found = gradients(ours.fake_score, ours.generator.model)
    expected = gradients(published.psi, published.theta)
    for name, one, other in zip(("fake score", "generator"), found, expected, strict=True):
        apart = float((one - other).abs().max() / other.abs().max())
        print(f"gradient of the {name:<10}  differs by at most {apart:.1e} of its largest component")


def seconds_of(update: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one update, until the device has finished."""
    start = time.perf_counter()
    update()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure(variants: dict[str, Callable[[], object]], device: torch.device, repeats: int) -> dict[str, float]:
    """Return the median seconds of each variant. They take turns, so that other load slows all of them alike."""
    for update in variants.values():
        seconds_of(update, device)  # the first update allocates
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, update in variants.items():
            seconds[name].append(seconds_of(update, device))
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Compare gradients, then measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="builtin:digits", help="a diffusers folder")
    parser.add_argument("--batch-size", type=int, default=32, help="retained conditions an update")
    parser.add_argument("--forget-batch-size", type=int, default=16, help="forgotten conditions in the single batch")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = ModelFolder.open(arguments.teacher)
    teacher = load_score_model(folder, arguments.device)
    retained = tuple(index for index in range(len(folder.class_names)) if index != FORGET)
    task = ForgettingTask(retained, (FORGET,), FixedOverride({FORGET: OVERRIDE}))

    def trainer(forget_batch_size: int) -> Trainer:
        settings = Settings(
            generator_lr=1e-5,
            fake_score_loss="velocity",
            batch_size=arguments.batch_size,
            forget_batch_size=forget_batch_size,
        )
        return Trainer(teacher, teacher, task, settings, seed=SEED)

    equal, share = arguments.batch_size, arguments.forget_batch_size
    compare_gradients(trainer(equal), SeparatePasses(trainer(equal)))
    published, batched, smaller = (
        f"four passes, {equal} + {equal}",
        f"one batch, {equal} + {equal}",
        f"one batch, {equal} + {share}",
    )
    variants: dict[str, Callable[[], object]] = {
        published: SeparatePasses(trainer(equal)).update,
        batched: trainer(equal).update,
        smaller: trainer(share).update,
    }
    median = measure(variants, arguments.device, arguments.repeats)
    for name, value in median.items():
        print(f"{name:<26}{1000 * value:9.2f} ms an update")
    print(f"batching alone             {median[published] / median[batched]:8.2f}×")
    print(f"smaller share alone        {median[batched] / median[smaller]:8.2f}×")
    print(f"both                       {median[published] / median[smaller]:8.2f}×")


if __name__ == "__main__":
    main()
