"""The two updates: who learns from whom, through what, and from which samples."""

from dataclasses import replace

import pytest
import torch
from tiny_models import NULL, linear_model, tiny_model
from update_cases import FORGET, OVERRIDE, broken_for, draw, give, gradients, gradients_of, trainer, weights

from sfd_sweep.errors import TrialFailed, UserError

MIXED = [1, 2, 2, 1, 2, 1, FORGET, FORGET, FORGET, FORGET]
RETAINED = [1, 2, 2, 1, 2, 1]


def other(model, seed=1, size=0.1):
    """A model nearby: every weight moved a little."""
    moved = model.copy()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return moved


def with_other_fake_score(**changes):
    """A trainer whose fake score has moved away from the teacher."""
    one = trainer(**changes)
    one.fake_score.load_state_dict(other(one.fake_score).state_dict())
    one.fake_score.requires_grad_(False)
    return one


def parts(one, batch):
    """x_0, x̂_φ and x̂_ψ of the retained rows of a batch, with the whole graph."""
    t_init = torch.full((len(batch),), one.settings.t_init)
    b_init = one.teacher.scheduler.alphas_cumprod[t_init].view(-1, 1, 1, 1).neg().add(1).sqrt()
    x_0 = one.generator.model.forward(b_init * batch.z, t_init, batch.c).x_0
    x_t = one.teacher.scheduler.add_noise(x_0, batch.epsilon, batch.t)
    return x_0, *(model.forward(x_t, batch.t, batch.c).x_0 for model in (one.teacher, one.fake_score))


def identity_loss(x_0, x_phi, x_psi, alpha):
    omega = (x_phi - x_0).abs().mean((1, 2, 3), keepdim=True).detach()
    return ((x_phi - x_psi) * ((x_phi - x_0) - alpha * (x_phi - x_psi)) / omega).sum()


def test_a_teacher_that_is_its_own_fake_score_teaches_nothing_but_to_forget(monkeypatch):
    sizes = {}
    for forget_weight in (0, 1):
        one = trainer(fake_score_lr_ratio=1e-30, forget_weight=forget_weight)
        give(monkeypatch, draw(MIXED), draw(MIXED, seed=8))
        one.update()
        assert torch.allclose(weights(one.fake_score), weights(one.teacher), atol=1e-12)
        sizes[forget_weight] = float(gradients(one.generator.model).norm())
    assert sizes[1] > 0.01
    assert sizes[0] < 1e-5 * sizes[1]


@pytest.mark.parametrize("alpha", [1.0, 1.2])
def test_the_gradient_reaches_the_generator_through_teacher_and_fake_score(alpha):
    one, batch = with_other_fake_score(alpha=alpha), draw(RETAINED)
    x_0, x_phi, x_psi = parts(one, batch)
    model = one.generator.model
    found = gradients_of(one.generator_losses(batch).sum(), model)
    torch.testing.assert_close(
        found, gradients_of(identity_loss(x_0, x_phi, x_psi, alpha), model), rtol=1e-3, atol=1e-4
    )
    for blocked in ((x_phi.detach(), x_psi), (x_phi, x_psi.detach()), (x_phi.detach(), x_psi.detach())):
        without = gradients_of(identity_loss(x_0, *blocked, alpha), model)
        assert (found - without).norm() > 0.05 * found.norm()


def test_diff_instruct_pushes_along_the_score_difference_alone():
    one, batch = with_other_fake_score(loss="diff_instruct"), draw(RETAINED)
    x_0, x_phi, x_psi = parts(one, batch)
    omega = (x_phi - x_0).abs().mean((1, 2, 3), keepdim=True)
    expected = gradients_of((((x_psi - x_phi) / omega).detach() * x_0).sum(), one.generator.model)
    found = gradients_of(one.generator_losses(batch).sum(), one.generator.model)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_fake_scores_loss_leaves_the_generator_alone():
    one = trainer()
    one.fake_score.requires_grad_(True)
    one.fake_score_losses(draw(MIXED)).sum().backward()
    assert gradients(one.fake_score).abs().max() > 0
    assert all(parameter.grad is None for parameter in one.generator.model.parameters())


def test_the_fake_score_is_told_some_conditions_and_the_generator_all_of_them():
    one = trainer(condition_dropout=0.5)
    batch = replace(draw(MIXED), dropped=torch.arange(len(MIXED)) % 2 == 0)
    with torch.no_grad():
        x_0 = one.generator(batch.z, batch.c)
    x_t = one.teacher.schedule.diffuse(x_0, batch.t, batch.epsilon)
    seen = torch.tensor([NULL if dropped else c for c, dropped in zip(MIXED, batch.dropped.tolist(), strict=True)])
    error = one.fake_score.forward(x_t, batch.t, seen).epsilon - batch.epsilon
    torch.testing.assert_close(one.fake_score_losses(batch), error.square().sum((1, 2, 3)))


