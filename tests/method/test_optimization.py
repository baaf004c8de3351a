"""What spares time and memory: it must not change what is computed, and must really spare it."""

from dataclasses import replace

import pytest
import torch
from tiny_models import CLASSES, linear_model, tiny_model
from torch import nn
from update_cases import FORGET, FORGET_0, broken_for, draw, give, gradients, trainer, weights

from sfd_sweep.config import Resources
from sfd_sweep.method.batch import ClassifierOverride

MIXED = [1, 2, 2, 1, 2, 1, FORGET, FORGET, FORGET, FORGET]
GUIDED = {"guidance_scale": 1.5, "fake_score_training_guidance_scale": 1.3}
MICRO_BATCHES = [1, 3, 6, 9, 10, 1000]
CHECKPOINTS = Resources(activation_checkpointing=True)
BFLOAT16 = Resources(precision="bfloat16")


def updated(monkeypatch, one, draws=None):
    """The losses of an update on given draws, and both gradients."""
    give(monkeypatch, *(draws or (draw(MIXED), draw(MIXED, seed=8))))
    losses = one.update()
    return losses, gradients(one.fake_score), gradients(one.generator.model)


def assert_same_update(found, expected, rtol):
    assert found[0].dropped_samples == expected[0].dropped_samples
    for name in ("fake_score", "generator"):
        torch.testing.assert_close(getattr(found[0], name), getattr(expected[0], name), rtol=rtol, atol=rtol)
    for one, other in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=rtol * float(other.abs().max()))


@pytest.mark.parametrize("size", MICRO_BATCHES)
def test_micro_batches_have_the_losses_and_gradients_of_the_whole(monkeypatch, size):
    whole = updated(monkeypatch, trainer(**GUIDED))
    parts = updated(monkeypatch, trainer(**GUIDED, resources=Resources(micro_batch_size=size)))
    assert_same_update(parts, whole, rtol=1e-5)


def test_micro_batches_are_of_the_same_draws():
    whole, parts = trainer(), trainer(resources=Resources(micro_batch_size=3))
    for one in (whole, parts):
        one.update()
    assert torch.equal(whole.random.get_state(), parts.random.get_state())


@pytest.mark.parametrize(("size", "seen"), [(None, [10]), (4, [4, 4, 2]), (10, [10]), (11, [10])])
def test_no_more_samples_than_a_micro_batch_are_in_a_network_at_a_time(monkeypatch, size, seen):
    one = trainer(linear_model([0.5, 0.6, 0.7, 0.4], [0.1, 0.2, 0.3, 0.0]), resources=Resources(micro_batch_size=size))
    give(monkeypatch, *(draw(MIXED, shape=(1, 2, 2), seed=seed) for seed in (7, 8)))
    one.update()
    samples = {name: [len(c) for _, c in model.network.calls] for name, model in networks(one).items()}
    assert samples == {"teacher": seen, "fake_score": seen * 2, "generator": seen * 2}


@pytest.mark.parametrize("size", MICRO_BATCHES)
def test_a_sample_that_is_not_finite_counts_in_no_micro_batch(monkeypatch, size):
    resources = Resources(micro_batch_size=size)
    found = updated(monkeypatch, trainer(tiny_model(), broken_for(2), resources=resources))
    finite = torch.tensor(MIXED) != 2
    draws = draw(MIXED)[finite], draw(MIXED, seed=8)[finite]
    losses, *expected = updated(monkeypatch, trainer(), draws)
    assert_same_update(found, (replace(losses, dropped_samples=2 * MIXED.count(2)), *expected), rtol=1e-5)


