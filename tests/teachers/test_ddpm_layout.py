"""The research code's U-Net and its diffusers folder are one function."""

from math import prod
from pathlib import Path

import pytest
import torch
from research_unet import CIFAR, STL, ResearchUNet, Sizes, random_weights

from sfd_sweep.errors import UserError
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model, save_score_model
from sfd_sweep.teachers.ddpm_layout import score_model
from sfd_sweep.teachers.research_checkpoint import Network, NetworkWeights, Weights


def weights_of(tensors) -> NetworkWeights:
    return NetworkWeights(origin=Path("ckpt.pth"), network=Network.TEACHER, weights=Weights.EMA, tensors=tensors)


def names_of(sizes: Sizes) -> list[str]:
    return [f"class {index}" for index in range(sizes.classes)]


def refusal(tensors, image_size: int | None = None) -> str:
    with pytest.raises(UserError) as raised:
        score_model(weights_of(tensors), image_size)
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith("ckpt.pth: ")
    return message


@pytest.mark.parametrize(
    ("sizes", "size"),
    [
        pytest.param(Sizes(), 32, id="smallest"),
        pytest.param(CIFAR, 32, id="cifar10"),
        pytest.param(STL, 64, id="stl10"),
        pytest.param(Sizes(ch_mult=(1, 1, 3), attention_levels=(0, 2)), 8, id="attention at two resolutions"),
        pytest.param(Sizes(ch_mult=(1,), attention_levels=(), classes=1), 4, id="one resolution, one class"),
    ],
)
def test_the_folder_predicts_what_the_research_code_predicts_at_every_step_and_label(sizes, size, tmp_path):
    tensors = random_weights(sizes)
    told = None if size > 8 else size  # the smallest ones do not tell their images' size
    save_score_model(score_model(weights_of(tensors), told), tmp_path / "teacher", index={})
    folder = ModelFolder.open(str(tmp_path / "teacher"))
    assert folder.sample_shape == (sizes.image_channels, size, size)
    assert folder.null_label == sizes.classes
    assert (folder.prediction_type, folder.diffusion_steps) == ("epsilon", 1000)

    # In double precision, so that a difference is one of formulas; the step's sines remain in single precision.
    model, research = load_score_model(folder).double(), ResearchUNet(tensors)
    x_t = torch.randn(1, *folder.sample_shape, generator=torch.Generator().manual_seed(0)).double()
    cases = [(440, c) for c in [*range(sizes.classes), None]] + [(t, 0) for t in (0, 1, 999)]
    with torch.no_grad():
        for t, c in cases:
            label = torch.tensor([folder.null_label if c is None else c])
            found = model.forward(x_t, torch.tensor([t]), label).epsilon
            torch.testing.assert_close(found, research(x_t, t, c), rtol=0, atol=1e-5)


def test_in_single_precision_the_difference_is_rounding():
    tensors = random_weights(CIFAR)
    model = score_model(weights_of(tensors))
    x_t = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = model.forward(x_t, torch.tensor([712, 712]), torch.tensor([3, 10])).epsilon
    expected = torch.cat([ResearchUNet(tensors)(x_t[:1], 712, 3), ResearchUNet(tensors)(x_t[1:], 712, None)])
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=2e-5)


def test_the_weights_of_these_tests_make_every_part_of_the_network_matter():
    research, x_t = ResearchUNet(random_weights()), torch.ones(1, 1, 8, 8)
    outputs = [research(x_t, t, c) for t, c in [(440, 0), (440, 1), (440, None), (441, 0)]]
    for index, output in enumerate(outputs):
        for other in outputs[:index]:
            assert (output - other).abs().max() > 0.01


def test_the_schedule_is_the_linear_one_of_the_research_code():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alphas = (1 - betas).cumprod(0).sqrt().float()
    torch.testing.assert_close(score_model(weights_of(random_weights())).schedule.alphas, alphas, rtol=1e-5, atol=0)


def test_a_generator_makes_of_noise_what_the_research_code_makes_in_one_step(tmp_path):
    tensors = random_weights()
    OneStepGenerator(score_model(weights_of(tensors)), 440).save(tmp_path / "generator")
    generator = OneStepGenerator.load(tmp_path / "generator")
    z = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    kept = float((1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)[440])  # ᾱ
    x_t = (1 - kept) ** 0.5 * z
    expected = x_t / kept**0.5 - (1 / kept - 1) ** 0.5 * ResearchUNet(tensors)(x_t, 440, 1)
    with torch.no_grad():
        torch.testing.assert_close(generator(z, torch.tensor([1])), expected.float(), rtol=0, atol=1e-4)