def test_a_fake_score_without_a_null_label_must_be_told_every_condition():
    one = trainer(tiny_model(null_label=False), condition_dropout=0.5)
    with pytest.raises(UserError, match="condition_dropout to 0"):
        one.update()


def test_an_update_moves_generator_and_fake_score_and_never_the_teacher():
    one = trainer()
    teacher, fake_score, generator = (weights(model) for model in (one.teacher, one.fake_score, one.generator.model))
    one.update()
    assert torch.equal(weights(one.teacher), teacher)
    assert not torch.equal(weights(one.fake_score), fake_score)
    assert not torch.equal(weights(one.generator.model), generator)


def test_without_forgetting_weights_the_forgotten_samples_count_for_nothing(monkeypatch):
    mixed, retained = (trainer(forget_weight=0, fake_score_forget_weight=0) for _ in range(2))
    first, second = draw(MIXED), draw(MIXED, seed=8)
    give(monkeypatch, first, second)
    mixed.update()
    give(monkeypatch, first[:6], second[:6])
    retained.update()
    for name in ("fake_score", "generator_model"):
        found, expected = (
            gradients(one.fake_score if name == "fake_score" else one.generator.model) for one in (mixed, retained)
        )
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_one_batch_with_weights_is_the_sum_of_separate_passes(monkeypatch):
    weighted = {"retain_weight": 0.7, "forget_weight": 0.2, "fake_score_forget_weight": 0.3}
    one, batch, later = trainer(**weighted), draw(MIXED), draw(MIXED, seed=8)
    one.fake_score.requires_grad_(True)
    separate = [one.fake_score_losses(batch[rows]).mean() for rows in (slice(6), slice(6, None))]
    expected = gradients_of(0.7 * separate[0] + 0.3 * separate[1], one.fake_score)
    give(monkeypatch, batch, later)
    one.update()
    torch.testing.assert_close(gradients(one.fake_score), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))

    again = trainer(**weighted)
    again.fake_score.load_state_dict(one.fake_score.state_dict())
    separate = [again.generator_losses(later[rows]).mean() for rows in (slice(6), slice(6, None))]
    expected = gradients_of(0.7 * separate[0] + 0.2 * separate[1], again.generator.model)
    found = gradients(one.generator.model)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_gradients_are_clipped_by_value(monkeypatch):
    free, clipped = trainer(), trainer(gradient_clip=0.01)
    for one in (free, clipped):
        give(monkeypatch, draw(MIXED), draw(MIXED, seed=8))
        one.update()
    assert gradients(free.fake_score).abs().max() > 0.01
    assert torch.equal(gradients(clipped.fake_score), gradients(free.fake_score).clamp(-0.01, 0.01))
    assert gradients(clipped.generator.model).abs().max() == pytest.approx(0.01)


