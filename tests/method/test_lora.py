"""Low-rank adapters on θ and ψ: what is trained is small, and nobody else notices."""

import sys
from itertools import chain

import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import load, save
from tiny_latent_models import tiny_latent_model
from tiny_models import linear_model, tiny_model
from tiny_text_models import PROMPTS, save_stable_diffusion
from torch import nn
from update_cases import FORGET, draw, give, gradients, settings, trainer, weights

from sfd_sweep.config import Resources
from sfd_sweep.errors import UserError
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.trainable_model import TrainableModel, adapted_layers
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model

RANK = 2
MIXED = [1, 2, 2, 1, 2, 1, FORGET, FORGET, FORGET, FORGET]
CHECKPOINTS = Resources(activation_checkpointing=True)
PROJECTIONS = ["to_k", "to_out.0", "to_q", "to_v"]


def text_model(folder):
    return load_score_model(ModelFolder.open(str(save_stable_diffusion(folder / "teacher"))), prompts=PROMPTS)


MODELS = {
    "U-Net without attention": lambda folder: tiny_model(),
    "U-Net with attention": lambda folder: tiny_model(attention=True),
    "transformer": lambda folder: tiny_latent_model(),
    "Stable Diffusion": text_model,
}


@pytest.fixture(name="teacher", params=MODELS)
def _teacher(request, tmp_path):
    return MODELS[request.param](tmp_path)


def batch_for(model, seed=7):
    return draw(MIXED, shape=model.sample_shape, seed=seed)


def after(steps, one):
    for _ in range(steps):
        one.update()
    return one


def adapters(model):
    return {name: each for name, each in model.named_parameters() if ".lora_" in name}


def beneath(model):
    """The weights of a model with adapters, by their name in the plain one."""
    named = model.named_parameters()
    return {name.replace(".base_layer", ""): each for name, each in named if ".lora_" not in name}


def test_with_fresh_adapters_all_networks_compute_what_the_teacher_does(teacher):
    one, batch = trainer(teacher, lora_rank=RANK), batch_for(teacher)
    for model in (one.fake_score, one.generator.model, one.ema_generator.model):
        assert torch.equal(
            model.forward(batch.z, batch.t, batch.c).output, teacher.forward(batch.z, batch.t, batch.c).output
        )


def test_in_one_stage_all_networks_are_on_the_teachers_own_weights(teacher):
    one = after(1, trainer(teacher, lora_rank=RANK))
    own = dict(teacher.named_parameters())
    for model in (one.fake_score, one.generator.model):
        found = beneath(model)
        assert found.keys() == own.keys()
        assert all(found[name] is own[name] for name in own)


def test_in_two_stages_the_generator_is_on_the_starts_own_weights():
    teacher, start = tiny_model(seed=0), tiny_model(seed=1)
    one = after(2, trainer(teacher, start, lora_rank=RANK))
    for model, base in ((one.fake_score, teacher), (one.generator.model, start)):
        own = dict(base.named_parameters())
        assert all(each is own[name] for name, each in beneath(model).items())
    assert torch.equal(weights(start), weights(tiny_model(seed=1)))
    assert torch.equal(weights(teacher), weights(tiny_model(seed=0)))


def test_updates_move_the_adapters_of_generator_and_fake_score_and_no_weight_beneath(teacher):
    before = weights(teacher).clone()
    one = after(3, trainer(teacher, lora_rank=RANK))
    assert torch.equal(weights(teacher), before)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    for model in (one.fake_score, one.generator.model):
        second_factors = [each for name, each in adapters(model).items() if ".lora_B" in name]
        assert all(factor.abs().max() > 0 for factor in second_factors)
    assert not {id(each) for each in adapters(one.fake_score).values()} & {
        id(each) for each in adapters(one.generator.model).values()
    }


def test_the_kept_generator_is_plain_and_makes_what_the_averaged_adapters_make(teacher):
    one, batch = after(3, trainer(teacher, lora_rank=RANK, ema_decay=0, generator_lr=1e-2)), batch_for(teacher)
    with torch.no_grad():  # without memory the average is the generator itself
        expected = one.generator(batch.z, batch.c)
        found = one.ema_generator(batch.z, batch.c)
        start = OneStepGenerator(teacher, 440)(batch.z, batch.c)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (expected - start).abs().max() > 1e-3
    plain = one.ema_generator.model
    assert plain.state_dict().keys() == teacher.state_dict().keys()
    assert not {id(each) for each in plain.parameters()} & {id(each) for each in teacher.parameters()}


