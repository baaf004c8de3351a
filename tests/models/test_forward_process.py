"""Flow matching against diffusers' scheduler, and against the closed forms of a Gaussian."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from tiny_latent_models import save_dit
from tiny_models import FLOW, save_teacher, tiny_model

from sfd_sweep.errors import UserError
from sfd_sweep.method.losses import fake_score_loss, normalizer, score_identity_loss
from sfd_sweep.models.diffusion import PathPoint, Prediction, PredictionType
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.forward_process import FLOW_MATCHING
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.samplers import sample_ddim

SIGMAS = torch.tensor([0.1, 0.45, 0.714, 0.93], dtype=torch.float64)
TEACHER, FAKE = (0.7, 0.5), (-0.2, 0.8)
"""Means and standard deviations of one-dimensional data."""


def load(folder):
    return load_score_model(ModelFolder.open(str(folder)))


@pytest.mark.parametrize("config", [{}, {"shift": 3.0}, {"shift": 0.5, "num_train_timesteps": 100}])
def test_a_step_has_the_noise_and_the_time_of_diffusers_scheduler(config):
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    schedule = FLOW_MATCHING.schedule(scheduler)
    steps, shift = config.get("num_train_timesteps", 1000), config.get("shift", 1.0)
    assert len(schedule) == steps
    t = torch.tensor([0, 17, steps // 2, steps - 1])
    x_0, epsilon = torch.randn(2, 4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    mixed = scheduler.scale_noise(x_0, schedule.times[t], epsilon)
    torch.testing.assert_close(schedule.diffuse(x_0, t, epsilon), mixed)
    u = (t + 1) / steps
    torch.testing.assert_close(schedule.sigmas[t], shift * u / (1 + (shift - 1) * u))
    torch.testing.assert_close(schedule.times[t], steps * schedule.sigmas[t])
    assert (schedule.alphas[-1], schedule.sigmas[-1]) == (0, 1)  # pure noise


@torch.enable_grad()
def gaussian_path(x_t, sigma, mean, deviation):
    """Velocity and score of data from N(mean, deviation²) at x_t.

    x_t is from N(m(σ), s(σ)²), and the velocity of such a path is m' + s'·(x_t - m)/s (Lipman et al., theorem 3); the
    derivatives, and the score, are autograd's.
    """
    x_t, sigma = x_t.clone().requires_grad_(), sigma.clone().requires_grad_()
    m = (1 - sigma) * mean
    s = ((1 - sigma) ** 2 * deviation**2 + sigma**2).sqrt()
    m_dot, s_dot = (torch.autograd.grad(each.sum(), sigma, retain_graph=True)[0] for each in (m, s))
    log_density = torch.distributions.Normal(m, s).log_prob(x_t)
    (score,) = torch.autograd.grad(log_density.sum(), x_t)
    return (m_dot + s_dot * (x_t - m) / s).detach(), score


def predicted(x_t, sigma, velocity) -> Prediction:
    point = PathPoint(a=1 - sigma, b=sigma, a_dot=-torch.ones_like(sigma), b_dot=torch.ones_like(sigma))
    return Prediction(x_t=x_t, point=point, output=velocity, type=PredictionType.VELOCITY)


def test_image_and_noise_are_read_from_a_velocity_as_the_score_gives_them():
    """By Tweedie's formula, x̂_0 = (x_t + b²·s)/a and ε̂ = -b·s."""
    x_t = torch.linspace(-2, 2, 9, dtype=torch.float64).expand(4, 9)
    sigma = SIGMAS[:, None].expand(4, 9)
    velocity, score = gaussian_path(x_t, sigma, *TEACHER)
    read = predicted(x_t, sigma, velocity)
    torch.testing.assert_close(read.x_0, (x_t + sigma**2 * score) / (1 - sigma))
    torch.testing.assert_close(read.epsilon, -sigma * score)
    for kind, output in ((PredictionType.SAMPLE, read.x_0), (PredictionType.EPSILON, read.epsilon)):
        torch.testing.assert_close(replace(read, output=output, type=kind).velocity, velocity)


def test_the_fake_scores_losses_weigh_the_error_of_the_image_by_the_noise():
    """‖v̂ - v‖² = ‖x̂_0 - x_0‖²/σ², and ‖ε̂ - ε‖² = (1 - σ)²/σ²·‖x̂_0 - x_0‖²: 1 + 2/r + 1/r² and 1/r² at r = σ/(1 - σ)."""
    x_0, epsilon, velocity = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma = SIGMAS[:, None]
    read = predicted((1 - sigma) * x_0 + sigma * epsilon, sigma, velocity)
    of_image = (read.x_0 - x_0).square().sum(1)
    ratio = SIGMAS / (1 - SIGMAS)
    of_velocity = fake_score_loss(read, x_0, epsilon, "velocity")
    torch.testing.assert_close(of_velocity, (velocity - (epsilon - x_0)).square().sum(1))
    torch.testing.assert_close(of_velocity, (1 + 2 / ratio + 1 / ratio**2) * of_image)
    torch.testing.assert_close(fake_score_loss(read, x_0, epsilon, "epsilon"), of_image / ratio**2)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.2])
