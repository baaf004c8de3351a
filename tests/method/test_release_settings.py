"""The settings that make a trial compute what the public release computes, against formulas that are written anew here.

The release guides in noise predictions, ε̂ = ε̂(n) + w·(ε̂(c) - ε̂(n)) for a condition c and a negative condition n.
"""

from dataclasses import replace

import pytest
import torch
from tiny_models import NULL, tiny_model
from torch import nn
from update_cases import FORGET, FORGET_0, OVERRIDE, draw, give, gradients, gradients_of, trainer, weights

from sfd_sweep.config import Resources

MIXED = [1, 2, 2, 1, 2, 1, FORGET, FORGET, FORGET, FORGET]
NEGATIVE = 2
GUIDED = {
    "guidance_scale": 4.5,
    "fake_score_guidance_scale": 3.5,
    "fake_score_training_guidance_scale": 2.5,
}


def moved(model, seed):
    """A copy with other weights nearby."""
    copy, generator = model.copy(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return copy


def noise(model, x_t, t, c, negative, w):
    """ε̂ of a guided network, from its bare outputs."""

    def bare(labels):
        return model.network(x_t, t, class_labels=labels).sample

    return bare(c) if w == 1 else bare(negative) + w * (bare(c) - bare(negative))


def levels(model, t):
    alphas = model.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
    return alphas.sqrt(), (1 - alphas).sqrt()


def generated(model, z, c, t_init):
    t = torch.full((len(z),), t_init)
    a, b = levels(model, t)
    return b * z / a - b / a * model.network(b * z, t, class_labels=c).sample


def fake_score_loss(psi, theta, batch, *, t_init, w=1.0, negative=None, given=None, made_of=None):
    """Summed squared error of ψ's noise, by sample."""
    c = batch.c if given is None else given
    with torch.no_grad():
        x_0 = generated(theta, batch.z, batch.c if made_of is None else made_of, t_init)
    a, b = levels(psi, batch.t)
    found = noise(psi, a * x_0 + b * batch.epsilon, batch.t, c, negative, w)
    return (batch.epsilon - found).square().sum((1, 2, 3))


def generator_loss(phi, psi, theta, batch, *, t_init, alpha, w_phi=1.0, w_psi=1.0, n_phi=None, n_psi=None):
    x_0 = generated(theta, batch.z, batch.c, t_init)
    a, b = levels(phi, batch.t)
    x_t = a * x_0 + b * batch.epsilon
    c_phi = torch.where(batch.c == FORGET, OVERRIDE, batch.c)
    y_fake = (x_t - b * noise(psi, x_t, batch.t, batch.c, n_psi, w_psi)) / a
    y_real = (x_t - b * noise(phi, x_t, batch.t, c_phi, n_phi, w_phi)) / a
    omega = (y_real - x_0).abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-5).detach()
    return ((y_real - y_fake) * ((y_real - x_0) - alpha * (y_real - y_fake)) / omega).sum((1, 2, 3))


def close(found, expected):
    size = float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * size)


def distinct(**changes):
    """A trainer whose three networks differ."""
    teacher = tiny_model("epsilon")
    one = trainer(teacher, moved(teacher, 1), alpha=1.0, **changes)
    one.fake_score.load_state_dict(moved(teacher, 2).state_dict())
    return one


@pytest.mark.parametrize("of_fake_score", [False, True])
def test_guidance_leads_away_from_the_negative_prompt_in_the_networks_that_the_settings_name(of_fake_score):
    task = replace(FORGET_0, negative=NEGATIVE)
    one = distinct(task=task, fake_score_negative_prompt=of_fake_score, **GUIDED)
    batch = draw(MIXED)
    negative = torch.where(batch.c == FORGET, NEGATIVE, NULL)
    null = torch.full_like(batch.c, NULL)
    of_psi = negative if of_fake_score else null
    phi, psi, theta = one.teacher, one.fake_score, one.generator.model
    expected = generator_loss(
        phi, psi, theta, batch, t_init=440, alpha=1.0, w_phi=4.5, w_psi=3.5, n_phi=negative, n_psi=of_psi
    )
    found = one.generator_losses(batch)
    close(found, expected)
    close(gradients_of(found.sum(), theta), gradients_of(expected.sum(), theta))
    psi.requires_grad_(True)
    expected = fake_score_loss(psi, theta, batch, t_init=440, w=2.5, negative=of_psi)
    found = one.fake_score_losses(batch)
    close(found, expected)
    close(gradients_of(found.sum(), psi), gradients_of(expected.sum(), psi))