def test_a_merged_weight_is_the_base_plus_the_product_of_its_averaged_factors():
    teacher = tiny_model(attention=True)
    one, name = trainer(teacher, lora_rank=RANK, ema_decay=0.5), "network.mid_block.attentions.0.to_q"
    followed = []
    for _ in range(2):
        one.update()
        followed.append([adapters(one.generator.model)[f"{name}.lora_{each}.default.weight"].clone() for each in "AB"])
    a, b = (2 / 11 * first + 9 / 11 * second for first, second in zip(*followed, strict=True))
    expected = teacher.get_parameter(f"{name}.weight") + b @ a
    torch.testing.assert_close(one.ema_generator.model.get_parameter(f"{name}.weight"), expected, rtol=0, atol=1e-7)


def test_a_saved_generator_is_one_like_any_other(tmp_path):
    one = after(2, trainer(tiny_model(attention=True), lora_rank=RANK))
    one.ema_generator.save(tmp_path / "generator")
    loaded = OneStepGenerator.load(tmp_path / "generator")
    torch.testing.assert_close(loaded.sample([1, 2]), one.ema_generator.sample([1, 2]), rtol=0, atol=1e-6)


def test_a_linear_layer_of_n_to_m_gets_rank_times_n_plus_m_weights():
    """Of 8 channels to 8 in each of the four projections of the one attention."""
    one = trainer(tiny_model(attention=True), lora_rank=3)
    assert sum(each.numel() for each in adapters(one.generator.model).values()) == 4 * 3 * (8 + 8)


@pytest.mark.parametrize("model", [tiny_model(attention=True), tiny_latent_model()], ids=["U-Net", "transformer"])
def test_where_there_is_attention_its_projections_alone_are_adapted(model):
    names = adapted_layers(model.network)
    assert sorted({name.partition(".to_")[1][1:] + name.partition(".to_")[2] for name in names}) == PROJECTIONS


def test_where_there_is_none_all_convolutions_and_linear_layers_are_adapted():
    network = tiny_model().network
    layers = {name for name, layer in network.named_modules() if type(layer) in {nn.Conv2d, nn.Linear}}
    assert set(adapted_layers(network)) == layers
    adapted = {name.partition(".lora_")[0] for name in adapters(trainer(lora_rank=RANK).fake_score)}
    assert adapted == {f"network.{name}" for name in layers}


def test_a_network_without_a_layer_to_adapt_is_refused():
    with pytest.raises(
        UserError, match="lora_rank: a LinearNetwork has no layer that could be adapted; set lora_rank 0"
    ):
        trainer(linear_model([0.5] * 4, [0.1] * 4), lora_rank=1)


def test_without_peft_a_rank_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        UserError, match=r"lora_rank 2 needs peft, which is not installed: pip install 'sfd-sweep\[lora"
    ):
        trainer(lora_rank=2)
    trainer(lora_rank=0).update()


def test_optimizers_and_state_hold_the_adapters_alone(teacher):
    one = after(1, trainer(teacher, lora_rank=RANK))
    trained = list(adapters(one.generator.model).values())
    for optimizer in (one.generator_optimizer, one.fake_score_optimizer):
        (group,) = optimizer.adam.param_groups
        assert [each.shape for each in group["params"]] == [each.shape for each in trained]
    elements = sum(tensor.numel() for tensor in one.state().values() if tensor.is_floating_point())
    counters = 2 * len(trained)  # Adam's count of steps, for each parameter
    assert elements == 7 * sum(each.numel() for each in trained) + counters


def test_a_run_with_adapters_goes_on_from_a_file_bit_for_bit(teacher):
    options = {"lora_rank": RANK, "beta1": 0.5}
    whole = after(5, trainer(teacher, **options))
    first = after(2, trainer(teacher, **options))
    second = trainer(teacher, **options, seed=99)
    second.load_state(load(save(first.state())))
    after(3, second)
    assert second.state().keys() == whole.state().keys()
    for name, tensor in whole.state().items():
        assert torch.equal(second.state()[name], tensor), name
    assert torch.equal(weights(second.ema_generator.model), weights(whole.ema_generator.model))