@pytest.mark.parametrize("sigma", SIGMAS.tolist())
def test_the_generators_loss_is_the_fisher_divergence_weighted_by_the_noise(alpha, sigma):
    """If ψ is right, E ω·ℓ = (1 - α)·(σ²/(1 - σ))²·E|s_φ - s_ψ|² (SiD, equations 15 and 20, with a = 1 - σ).

    Gauss-Hermite quadrature over x_0 and ε is exact here.
    """
    nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(12))
    x_0, epsilon = (each.reshape(-1, 1) for each in torch.meshgrid(FAKE[0] + FAKE[1] * nodes, nodes, indexing="ij"))
    weight = torch.outer(weights, weights).flatten() / weights.sum() ** 2
    b = torch.full_like(x_0, sigma)
    x_t = (1 - b) * x_0 + b * epsilon
    (v_phi, s_phi), (v_psi, s_psi) = (gaussian_path(x_t, b, *of) for of in (TEACHER, FAKE))
    x_phi, x_psi = predicted(x_t, b, v_phi).x_0, predicted(x_t, b, v_psi).x_0
    losses = score_identity_loss(x_phi, x_psi, x_0, alpha) * normalizer(x_phi, x_0).flatten()
    divergence = (weight * (s_phi - s_psi).square().flatten()).sum()
    assert (weight * losses).sum().item() == pytest.approx(
        (1 - alpha) * (sigma**2 / (1 - sigma)) ** 2 * divergence.item(), rel=1e-9
    )


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_stock_diffusers_samples_a_saved_flow_as_it_is_sampled_here(tmp_path, scale):
    model = tiny_model(FLOW)
    pipeline = DiffusionPipeline.from_pretrained(save_teacher(tmp_path / "teacher", model), low_cpu_mem_usage=False)
    scheduler, c = pipeline.scheduler, torch.tensor([0, 2])
    assert type(scheduler) is FlowMatchEulerDiscreteScheduler
    scheduler.set_timesteps(sigmas=[1 - done / 7 for done in range(7)])
    x_t = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for t in scheduler.timesteps:
        with torch.no_grad():
            conditional, unconditional = (
                pipeline.unet(x_t, t, class_labels=labels).sample for labels in (c, torch.tensor([3, 3]))
            )
        x_t = scheduler.step(unconditional + scale * (conditional - unconditional), t, x_t).prev_sample
    images = sample_ddim(load(tmp_path / "teacher"), c, torch.Generator().manual_seed(0), steps=7, guidance_scale=scale)
    torch.testing.assert_close(images, x_t.clamp(-1, 1), rtol=1e-4, atol=1e-5)
    assert images.std() > 0.05


def test_the_samplers_steps_are_equal_parts_of_the_schedule():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, num_train_timesteps=100)
    sampler = FLOW_MATCHING.many_steps(scheduler, steps=4, clip=True)
    u = torch.tensor([1, 0.75, 0.5, 0.25, 0])
    torch.testing.assert_close(sampler.sigmas, 3 * u / (1 + 2 * u))
    torch.testing.assert_close(sampler.timesteps, 100 * sampler.sigmas[:-1])
    assert len(scheduler.sigmas) == 100


def test_the_sampler_carries_noise_onto_the_data():
    """Data from N(m, s²) and their exact velocity: noise z ends at m + s·z."""

    class Exact(torch.nn.Module):
        def forward(self, x_t, time, class_labels):
            sigma = (time / 1000).view(-1, 1, 1, 1)
            velocity, _ = gaussian_path(x_t, sigma.expand_as(x_t), 0.3, 0.2)
            return type("Output", (), {"sample": velocity})

    model = tiny_model(FLOW)
    model.network.forward = Exact().forward
    images = sample_ddim(model, torch.tensor([0, 1]), torch.Generator().manual_seed(0), steps=400)
    z = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(images, 0.3 + 0.2 * z, rtol=0, atol=0.01)


def test_a_diffusion_transformer_may_be_a_flow(tmp_path):
    folder = save_dit(tmp_path / "teacher", ["ant", "bee"])
    before = load(folder)
    FlowMatchEulerDiscreteScheduler(shift=1.5).save_pretrained(folder / "scheduler")
    model = load(folder)
    x_t = torch.randn(2, *model.sample_shape, generator=torch.Generator().manual_seed(0))
    t, c = torch.tensor([119, 713]), torch.tensor([0, 1])
    u = (t + 1).view(-1, 1, 1, 1) / 1000
    sigma = 1.5 * u / (1 + 0.5 * u)
    with torch.no_grad():
        velocity = before.network(x_t, 1000 * sigma.flatten(), class_labels=c).sample[:, : x_t.shape[1]]
        torch.testing.assert_close(model.forward(x_t, t, c).x_0, x_t - sigma * velocity, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"use_dynamic_shifting": True}, "use_dynamic_shifting True, so a step has no fixed noise level"),
        ({"invert_sigmas": True}, "invert_sigmas True"),
        ({"shift_terminal": 0.1}, "shift_terminal 0.1"),
        ({"shift": 0}, "shift must be a number above 0, not 0"),
        ({"shift": None}, "shift must be a number above 0, not None"),
        ({"num_train_timesteps": 0}, "num_train_timesteps must be a whole number above 0, not 0"),
        ({"_class_name": "FlowMatchLCMScheduler"}, "or by flow matching (FlowMatchEulerDiscreteScheduler)"),
    ],
)
def test_a_flow_whose_steps_have_no_noise_level_is_refused(tmp_path, entries, words):
    path = save_teacher(tmp_path / "teacher", tiny_model(FLOW)) / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    with pytest.raises(UserError) as refused:
        ModelFolder.open(str(tmp_path / "teacher"))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
