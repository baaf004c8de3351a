"""The losses against what follows from their formulas by hand, for networks that are matrices."""

import numpy as np
import pytest
import torch
from tiny_models import scheduler

from sfd_sweep.method.losses import diff_instruct_loss, fake_score_loss, normalizer, score_identity_loss
from sfd_sweep.models.diffusion import PathPoint, Prediction, PredictionType

SAMPLES, PIXELS = 5, 4
A_T, B_T = 0.8, 0.6  # a_t and b_t


class Toy:
    """x̂_φ = A·x_t and x̂_ψ = B·x_t, with numbers in numpy and the same in torch."""

    def __init__(self) -> None:
        random = np.random.default_rng(7)
        self.phi, self.psi = random.normal(size=(2, PIXELS, PIXELS))
        self.x_0, self.epsilon = random.normal(size=(2, SAMPLES, PIXELS))
        self.x_t = A_T * self.x_0 + B_T * self.epsilon

    def loss_and_gradient(self, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """ℓ = d·(e - α·d)/ω with d = (A - B)·x_t and e = A·x_t - x_0, and by the product rule its gradient in x_0."""
        difference = self.x_t @ (self.phi - self.psi).T
        error = self.x_t @ self.phi.T - self.x_0
        omega = np.abs(error).mean(1, keepdims=True)
        slope_of_difference = A_T * (self.phi - self.psi)
        slope_of_error = A_T * self.phi - np.eye(PIXELS)
        gradient = (error - alpha * difference) @ slope_of_difference
        gradient += difference @ (slope_of_error - alpha * slope_of_difference)
        return (difference * (error - alpha * difference) / omega).sum(1), gradient / omega

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x̂_φ, x̂_ψ and x_0 as images of 2×2 pixels; the first two depend on the last."""
        x_0 = torch.tensor(self.x_0).view(SAMPLES, 1, 2, 2).requires_grad_()
        x_t = A_T * x_0.flatten(1) + B_T * torch.tensor(self.epsilon)
        x_phi, x_psi = (x_t @ torch.tensor(matrix).T for matrix in (self.phi, self.psi))
        return x_phi.view_as(x_0), x_psi.view_as(x_0), x_0


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.2])
def test_the_score_identity_loss_and_its_gradient_through_both_networks_are_those_derived_by_hand(alpha):
    toy = Toy()
    x_phi, x_psi, x_0 = toy.tensors()
    losses = score_identity_loss(x_phi, x_psi, x_0, alpha)
    (gradient,) = torch.autograd.grad(losses.sum(), x_0)
    expected_losses, expected_gradient = toy.loss_and_gradient(alpha)
    np.testing.assert_allclose(losses.detach().numpy(), expected_losses, rtol=1e-12)
    np.testing.assert_allclose(gradient.flatten(1).numpy(), expected_gradient, rtol=1e-10, atol=1e-12)


def test_with_alpha_one_the_loss_compares_the_score_difference_with_the_fake_scores_error():
    x_phi, x_psi, x_0 = (tensor.detach() for tensor in Toy().tensors())
    omega = (x_phi - x_0).abs().mean((1, 2, 3))
    expected = ((x_phi - x_psi) * (x_psi - x_0)).sum((1, 2, 3)) / omega
    torch.testing.assert_close(score_identity_loss(x_phi, x_psi, x_0, 1.0), expected)


def test_the_normalizer_is_a_constant_for_each_sample():
    x_phi, _, x_0 = Toy().tensors()
    omega = normalizer(x_phi, x_0)
    assert omega.shape == (SAMPLES, 1, 1, 1)
    assert not omega.requires_grad
    torch.testing.assert_close(omega.flatten(), (x_phi - x_0).abs().mean((1, 2, 3)).detach())


def test_a_teacher_that_changes_nothing_divides_by_a_hundred_thousandth():
    x_0 = torch.randn(2, 1, 2, 2, dtype=torch.float64)
    x_psi = x_0 + 1e-3
    losses = score_identity_loss(x_0, x_psi, x_0, alpha=1.2)
    torch.testing.assert_close(losses, torch.full((2,), -1.2 * 4 * 1e-6 / 1e-5, dtype=torch.float64))


def test_diff_instructs_gradient_is_the_normalized_score_difference_alone():
    toy = Toy()
    x_phi, x_psi, x_0 = toy.tensors()
    (gradient,) = torch.autograd.grad(diff_instruct_loss(x_phi, x_psi, x_0).sum(), x_0)
    omega = np.abs(toy.x_t @ toy.phi.T - toy.x_0).mean(1, keepdims=True)
    expected = toy.x_t @ (toy.psi - toy.phi).T / omega
    np.testing.assert_allclose(gradient.flatten(1).numpy(), expected, rtol=1e-10)


@pytest.fixture(name="denoised")
def _denoised():
    """A prediction of the velocity, with the x_0 and ε that its x_t was made of, and a_t, at three steps."""
    generator = torch.Generator().manual_seed(2)
    x_0, epsilon, output = torch.randn(3, 3, 1, 2, 2, generator=generator, dtype=torch.float64)
    a = scheduler("v_prediction").alphas_cumprod[[38, 440, 711]].double().sqrt().view(-1, 1, 1, 1)
    b = (1 - a**2).sqrt()
    point = PathPoint(a=a, b=b, a_dot=-b, b_dot=a)
    return Prediction(a * x_0 + b * epsilon, point, output, PredictionType.VELOCITY), x_0, epsilon


def test_the_fake_scores_loss_is_the_squared_error_summed_over_pixels(denoised):
    prediction, x_0, epsilon = denoised
    a, b = prediction.point.a.numpy(), prediction.point.b.numpy()
    target = a * epsilon.numpy() - b * x_0.numpy()
    expected = np.square(prediction.output.numpy() - target).reshape(3, 4).sum(1)
    np.testing.assert_allclose(fake_score_loss(prediction, x_0, epsilon, "velocity").numpy(), expected, rtol=1e-10)


def test_the_fake_scores_loss_of_the_noise_is_that_of_the_velocity_times_the_signals_power(denoised):
    prediction, x_0, epsilon = denoised
    of_noise = fake_score_loss(prediction, x_0, epsilon, "epsilon")
    of_velocity = fake_score_loss(prediction, x_0, epsilon, "velocity")
    torch.testing.assert_close(of_noise, prediction.point.a.flatten() ** 2 * of_velocity)


@pytest.mark.parametrize("loss", [lambda *x: score_identity_loss(*x, alpha=1.2), diff_instruct_loss])
def test_losses_are_summed_over_pixels_and_normalized_by_their_mean(loss):
    tensors = [tensor.detach() for tensor in Toy().tensors()]
    twice_as_wide = [torch.cat([tensor, tensor], dim=3) for tensor in tensors]
    torch.testing.assert_close(loss(*twice_as_wide), 2 * loss(*tensors))
