"""float16 with a scaled loss. Its rule and its arithmetic need no GPU: a scale is a scale in float32 too."""

import pytest
import torch
from safetensors.torch import load, save
from tiny_models import tiny_model
from torch import nn
from update_cases import FORGET, broken_for, draw, give, gradients, trainer, weights

from sfd_sweep.config import Resources
from sfd_sweep.errors import TrialFailed

MIXED = [1, 2, 2, 1, 2, 1, FORGET, FORGET, FORGET, FORGET]
FLOAT16 = Resources(precision="float16", gpus_per_worker=1)


FIRST = 2.0**16


def scaler(value=FIRST, **options):
    """One that is ready for gradients of losses that it has not scaled."""
    made = torch.amp.GradScaler("cpu", init_scale=value, **options)
    made.scale(torch.ones(()))
    return made


def scaled(value=FIRST, **options):
    """A trainer in float32 whose losses are scaled."""
    one = trainer(**options)
    for optimizer in (one.generator_optimizer, one.fake_score_optimizer):
        optimizer.scaler = scaler(value)
    return one


def scales(one):
    return one.fake_score_optimizer.scaler.get_scale(), one.generator_optimizer.scaler.get_scale()


def overflowing(monkeypatch, one, above, *, of="generator"):
    """Let the gradients of a network be infinite wherever its loss is scaled by more than that; the scales tried."""
    trained = {"generator": one.generator.model, "fake_score": one.fake_score}[of]
    optimizer = {"generator": one.generator_optimizer, "fake_score": one.fake_score_optimizer}[of]
    weight, tried = next(trained.parameters()), []

    def hook(gradient):
        tried.append(optimizer.scaler.get_scale())
        return torch.full_like(gradient, torch.inf) if tried[-1] > above else gradient

    requires_grad = weight.requires_grad
    weight.requires_grad_(True).register_hook(hook)
    weight.requires_grad_(requires_grad)
    return tried


@pytest.mark.parametrize("value", [2.0**-10, 2.0, 2.0**16])
@pytest.mark.parametrize("resources", [Resources(), Resources(micro_batch_size=3)], ids=["whole", "micro-batches"])
def test_a_power_of_two_leaves_every_gradient_and_loss_as_it_is_bit_for_bit(value, resources):
    plain, one = trainer(resources=resources), scaled(value, resources=resources)
    for _ in range(2):
        expected, found = plain.update(), one.update()
    assert torch.equal(found.generator, expected.generator)
    assert torch.equal(found.fake_score, expected.fake_score)
    assert torch.equal(gradients(one.generator.model), gradients(plain.generator.model))
    assert torch.equal(gradients(one.fake_score), gradients(plain.fake_score))
    assert torch.equal(weights(one.ema_generator.model), weights(plain.ema_generator.model))


@pytest.mark.parametrize("of", ["generator", "fake_score"])
def test_an_update_that_overflows_is_done_again_at_half_the_scale(monkeypatch, of):
    plain, one = trainer(), scaled()
    tried = overflowing(monkeypatch, one, above=2.0**14, of=of)
    plain.update()
    losses = one.update()
    assert tried == [2.0**16, 2.0**15, 2.0**14]
    assert losses.dropped_samples == 0
    assert scales(one) == ((2.0**14, 2.0**16) if of == "fake_score" else (2.0**16, 2.0**14))
    assert torch.equal(weights(one.generator.model), weights(plain.generator.model))
    assert torch.equal(weights(one.fake_score), weights(plain.fake_score))
    assert torch.equal(one.random.get_state(), plain.random.get_state())


def test_gradients_that_always_overflow_fail_the_trial_and_move_no_weight(monkeypatch):
    one = scaled()
    before = weights(one.fake_score).clone()
    overflowing(monkeypatch, one, above=0, of="fake_score")
    with pytest.raises(TrialFailed, match="diverged in update 1: gradients overflow, however the loss is scaled"):
        one.update()
    assert torch.equal(weights(one.fake_score), before)


def test_samples_that_are_not_finite_are_dropped_and_the_scale_is_not_to_blame(monkeypatch):
    one, plain = scaled(teacher=tiny_model(), start=broken_for(2)), trainer(tiny_model(), broken_for(2))
    for each in (one, plain):
        give(monkeypatch, draw(MIXED), draw(MIXED, seed=8))
        assert each.update().dropped_samples == 2 * MIXED.count(2)
    assert scales(one) == (FIRST, FIRST)
    assert torch.equal(weights(one.generator.model), weights(plain.generator.model))


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
def test_one_gradient_that_is_not_finite_is_an_overflow(monkeypatch, bad):
    one, plain = scaled(), trainer()
    weight = one.generator.model.network.conv_in.weight

    def spoil_the_first(gradient):
        if one.generator_optimizer.scaler.get_scale() == FIRST:
            gradient = gradient.index_fill(0, torch.tensor([0]), bad)
        return gradient

    weight.register_hook(spoil_the_first)
    for each in (one, plain):
        each.update()
    assert scales(one) == (FIRST, FIRST / 2)
    assert torch.equal(weights(one.generator.model), weights(plain.generator.model))