def test_the_cifar10_network_is_the_published_one_with_a_second_embedding():
    sizes = Sizes(ch=128, ch_mult=(1, 2, 2, 2), num_res_blocks=2, image_channels=3, classes=10)
    shapes = sizes.shapes()
    widths = sum(shape[0] for name, shape in shapes.items() if name.endswith("temb_cemb_proj.bias"))
    mlp, wide_mlp = (128 * width + width + width * width + width for width in (512, 1024))
    unconditional = 35_746_307  # of DDPM's network for CIFAR-10, without classes (35.7 million in its paper)
    conditional = unconditional + 512 * widths + mlp + 11 * 128
    assert sum(map(prod, shapes.values())) == conditional

    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    imported = sum(parameter.numel() for parameter in score_model(weights_of(tensors)).parameters())
    assert imported == conditional - 2 * mlp - 11 * 128 + wide_mlp + 11 * 1024


def test_weights_in_half_precision_are_read():
    halves = {name: tensor.half() for name, tensor in random_weights().items()}
    model = score_model(weights_of(halves))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    x_t = torch.ones(1, 1, 32, 32)
    with torch.no_grad():
        found = model.double().forward(x_t.double(), torch.tensor([9]), torch.tensor([1])).epsilon
    torch.testing.assert_close(found, ResearchUNet(halves)(x_t, 9, 1), rtol=0, atol=1e-5)


def test_the_variances_that_one_configuration_carries_along_unused_are_left_out():
    assert score_model(weights_of(random_weights() | {"logvar": torch.zeros(1000)})).conditioning.null == 3


@pytest.mark.parametrize(
    "name",
    [
        "conv_in.weight",
        "classes_emb.weight",
        "null_classes_emb",
        "cemb.dense.1.bias",
        "temb.dense.0.weight",
        "down.0.block.0.conv1.weight",
        "down.0.block.0.norm2.bias",
        "down.1.attn.0.proj_out.weight",
        "down.0.downsample.conv.weight",
        "mid.attn_1.q.bias",
        "up.1.block.1.nin_shortcut.weight",
        "up.1.upsample.conv.bias",
        "norm_out.weight",
    ],
)
def test_a_missing_weight_is_named(name):
    tensors = random_weights()
    del tensors[name]
    assert f"{name} is missing" in refusal(tensors)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("conv_out.weight", (2, 32, 3, 3), "conv_out.weight has the shape (2, 32, 3, 3), not (1, 32, 3, 3)"),
        ("conv_in.weight", (32, 1, 3), "conv_in.weight has the shape (32, 1, 3), not one of 4 dimensions"),
        ("conv_in.weight", (64, 1, 3, 3), "conv_in.weight has the shape (64, 1, 3, 3), not (32, 1, 3, 3)"),
        ("null_classes_emb", (1, 32), "null_classes_emb has the shape (1, 32), not (32,)"),
        ("mid.attn_1.k.weight", (64, 64), "mid.attn_1.k.weight has the shape (64, 64), not (64, 64, 1, 1)"),
        ("mid.block_1.temb_cemb_proj.weight", (64, 128), "not (64, 256)"),
        ("down.0.block.0.conv1.weight", (40, 32, 3, 3), "its widths (40, 64) are no multiples of 32"),
        ("down.0.block.0.conv1.weight", (0, 32, 3, 3), "its widths (0, 64) are no multiples of 32"),
        ("film.weight", (3,), "film.weight has no place in it"),
        ("down.0.block.0.conv_shortcut.weight", (32, 32, 3, 3), "conv_shortcut.weight has no place in it"),
    ],
)
def test_a_weight_of_another_network_is_named(name, shape, words):
    assert words in refusal(random_weights() | {name: torch.zeros(shape)})


def test_an_unconditional_network_is_refused():
    tensors = {
        name.replace("temb_cemb_proj", "temb_proj"): tensor
        for name, tensor in random_weights().items()
        if "cemb.dense" not in name and "classes" not in name
    }
    assert "only the label-conditional U-Net" in refusal(tensors)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_a_training_that_diverged_are_refused(value):
    tensors = random_weights()
    tensors["up.0.block.0.conv1.weight"][0, 0, 0, 0] = value
    assert "up.0.block.0.conv1.weight" in refusal(tensors)


@pytest.mark.parametrize("levels", [(), (0, 1)])
def test_a_network_that_of_unknown_image_size_needs_one(levels):
    tensors = random_weights(Sizes(attention_levels=levels))
    assert "give --size" in refusal(tensors)
    assert score_model(weights_of(tensors), 24).sample_shape == (1, 24, 24)


def test_a_size_that_cannot_be_halved_often_enough_is_refused():
    assert "must be a multiple of 2, not 33" in refusal(random_weights(), 33)
