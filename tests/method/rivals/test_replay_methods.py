"""Methods that train a generator towards images, against formulas in plain torch on a tiny network."""

import math

import pytest
import torch
from tiny_models import NULL, linear_model, tiny_model
from update_cases import FORGET, FORGET_0, OVERRIDE, draw, gradients, settings, weights

from sfd_sweep.config import Resources
from sfd_sweep.method.batch import FixedOverride, ForgettingTask
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.methods import REPLAYING
from sfd_sweep.method.rivals import selective_amnesia
from sfd_sweep.method.rivals.replay import Models, ReplayBatch
from sfd_sweep.method.rivals.saliency_unlearning import salient
from sfd_sweep.method.rivals.selective_amnesia import fisher_information

METHODS = ("ascent", "esd", "sa", "salun")
SMALL = {"fisher_samples": 3, "teacher_samples": 5, "batch_size": 4, "forget_batch_size": 3}


def compute(_what, make):
    return make()


def method(name, *, task=FORGET_0, kept=compute, seed=0, **changes):
    models = Models(tiny_model(seed=1), tiny_model(seed=2), kept)
    chosen = settings(method=name, **{**SMALL, **changes})
    return REPLAYING[name](models, task, chosen, seed=seed, resources=Resources())


def moved(one, seed=5):
    """Move θ away from the start, so that no loss is zero."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in one.generator.model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=random))
    return one


def batch_of(c, seed=7):
    batch = draw(c, seed=seed)
    image = torch.rand(batch.z.shape, generator=torch.Generator().manual_seed(seed + 1)) * 2 - 1
    return ReplayBatch(**vars(batch), image=image)


def x_0(model, z, c, t_init):
    """The one-step generator, written out for a network that predicts v."""
    a = model.scheduler.alphas_cumprod[t_init].sqrt().float()
    b = (1 - model.scheduler.alphas_cumprod[t_init]).sqrt().float()
    v = model.network(b * z, torch.tensor([t_init]).expand(len(z)), class_labels=c).sample
    return a * b * z - b * v


def expected_losses(name, one, batch):
    theta, start, t_init = one.generator.model, one.start.model, one.settings.t_init
    losses = []
    for z, c, image in zip(batch.z.split(1), batch.c.split(1), batch.image.split(1), strict=True):
        found = x_0(theta, z, c, t_init)
        before = x_0(start, z, c, t_init).detach()
        if int(c) != FORGET:
            losses.append(((found - before) ** 2).sum())
        elif name == "esd":
            eta, null = one.settings.negative_guidance_scale, torch.tensor([NULL])
            wanted = (1 - eta) * before + eta * x_0(start, z, null, t_init).detach()
            losses.append(((found - wanted) ** 2).sum())
        elif name == "salun":
            losses.append(((found - x_0(theta, z, torch.tensor([OVERRIDE]), t_init).detach()) ** 2).sum())
        else:
            losses.append((-1 if name == "ascent" else 1) * ((found - image) ** 2).sum())
    return torch.stack(losses)


@pytest.mark.parametrize("name", METHODS)
def test_losses_and_their_gradients_are_those_of_the_formula(name):
    one = moved(method(name, negative_guidance_scale=1.5) if name == "esd" else method(name))
    batch = batch_of([1, FORGET, 2, FORGET])
    found, expected = one.generator_losses(batch), expected_losses(name, one, batch)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    found.sum().backward()
    ours = gradients(one.generator.model).clone()
    one.generator.model.zero_grad()
    expected.sum().backward()
    torch.testing.assert_close(ours, gradients(one.generator.model), rtol=1e-3, atol=1e-3)
    assert ours.abs().max() > 0.1


@pytest.mark.parametrize("name", METHODS)
def test_without_a_weight_on_forgetting_nothing_changes(name):
    one = method(name, forget_weight=0)
    before = weights(one.generator.model).clone()
    losses = [one.update() for _ in range(2)]
    assert torch.equal(weights(one.generator.model), before)
    assert torch.equal(weights(one.ema_generator.model), before)
    assert all(float(each.generator) == 0 for each in losses)


@pytest.mark.parametrize("name", METHODS)
def test_equal_seeds_give_equal_results_and_other_seeds_others(name):
    def trained(seed):
        one = method(name, seed=seed, forget_weight=1)
        before = weights(one.generator.model).clone()
        for _ in range(2):
            one.update()
        assert not torch.equal(weights(one.generator.model), before)
        return weights(one.ema_generator.model)

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_method_continues_bit_for_bit(name):
    whole, first, second = (method(name, forget_weight=1) for _ in range(3))
    for _ in range(4):
        whole.update()
    for _ in range(2):
        first.update()
    second.load_state({key: tensor.clone() for key, tensor in first.state().items()})
    for _ in range(2):
        second.update()
    expected, found = whole.state(), second.state()
    assert expected.keys() == found.keys()
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key


@pytest.mark.parametrize("name", ["sa", "salun"])
def test_micro_batches_change_nothing_but_the_order_of_sums(name):
    whole = method(name, forget_weight=1)
    models = Models(tiny_model(seed=1), tiny_model(seed=2), compute)
    parts = REPLAYING[name](models, FORGET_0, whole.settings, seed=0, resources=Resources(micro_batch_size=2))
    torch.testing.assert_close(whole.update().generator, parts.update().generator)


def test_samples_whose_loss_is_not_finite_are_dropped_and_counted():
    one = method("sa", batch_size=8, forget_weight=1)
    broken = int((method("sa", batch_size=8)._draw().c == 1).sum())
    before = weights(one.generator.model).clone()
    with torch.no_grad():
        one.start.model.network.class_embedding.weight[1] = torch.nan
    assert one.update().dropped_samples == broken > 0
    assert weights(one.generator.model).isfinite().all()
    assert not torch.equal(weights(one.generator.model), before)


def test_esd_trains_on_what_is_forgotten_alone():
    assert set(method("esd")._draw().c.tolist()) == {FORGET}
    assert set(method("sa", batch_size=40)._draw().c.tolist()) == {FORGET, 1, 2}


def test_the_images_of_selective_amnesia_are_uniform_noise():
    image = method("sa", forget_batch_size=2000)._draw().image
    assert image.min() >= -1
    assert image.max() <= 1
    assert float(image.mean()) == pytest.approx(0, abs=0.02)
    assert float(image.var()) == pytest.approx(1 / 3, abs=0.02)


def test_ascent_leads_away_from_samples_of_the_teacher_under_their_own_condition():
    task = ForgettingTask((2,), (0, 1), FixedOverride({0: 2, 1: 2}))
    one = method("ascent", task=task, forget_batch_size=20)
    pool = Models(tiny_model(seed=1), tiny_model(seed=2), compute).teacher_samples((0, 1), 5, 64)[0]
    batch = one._draw()
    for c, image in zip(batch.c.tolist(), batch.image, strict=True):
        among = [any(torch.equal(image, other) for other in pool[row]) for row in range(2)]
        assert among == [c == 0, c == 1]


def test_fisher_information_is_that_of_a_linear_network():
    """For G(z, c) = gain_c·b·z + shift_c of n pixels it is n·b² for the gain and n for the shift, over all classes."""
    model = linear_model([0.5, -1.0, 2.0, 0.0], [0.1, 0.2, 0.3, 0.0])
    generator = OneStepGenerator(model, 440)
    parameters = dict(model.named_parameters())
    fisher = fisher_information(generator, parameters, [0, 1], 4000, 64)
    b_squared = float(1 - model.scheduler.alphas_cumprod[440])
    expected = {"gains": 4 * b_squared / 2, "shifts": 4 / 2}
    for name, value in expected.items():
        assert fisher[f"network.{name}"].tolist() == pytest.approx([value, value, 0, 0], rel=0.1)


def test_the_penalty_of_selective_amnesia_has_the_gradient_that_is_added():
    one = method("sa", fisher_weight=3.0)
    start = [parameter.detach().clone() for parameter in one.generator.model.parameters()]
    assert float(one.penalty()) == 0
    moved(one)
    parameters = list(one.generator.model.parameters())
    penalty = sum(
        3 * (fisher * (parameter - before) ** 2).sum()
        for fisher, parameter, before in zip(one._fisher, parameters, start, strict=True)
    )
    expected = torch.autograd.grad(penalty, parameters)
    one.change_gradients(parameters)
    assert float(one.penalty()) == pytest.approx(float(penalty.detach()), rel=1e-5)
    assert float(penalty.detach()) > 0
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_the_fisher_information_holds_weights_back():
    free, held = method("sa", fisher_weight=0, forget_weight=1), method("sa", fisher_weight=1e9, forget_weight=1)
    start = weights(free.generator.model).clone()
    for one in (free, held):
        for _ in range(30):
            one.update()
    distances = [(weights(one.generator.model) - start).norm() for one in (free, held)]
    assert distances[1] < distances[0] / 2


def test_saliency_unlearning_trains_the_salient_share_alone():
    one = method("salun", forget_weight=1, salient_share=0.25)
    start = weights(one.generator.model).clone()
    for _ in range(3):
        one.update()
    mask = torch.cat([part.flatten() for part in one._mask]).bool()
    changed = weights(one.generator.model) != start
    assert not changed[~mask].any()
    assert changed[mask].any()
    assert int(mask.sum()) == round(0.25 * len(mask))


def test_salient_weights_are_those_of_the_largest_saliency():
    saliency = [torch.tensor([[0.1, 0.9], [0.5, 0.0]]), torch.tensor([0.7, 0.2])]
    assert [part.tolist() for part in salient(saliency, 0.5)] == [[[0, 1], [1, 0]], [1, 0]]
    assert [part.tolist() for part in salient(saliency, 1.0)] == [[[1, 1], [1, 1]], [1, 1]]


def test_the_saliency_is_the_gradient_of_the_error_to_the_teachers_samples():
    one = method("salun", teacher_samples=400)
    model = linear_model([0.5, -1.0, 2.0, 0.0], [0.1, 0.2, 0.3, 0.0])
    models = Models(linear_model([0.0] * 4, [0.7] * 4), model, compute)
    one = REPLAYING["salun"](models, FORGET_0, one.settings, seed=0, resources=Resources())
    gains, shifts = one._saliency(models.teacher_samples((FORGET,), 400, 64)[0])
    b_squared = float(1 - model.scheduler.alphas_cumprod[440])
    # Σ over 400 samples of 4 pixels of 2·(gain·b·z + shift - 0.7)·(b·z, 1), by its expectation over z
    assert float(gains[FORGET]) == pytest.approx(400 * 4 * 2 * 0.5 * b_squared, rel=0.15)
    assert float(shifts[FORGET]) == pytest.approx(400 * 4 * 2 * 0.6, rel=0.15)
    assert gains[1:].tolist() == shifts[1:].tolist() == [0, 0, 0]


def test_what_a_method_needs_is_prepared_once(monkeypatch):
    kept, made = {}, []

    def keep(what, make):
        if what not in kept:
            made.append(what)
            kept[what] = make()
        return kept[what]

    first = method("sa", kept=keep)
    monkeypatch.setattr(selective_amnesia, "fisher_information", lambda *_: pytest.fail("made again"))
    second = method("sa", kept=keep, seed=3, forget_weight=2)
    assert len(made) == 1
    assert all(torch.equal(*pair) for pair in zip(first._fisher, second._fisher, strict=True))
    monkeypatch.undo()
    method("sa", kept=keep, fisher_samples=4)
    assert len(made) == 2
    assert math.isfinite(float(sum(part.sum() for part in first._fisher)))


@pytest.mark.parametrize("name", METHODS)
def test_adapters_alone_are_trained_and_merged(name):
    one = method(name, lora_rank=2, forget_weight=1)
    base = one.start.model.state_dict()
    before = {key: tensor.clone() for key, tensor in base.items()}
    for _ in range(2):
        one.update()
    assert all(torch.equal(base[key], tensor) for key, tensor in before.items())
    assert all("lora_" in key for key in one._theta.parameters)
    assert not torch.equal(weights(one.ema_generator.model), weights(one.start.model))