def kept_for_backward(losses_of, batch, *networks):
    """The bytes that autograd keeps of the losses' forward, weights aside."""
    own = {parameter.untyped_storage().data_ptr() for model in networks for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = losses_of(batch)  # holds all that is kept, so that no address is used twice
    assert losses.requires_grad
    return sum(kept.values())


def networks(one):
    return {"teacher": one.teacher, "fake_score": one.fake_score, "generator": one.generator.model}


def test_checkpoints_keep_less_than_half_of_all_three_networks_activations():
    """Of teacher and fake score too, although their weights are frozen and they run in evaluation mode."""
    kept = {}
    for resources in (Resources(), CHECKPOINTS):
        one = trainer(tiny_model(), resources=resources)
        in_generator_update = kept_for_backward(one.generator_losses, draw(MIXED), *networks(one).values())
        one.fake_score.requires_grad_(True)
        in_fake_score_update = kept_for_backward(one.fake_score_losses, draw(MIXED), *networks(one).values())
        kept[resources] = in_generator_update, in_fake_score_update
        assert not any(model.network.training for model in networks(one).values())
    for plain, checkpointed in zip(*kept.values(), strict=True):
        assert checkpointed < 0.5 * plain


@pytest.mark.parametrize("loss", ["score_identity", "diff_instruct"])
@pytest.mark.parametrize("resources", [Resources(), BFLOAT16, Resources(micro_batch_size=3)], ids=str)
def test_checkpoints_leave_the_gradients_as_they_are(monkeypatch, loss, resources):
    plain = updated(monkeypatch, trainer(loss=loss, **GUIDED, resources=resources))
    checkpointed = resources.model_copy(update={"activation_checkpointing": True})
    found = updated(monkeypatch, trainer(loss=loss, **GUIDED, resources=checkpointed))
    assert_same_update(found, plain, rtol=1e-6)


def convolutions(model, seen):
    """Note what type every convolution of a model puts out."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, inputs, output: seen.append(output.dtype))


@pytest.mark.parametrize(("resources", "dtype"), [(Resources(), torch.float32), (BFLOAT16, torch.bfloat16)])
def test_every_network_computes_in_the_precision_that_is_asked_for(resources, dtype):
    one = trainer(tiny_model(), **GUIDED, resources=resources)
    for model in networks(one).values():
        seen = []
        convolutions(model, seen)
        one.update()
        assert set(seen) == {dtype}


def test_in_bfloat16_weights_gradients_moments_and_average_stay_float32():
    one = trainer(resources=BFLOAT16)
    losses = one.update()
    assert losses.generator.dtype == losses.fake_score.dtype == torch.float32
    assert {tensor.dtype for tensor in one.state().values() if tensor.is_floating_point()} == {torch.float32}
    assert gradients(one.fake_score).dtype == gradients(one.generator.model).dtype == torch.float32


def test_the_kept_generator_makes_its_images_in_float32():
    one = trainer(resources=BFLOAT16)
    one.update()
    seen = []
    convolutions(one.ema_generator.model, seen)
    one.ema_generator.generate(torch.tensor([1, 2]), torch.Generator().manual_seed(0))
    assert set(seen) == {torch.float32}


def test_a_classifier_that_chooses_overrides_looks_in_float32():
    seen = []

    def classifier(images):
        layer = nn.Conv2d(1, CLASSES, images.shape[-1])
        logits = layer(images).flatten(1)
        seen.append((images.dtype, logits.dtype))
        return logits

    task = replace(FORGET_0, override=ClassifierOverride(classifier, (FORGET,)))
    trainer(task=task, resources=BFLOAT16).update()
    assert seen == [(torch.float32, torch.float32)]


def test_bfloat16_gives_the_losses_and_gradients_of_float32_to_its_rounding(monkeypatch):
    """With 8 bits of a mantissa; and a fake score that is not the teacher, whose difference would be rounding alone."""
    found, expected = (trainer(**GUIDED, fake_score_lr_ratio=30, resources=each) for each in (BFLOAT16, Resources()))
    (losses, *rounded), (exact_losses, *exact) = (updated(monkeypatch, one) for one in (found, expected))
    torch.testing.assert_close(losses.fake_score, exact_losses.fake_score, rtol=0.02, atol=0)
    torch.testing.assert_close(losses.generator, exact_losses.generator, rtol=0.1, atol=0)
    for one, other in zip(rounded, exact, strict=True):
        assert torch.cosine_similarity(one, other, dim=0) > 0.98


def test_a_bfloat16_run_goes_on_from_its_state_bit_for_bit():
    whole, first, second = (trainer(resources=BFLOAT16, seed=seed) for seed in (0, 0, 9))
    for _ in range(3):
        whole.update()
    first.update()
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    for _ in range(2):
        second.update()
    assert torch.equal(weights(whole.generator.model), weights(second.generator.model))


@pytest.mark.parametrize(("precision", "expected"), [("float32", "ieee"), ("bfloat16", "ieee"), ("tf32", "tf32")])
def test_an_update_sets_the_gpus_products_in_forward_and_backward(precision, expected):
    one = trainer(tiny_model(), resources=Resources(precision=precision, gpus_per_worker=1))
    seen = []

    def look(*_):
        seen.append((torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision))

    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    one.teacher.network.conv_in.register_forward_hook(look)
    one.teacher.network.conv_in.register_full_backward_hook(look)
    one.update()
    assert seen == [(expected, expected)] * 2
    assert before == (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision)