def test_updates_without_an_overflow_double_the_scale(monkeypatch):
    one = scaled()
    one.generator_optimizer.scaler = scaler(growth_interval=3)
    tried = overflowing(monkeypatch, one, above=2.0**14)
    for _ in range(8):
        one.update()
    kept = [2.0**14] * 3 + [2.0**15, *[2.0**14] * 3] + [2.0**15, *[2.0**14] * 2]
    assert tried == [2.0**16, 2.0**15, *kept]


def test_without_float16_the_loss_is_not_scaled_and_no_state_holds_a_scale():
    one = trainer()
    one.update()
    assert scales(one) == (1, 1)
    assert not [name for name in one.state() if "scale" in name]


def test_a_float16_run_goes_on_from_a_file_bit_for_bit_scales_and_all():
    def fresh(seed=0):
        one = trainer(resources=FLOAT16, seed=seed)
        for optimizer in (one.generator_optimizer, one.fake_score_optimizer):
            optimizer.scaler.set_growth_interval(3)
        return one

    whole, first, second = fresh(), fresh(), fresh(seed=9)
    for _ in range(5):
        whole.update()
    for _ in range(2):
        first.update()
    second.load_state(load(save(first.state())))
    for _ in range(3):
        second.update()
    assert second.state().keys() == whole.state().keys()
    for name, tensor in whole.state().items():
        assert torch.equal(second.state()[name], tensor), name
    assert "generator_loss_scale.value" in whole.state()


@pytest.mark.parametrize("options", [{}, {"lora_rank": 2}], ids=["all weights", "adapters"])
def test_in_float16_networks_are_short_and_weights_gradients_moments_and_average_float32(options):
    one, seen = trainer(tiny_model(), **options, resources=FLOAT16), set()
    for model in (one.teacher, one.fake_score, one.generator.model):
        for layer in model.modules():
            if type(layer) is nn.Conv2d:
                layer.register_forward_hook(lambda layer, inputs, output: seen.add(output.dtype))
    losses = one.update()
    assert seen == {torch.float16}
    assert losses.generator.dtype == losses.fake_score.dtype == torch.float32
    kept = {name: each for name, each in one.state().items() if each.is_floating_point() and "loss_scale" not in name}
    assert {tensor.dtype for tensor in kept.values()} == {torch.float32}
    assert gradients(one.fake_score).dtype == gradients(one.generator.model).dtype == torch.float32


def test_float16_gives_the_losses_and_gradients_of_float32_to_its_rounding(monkeypatch):
    """With 11 bits of a mantissa, and a fake score that is not the teacher, as with bfloat16."""
    found = []
    for resources in (FLOAT16, Resources()):
        one = trainer(guidance_scale=1.5, fake_score_lr_ratio=30, resources=resources)
        give(monkeypatch, draw(MIXED), draw(MIXED, seed=8))
        found.append((one.update(), gradients(one.fake_score), gradients(one.generator.model)))
    (losses, *rounded), (exact_losses, *exact) = found
    torch.testing.assert_close(losses.fake_score, exact_losses.fake_score, rtol=3e-3, atol=0)
    torch.testing.assert_close(losses.generator, exact_losses.generator, rtol=0.02, atol=0)
    for one, other in zip(rounded, exact, strict=True):
        assert torch.cosine_similarity(one, other, dim=0) > 0.999


def test_in_float16_gradients_beyond_its_greatest_number_lower_the_scale_until_they_fit():
    """A fake score's loss weighted 10,000 times: at the first scale its gradients are beyond 65504."""
    one, plain = (trainer(retain_weight=1e4, resources=resources) for resources in (FLOAT16, Resources()))
    before = weights(one.fake_score).clone()
    assert one.update().dropped_samples == 0
    plain.update()
    assert one.fake_score_optimizer.scaler.get_scale() < FIRST
    assert not torch.equal(weights(one.fake_score), before)
    assert torch.cosine_similarity(gradients(one.fake_score), gradients(plain.fake_score), dim=0) > 0.999
