"""The three parameterizations against one another and against diffusers."""

from dataclasses import replace

import pytest
import torch
from tiny_models import PREDICTION_TYPES, scheduler

from sfd_sweep.models.diffusion import NoiseSchedule, PathPoint, Prediction, PredictionType

T = torch.tensor([0, 38, 440, 711, 999])


@pytest.fixture(name="draws")
def _draws():
    generator = torch.Generator().manual_seed(3)
    x_0, epsilon = torch.randn(2, 5, 1, 4, 4, generator=generator, dtype=torch.float64)
    return x_0, epsilon


def prediction(kind: str, x_0, epsilon) -> Prediction:
    """What a network that is right would put out; a and b from diffusers' table, v from diffusers' formula."""
    alphas_cumprod = scheduler(kind).alphas_cumprod.double()[T].view(-1, 1, 1, 1)
    a, b = alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()
    outputs = {"epsilon": epsilon, "sample": x_0, "v_prediction": scheduler(kind).get_velocity(x_0, epsilon, T)}
    point = PathPoint(a=a, b=b, a_dot=-b, b_dot=a)
    return Prediction(x_t=a * x_0 + b * epsilon, point=point, output=outputs[kind], type=PredictionType(kind))


def test_noise_is_mixed_in_as_diffusers_does(draws):
    x_0, epsilon = (tensor.float() for tensor in draws)
    reference = scheduler("epsilon")
    mixed = NoiseSchedule.variance_preserving(reference.alphas_cumprod).diffuse(x_0, T, epsilon)
    torch.testing.assert_close(mixed, reference.add_noise(x_0, epsilon, T))


def test_signal_and_noise_have_unit_power_at_every_step():
    schedule = NoiseSchedule.variance_preserving(scheduler("epsilon").alphas_cumprod)
    assert len(schedule) == 1000
    torch.testing.assert_close(schedule.alphas**2 + schedule.sigmas**2, torch.ones(1000))


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_every_parameterization_reads_the_same_image_noise_and_velocity(kind, draws):
    x_0, epsilon = draws
    read = prediction(kind, x_0, epsilon)
    velocity = scheduler(kind).get_velocity(x_0, epsilon, T)
    torch.testing.assert_close(read.x_0, x_0)
    torch.testing.assert_close(read.epsilon, epsilon, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(read.velocity, velocity, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_the_image_is_the_one_that_diffusers_reads(kind, draws):
    x_0, epsilon = draws
    wrong = prediction(kind, x_0, epsilon)
    wrong = replace(wrong, output=wrong.output + 0.3)
    for row, t in enumerate(T.tolist()):
        step = scheduler(kind).step(wrong.output[row], t, wrong.x_t[row])
        torch.testing.assert_close(wrong.x_0[row], step.pred_original_sample, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_the_error_of_the_noise_is_that_of_the_velocity_weighted_by_the_signal(kind, draws):
    x_0, epsilon = draws
    right = prediction(kind, x_0, epsilon)
    wrong = replace(right, output=right.output + 0.3)
    of_noise = wrong.denoising_error(x_0, epsilon, "epsilon").square()
    of_velocity = wrong.denoising_error(x_0, epsilon, "velocity").square()
    signal_to_noise = right.point.a**2 / right.point.b**2
    torch.testing.assert_close(of_noise, of_velocity * signal_to_noise / (signal_to_noise + 1), rtol=1e-6, atol=1e-9)
    assert of_velocity.min() > 1e-8
    for of in ("epsilon", "velocity"):
        assert right.denoising_error(x_0, epsilon, of).abs().max() < 1e-4