@pytest.mark.parametrize("before", [False, True])
def test_a_condition_is_dropped_before_or_after_the_sample_is_generated(before):
    one = distinct(
        task=replace(FORGET_0, negative=NEGATIVE),
        condition_dropout=0.1,
        drop_before_generating=before,
        fake_score_negative_prompt=True,
        **GUIDED,
    )
    batch = replace(draw(MIXED), dropped=torch.arange(len(MIXED)) % 2 == 0)
    given = torch.where(batch.dropped, NULL, batch.c)
    negative = torch.where((batch.c == FORGET) & ~batch.dropped, NEGATIVE, NULL)
    made_of = given if before else batch.c
    expected = fake_score_loss(
        one.fake_score,
        one.generator.model,
        batch,
        t_init=440,
        w=2.5,
        negative=negative,
        given=given,
        made_of=made_of,
    )
    close(one.fake_score_losses(batch), expected)


def test_both_updates_share_their_conditions_and_nothing_else_if_the_settings_say_so(monkeypatch):
    drawn = {}
    for shared in (False, True):
        one = trainer(shared_conditions=shared)
        drawn[shared] = []
        for name in ("fake_score_losses", "generator_losses"):
            losses = getattr(one, name)
            monkeypatch.setattr(one, name, lambda batch, of=losses, to=drawn[shared]: to.append(batch) or of(batch))
        one.update()
    (own, others), (first, second) = drawn[False], drawn[True]
    assert not torch.equal(own.c, others.c)
    assert torch.equal(first.c, own.c)
    assert torch.equal(second.c, own.c)
    for name in ("z", "t", "epsilon", "alternative"):
        assert torch.equal(getattr(second, name), getattr(others, name))


def test_without_warm_up_the_average_has_its_decay_from_the_first_step():
    one = trainer(ema_decay=0.75, ema_warmup=False)
    expected = weights(one.generator.model)
    for _ in range(3):
        one.update()
        expected = 0.25 * weights(one.generator.model) + 0.75 * expected
    torch.testing.assert_close(weights(one.ema_generator.model), expected)


def test_adams_first_step_is_the_gradient_over_its_size_and_epsilon(monkeypatch):
    one = trainer(adam_epsilon=0.5, generator_lr=1e-2)
    before = weights(one.generator.model)
    give(monkeypatch, draw(MIXED), draw(MIXED, seed=8))
    one.update()
    g = gradients(one.generator.model)
    assert 0.1 < float(g.abs().max()) < 100  # so that ε matters
    torch.testing.assert_close(weights(one.generator.model) - before, -1e-2 * g / (g.abs() + 0.5), rtol=1e-3, atol=1e-6)


def test_steps_are_those_of_the_release_for_images(monkeypatch):
    """Two steps of ψ, θ and the average, with separate passes over retained and forgotten samples as in the release."""
    lr, mu_f, lambda_f, decay, alpha, clip = 1e-3, 0.3, 0.2, 0.9, 1.2, 1.0
    teacher = tiny_model("epsilon")
    one = trainer(
        teacher,
        alpha=alpha,
        generator_lr=lr,
        fake_score_lr_ratio=3,
        forget_weight=lambda_f,
        fake_score_forget_weight=mu_f,
        gradient_clip=clip,
        ema_decay=decay,
        ema_warmup=False,
        shared_conditions=True,
    )
    psi, theta, average = (teacher.copy() for _ in range(3))
    for model in (psi, theta):
        model.requires_grad_(True)
    rates = {psi: 3 * lr, theta: lr}
    adams = {model: torch.optim.Adam(model.parameters(), lr=rate, betas=(0.0, 0.999)) for model, rate in rates.items()}

    def step(model, losses, weight):
        adams[model].zero_grad()
        gradient = torch.autograd.grad(losses[:6].mean() + weight * losses[6:].mean(), list(model.parameters()))
        for parameter, part in zip(model.parameters(), gradient, strict=True):
            parameter.grad = part
        nn.utils.clip_grad_value_(model.parameters(), clip)
        adams[model].step()

    for seed in (0, 2):
        first, second = draw(MIXED, seed=seed), draw([2, 2, 2, 1, 1, 1, *MIXED[6:]], seed=seed + 1)
        give(monkeypatch, first, second)
        one.update()
        step(psi, fake_score_loss(psi, theta, first, t_init=440), mu_f)
        second = replace(second, c=first.c)
        step(theta, generator_loss(teacher, psi, theta, second, t_init=440, alpha=alpha), lambda_f)
        with torch.no_grad():
            for kept, new in zip(average.parameters(), theta.parameters(), strict=True):
                kept.copy_((1 - decay) * new + decay * kept)
    start = weights(teacher)
    for found, expected in ((one.fake_score, psi), (one.generator.model, theta), (one.ema_generator.model, average)):
        way = weights(expected) - start
        assert float((weights(found) - weights(expected)).norm()) < 0.01 * float(way.norm())