def adam(start, steps, lr, beta1, beta2):
    """Weights after steps along the gradients, as the algorithm is published (Kingma & Ba, 2015)."""
    position, m, v = start, 0, 0
    for step, g in enumerate(steps, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        position = position - lr * m / (1 - beta1**step) / ((v / (1 - beta2**step)).sqrt() + 1e-8)
    return position


@pytest.mark.parametrize(("beta1", "beta2"), [(0.0, 0.999), (0.3, 0.7)])
def test_both_networks_take_adams_steps_at_their_own_rates(beta1, beta2):
    one = trainer(generator_lr=1e-3, fake_score_lr_ratio=2.5, beta1=beta1, beta2=beta2)
    for_each = {"ψ": (one.fake_score, 2.5e-3), "θ": (one.generator.model, 1e-3)}
    starts = {name: weights(model) for name, (model, _) in for_each.items()}
    steps = {name: [] for name in for_each}
    for _ in range(3):
        one.update()
        for name, (model, _) in for_each.items():
            steps[name].append(gradients(model))
    for name, (model, lr) in for_each.items():
        expected = adam(starts[name], steps[name], lr, beta1, beta2)
        torch.testing.assert_close(weights(model), expected, rtol=0, atol=2e-6)


def test_the_kept_generator_is_a_warmed_up_moving_average():
    one = trainer(ema_decay=0.25)
    averages, followed = [], []
    for _ in range(4):
        one.update()
        followed.append(weights(one.generator.model))
        averages.append(weights(one.ema_generator.model))
    expected = followed[0]
    assert torch.equal(averages[0], expected)
    for k in (1, 2, 3):
        d = min(0.25, (1 + k) / (10 + k))  # 2/11, then 0.25 twice
        expected = d * expected + (1 - d) * followed[k]
        torch.testing.assert_close(averages[k], expected, rtol=1e-5, atol=1e-7)
    assert not torch.equal(averages[3], followed[3])


def test_the_two_stages_start_from_the_teacher_and_from_a_distilled_generator():
    teacher, distilled = tiny_model(seed=0), tiny_model(seed=1)
    one = trainer(teacher, distilled)
    assert torch.equal(weights(one.fake_score), weights(teacher))
    assert torch.equal(weights(one.generator.model), weights(distilled))
    assert torch.equal(weights(one.ema_generator.model), weights(distilled))


def spied(**changes):
    return trainer(linear_model([0.5, 0.6, 0.7, 0.4], [0.1, 0.2, 0.3, 0.0]), **changes)


LINEAR = draw([1, 2, FORGET, FORGET], shape=(1, 2, 2))


def labels(model):
    return [c for _, c in model.network.calls]


def test_forgotten_samples_are_shown_to_the_teacher_as_their_override():
    one = spied()
    one.generator_losses(LINEAR)
    assert labels(one.generator.model) == [[1, 2, FORGET, FORGET]]
    assert labels(one.fake_score) == [[1, 2, FORGET, FORGET]]
    assert labels(one.teacher) == [[1, 2, OVERRIDE, OVERRIDE]]
    assert one.teacher.network.calls[0][0] == one.fake_score.network.calls[0][0] == LINEAR.t.tolist()
    assert one.generator.model.network.calls[0][0] == [440] * 4


def test_the_fake_score_is_trained_on_the_forgotten_condition_itself():
    one = spied()
    one.fake_score_losses(LINEAR)
    assert labels(one.fake_score) == [[1, 2, FORGET, FORGET]]
    assert labels(one.teacher) == []


@pytest.mark.parametrize("size", [3, 0])
def test_updates_draw_as_many_conditions_and_such_steps_as_the_settings_say(size):
    one = spied(batch_size=5, forget_batch_size=size, t_min=10, t_max=12)
    for _ in range(10):
        one.update()
    drawn = one.fake_score.network.calls
    assert len(drawn) == 20
    for _, c in drawn:
        assert [label == FORGET for label in c] == [False] * 5 + [True] * size
    assert {step for t, _ in drawn for step in t} == {10, 11}


def test_the_fake_score_learns_from_the_error_that_the_settings_name():
    losses = {error: trainer(fake_score_loss=error).fake_score_losses(draw(MIXED)) for error in ("epsilon", "velocity")}
    signal_power = tiny_model().scheduler.alphas_cumprod[draw(MIXED).t]
    torch.testing.assert_close(losses["epsilon"], signal_power * losses["velocity"])


GUIDED = [1, 2, FORGET, FORGET, *[NULL] * 4]


@pytest.mark.parametrize(
    ("name", "fake_score_trained", "fake_score_judging", "teacher"),
    [
        ("fake_score_training_guidance_scale", GUIDED, GUIDED[:4], [1, 2, OVERRIDE, OVERRIDE]),
        ("fake_score_guidance_scale", GUIDED[:4], GUIDED, [1, 2, OVERRIDE, OVERRIDE]),
        ("guidance_scale", GUIDED[:4], GUIDED[:4], [1, 2, OVERRIDE, OVERRIDE, *[NULL] * 4]),
    ],
)
def test_each_guidance_scale_guides_its_own_network(name, fake_score_trained, fake_score_judging, teacher):
    one = spied(**{name: 2.0})
    one.fake_score_losses(LINEAR)
    one.generator_losses(LINEAR)
    assert labels(one.fake_score) == [fake_score_trained, fake_score_judging]
    assert labels(one.teacher) == [teacher]


def test_samples_that_are_not_finite_are_dropped_and_counted(monkeypatch):
    broken, sound = trainer(tiny_model(), broken_for(2)), trainer()
    first, second = draw(MIXED), draw(MIXED, seed=8)
    give(monkeypatch, first, second)
    losses = broken.update()
    finite = torch.tensor(MIXED) != 2
    give(monkeypatch, first[finite], second[finite])
    expected = sound.update()
    assert losses.dropped_samples == 2 * MIXED.count(2)
    assert expected.dropped_samples == 0
    assert torch.equal(losses.generator, expected.generator)
    assert torch.equal(losses.fake_score, expected.fake_score)
    assert torch.equal(weights(broken.fake_score), weights(sound.fake_score))
    assert torch.equal(weights(broken.generator.model), weights(sound.generator.model))


def test_an_update_without_a_single_finite_sample_fails_the_trial(monkeypatch):
    """With attention, which refuses empty batches."""
    one = trainer(tiny_model(attention=True), broken_for(1, attention=True))
    give(monkeypatch, draw([1, 1]))
    with pytest.raises(TrialFailed, match="diverged in update 1"):
        one.update()