@pytest.mark.parametrize(("kept", "error"), [("fake_score.", KeyError), ("", RuntimeError)])
def test_a_state_that_lacks_adapters_or_has_others_is_refused(kept, error):
    state = trainer(lora_rank=RANK).state()
    broken = {name: each for name, each in state.items() if not name.startswith("generator.")}
    if error is RuntimeError:
        broken = {**state, "generator.network.other.weight": torch.zeros(1)}
    with pytest.raises(error):
        trainer(lora_rank=RANK).load_state(broken)


def test_equal_seeds_draw_equal_adapters_and_leave_other_random_numbers_alone():
    before = torch.random.get_rng_state()
    first, same, other = (trainer(lora_rank=RANK, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    name = "generator.network.conv_in.lora_A.default.weight"
    assert torch.equal(first.state()[name], same.state()[name])
    assert not torch.equal(first.state()[name], other.state()[name])


def moved(one):
    """With adapters that do something, after three updates."""
    return after(3, one)


@pytest.mark.parametrize("loss", ["score_identity", "diff_instruct"])
def test_activation_checkpoints_compute_again_with_each_networks_own_adapters(monkeypatch, teacher, loss):
    found = []
    for resources in (Resources(), CHECKPOINTS, Resources(activation_checkpointing=True, micro_batch_size=3)):
        one = moved(trainer(teacher.copy(), lora_rank=RANK, loss=loss, resources=resources))
        give(monkeypatch, batch_for(teacher), batch_for(teacher, seed=8))
        one.update()
        monkeypatch.undo()
        found.append((gradients(one.fake_score), gradients(one.generator.model)))
    for checkpointed in found[1:]:
        for one, other in zip(checkpointed, found[0], strict=True):
            assert other.abs().max() > 0
            torch.testing.assert_close(one, other, rtol=0, atol=1e-3 * float(other.abs().max()))


def test_the_generators_gradient_is_that_of_the_merged_networks():
    """Through φ and ψ into x_0, and from there into the factors: dL/dB = dL/dW·Aᵀ and dL/dA = Bᵀ·dL/dW."""
    one = moved(trainer(tiny_model(attention=True), lora_rank=RANK, resources=CHECKPOINTS, ema_decay=0))
    plain = trainer(one.teacher, one.ema_generator.model)
    plain.fake_score = TrainableModel(one.fake_score, one.teacher).plain()
    batch = draw(MIXED)
    one.generator_optimizer.adam.zero_grad()
    for each in (one, plain):
        each.generator_losses(batch).sum().backward()
    for name in adapted_layers(plain.generator.model.network):
        layer = one.generator.model.network.get_submodule(name)
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        whole = plain.generator.model.network.get_parameter(f"{name}.weight").grad
        tolerance = 1e-3 * float(whole.abs().max())
        torch.testing.assert_close(b.grad, whole @ a.T, rtol=1e-2, atol=tolerance)
        torch.testing.assert_close(a.grad, b.T @ whole, rtol=1e-2, atol=tolerance)


def test_adapters_learn_a_fixed_batch(monkeypatch, teacher):
    """The fake score's denoising loss falls, while it is the same batch of a generator that hardly moves."""
    one = trainer(teacher, lora_rank=RANK, generator_lr=1e-6, fake_score_lr_ratio=1e4)
    give(monkeypatch, *[batch_for(teacher, seed=seed) for _ in range(30) for seed in (7, 8)])
    losses = [float(one.update().fake_score) for _ in range(30)]
    assert losses[-1] < 0.95 * losses[0]


def test_training_all_weights_is_the_default_and_adapts_nothing():
    assert settings().lora_rank == 0
    one = trainer()
    networks = (one.fake_score, one.generator.model)
    assert not [name for model in networks for name in adapters(model)]
    assert len({id(each) for each in chain(*(model.parameters() for model in (one.teacher, *networks)))}) == 3 * len(
        list(one.teacher.parameters())
    )
    assert isinstance(one.ema_generator.model.network, UNet2DModel)