# --- the networks' own dropout ---


def with_dropout(**changes):
    return trainer(tiny_model(dropout=0.3), network_dropout=True, **changes)


def active(model):
    return {layer.training for layer in model.modules() if isinstance(layer, nn.Dropout)}


def test_each_network_has_dropout_while_it_is_trained_and_no_other_one_does(monkeypatch):
    one, seen = with_dropout(), {}
    for name in ("fake_score_losses", "generator_losses"):
        losses = getattr(one, name)

        def noted(batch, name=name, of=losses):
            seen[name] = [active(model) for model in (one.teacher, one.fake_score, one.generator.model)]
            return of(batch)

        monkeypatch.setattr(one, name, noted)
    one.update()
    assert seen["fake_score_losses"] == [{False}, {True}, {False}]
    assert seen["generator_losses"] == [{False}, {False}, {True}]
    networks = (one.teacher, one.fake_score, one.generator.model, one.ema_generator.model)
    assert [active(model) for model in networks] == [{False}] * 4
    assert not any(module.training for model in networks for module in model.modules())


def test_dropout_changes_what_is_learned_and_nothing_that_is_drawn():
    plain, dropping = trainer(tiny_model(dropout=0.3)), with_dropout()
    for one in (plain, dropping):
        one.update()
    assert not torch.equal(weights(plain.fake_score), weights(dropping.fake_score))
    assert not torch.equal(weights(plain.generator.model), weights(dropping.generator.model))
    assert torch.equal(plain.random.get_state(), dropping.random.get_state())


def test_on_average_dropout_leaves_the_fake_scores_gradient_near_that_without_it(monkeypatch):
    found = []
    for seed in range(40):
        one = with_dropout(seed=seed)
        give(monkeypatch, draw(MIXED), draw(MIXED))
        one.update()
        found.append(gradients(one.fake_score))
    plain = trainer(tiny_model(dropout=0.3))
    give(monkeypatch, draw(MIXED), draw(MIXED))
    plain.update()
    expected = gradients(plain.fake_score)
    single, mean = (torch.cosine_similarity(each, expected, dim=0) for each in (found[0], torch.stack(found).mean(0)))
    assert mean > single
    assert mean > 0.9


def test_a_run_with_dropout_goes_on_from_its_state_bit_for_bit():
    whole, part = with_dropout(), with_dropout()
    for _ in range(3):
        whole.update()
    part.update()
    following = with_dropout()
    following.load_state({name: tensor.clone() for name, tensor in part.state().items()})
    for _ in range(2):
        following.update()
    assert torch.equal(weights(following.generator.model), weights(whole.generator.model))
    assert torch.equal(weights(following.fake_score), weights(whole.fake_score))


def test_activation_checkpoints_compute_again_with_the_same_masks(monkeypatch):
    found = []
    for checkpointing in (False, True):
        one = with_dropout(resources=Resources(activation_checkpointing=checkpointing))
        give(monkeypatch, draw(MIXED), draw(MIXED, seed=8))
        one.update()
        found.append([gradients(one.fake_score), gradients(one.generator.model)])
    for plain, recomputed in zip(*found, strict=True):
        close(recomputed, plain)


def test_dropout_leaves_the_global_random_numbers_alone():
    before = torch.random.get_rng_state()
    with_dropout().update()
    assert torch.equal(torch.random.get_rng_state(), before)
