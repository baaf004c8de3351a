"""The update of pretraining, and the recipes that have names."""

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel
from diffusers.models.attention_processor import Attention
from recipes import changed
from safetensors.torch import load, save
from torch import nn

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.errors import UserError
from sfd_sweep.teachers.examples import LabeledExamples
from sfd_sweep.teachers.networks import check_images, new_teacher
from sfd_sweep.teachers.pretrainer import Pretrainer
from sfd_sweep.teachers.recipes import PRESETS, Pretraining

DIGITS = load_images("builtin:digits")
EXAMPLES = LabeledExamples(DIGITS)
TINY = Pretraining(channels=(8, 8), norm_groups=4, steps=20, batch_size=16)
PHOTOGRAPHS = {
    "prediction_type": "epsilon",
    "lr_schedule": "constant",
    "warm_up_steps": 4,
    "dropout": 0.2,
    "horizontal_flips": True,
}


def after(steps: int, pretrainer: Pretrainer) -> Pretrainer:
    for _ in range(steps):
        pretrainer.update()
    return pretrainer


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def digits_losses_by_hand(steps: int) -> list[float]:
    """The preset `digits`, written out: v-prediction, AdamW under one cycle, clipped gradients."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            block_out_channels=[16, 32],
            layers_per_block=1,
            down_block_types=["DownBlock2D"] * 2,
            up_block_types=["UpBlock2D"] * 2,
            norm_num_groups=8,
            add_attention=False,
            num_class_embeds=11,
        )
    noise = DDPMScheduler(beta_start=1e-4, beta_end=0.02)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=3000)
    random = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(steps):
        rows = torch.randint(len(DIGITS), (64,), generator=random)
        c = torch.where(torch.rand(64, generator=random) < 0.12, 10, DIGITS.labels[rows])
        t = torch.randint(1000, (64,), generator=random)
        epsilon = torch.randn(64, 1, 8, 8, generator=random)
        x_0 = DIGITS.images[rows]
        output = network(noise.add_noise(x_0, epsilon, t), t, class_labels=c).sample
        loss = nn.functional.mse_loss(output, noise.get_velocity(x_0, epsilon, t))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        losses.append(loss.item())
    return losses


def test_the_digits_preset_trains_as_it_is_written_out_by_hand():
    pretrainer = Pretrainer(EXAMPLES, PRESETS["digits"])
    losses = [pretrainer.update().item() for _ in range(8)]
    assert losses == pytest.approx(digits_losses_by_hand(8), rel=1e-4)


def test_the_average_is_exponential_from_the_first_step_on():
    pretrainer = Pretrainer(EXAMPLES, changed(TINY, {"ema_decay": 0.75}))
    bias = "network.conv_out.bias"
    seen = [after(1, pretrainer).model.state_dict()[bias].clone() for _ in range(3)]
    expected = 0.75 * (0.75 * seen[0] + 0.25 * seen[1]) + 0.25 * seen[2]
    torch.testing.assert_close(pretrainer.ema_model.state_dict()[bias], expected)


@pytest.mark.parametrize("micro_batch_size", [1, 5, 16])
def test_micro_batches_add_up_to_the_gradient_of_the_whole(micro_batch_size):
    def gradient(**changes) -> torch.Tensor:
        pretrainer = Pretrainer(EXAMPLES, changed(TINY, {"gradient_clip": 1e9, **changes}))
        pretrainer.update()
        return torch.cat([weight.grad.flatten() for weight in pretrainer.model.parameters()])

    whole, parts = gradient(), gradient(micro_batch_size=micro_batch_size)
    assert whole.abs().max() > 0.1
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, PHOTOGRAPHS], ids=["digits", "photographs"])
@pytest.mark.parametrize("interrupted_at", [0, 1, 7])
def test_a_run_resumed_from_a_file_ends_as_one_without_interruption(changes, interrupted_at):
    recipe = changed(TINY, changes)
    whole = after(20, Pretrainer(EXAMPLES, recipe))
    first = after(interrupted_at, Pretrainer(EXAMPLES, recipe))
    second = Pretrainer(EXAMPLES, recipe)
    second.load_state(load(save(first.state())))
    assert second.step == interrupted_at
    assert_equal(after(20 - interrupted_at, second).state(), whole.state())


@pytest.mark.parametrize("of", ["epsilon", "v_prediction"])
def test_the_loss_is_the_plain_error_of_what_is_predicted(of):
    """A network that puts out zeros errs by all of ε, or by all of v = a·ε - b·x_0."""
    pretrainer = Pretrainer(EXAMPLES, changed(TINY, {"prediction_type": of, "batch_size": 512}))
    for weight in pretrainer.model.network.conv_out.parameters():
        nn.init.zeros_(weight)
    random = torch.Generator().manual_seed(0)
    rows = torch.randint(len(DIGITS), (512,), generator=random)
    torch.rand(512, generator=random)
    t = torch.randint(1000, (512,), generator=random)
    epsilon = torch.randn(512, 1, 8, 8, generator=random)
    noise = DDPMScheduler(beta_start=1e-4, beta_end=0.02)
    target = epsilon if of == "epsilon" else noise.get_velocity(DIGITS.images[rows], epsilon, t)
    assert pretrainer.update().item() == pytest.approx(target.square().mean().item(), rel=1e-4)


def test_the_loss_of_flow_matching_is_the_plain_error_of_the_difference_of_noise_and_image():
    """Conditional flow matching, written out with diffusers' scheduler."""
    pretrainer = Pretrainer(EXAMPLES, changed(TINY, {"process": "flow_matching", "batch_size": 64}))
    random = torch.Generator().manual_seed(0)
    rows = torch.randint(len(DIGITS), (64,), generator=random)
    c = torch.where(torch.rand(64, generator=random) < 0.12, 10, DIGITS.labels[rows])
    t = torch.randint(1000, (64,), generator=random)
    epsilon = torch.randn(64, 1, 8, 8, generator=random)
    flow = FlowMatchEulerDiscreteScheduler()  # its steps count down
    x_0, time = DIGITS.images[rows], flow.timesteps[999 - t]
    with torch.no_grad():
        x_t = flow.scale_noise(x_0, time, epsilon)
        output = pretrainer.model.network(x_t, time, class_labels=c).sample
    assert pretrainer.update().item() == pytest.approx(nn.functional.mse_loss(output, epsilon - x_0).item(), rel=1e-4)


def test_every_second_photograph_is_seen_mirrored():
    pixels = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    pixels[..., :4] = 255
    half = LabeledImages(pixels, torch.zeros(1, dtype=torch.int64), ("half",))
    seen = []

    class Watching(Pretrainer):
        def backward(self, batch):
            seen.append(batch.x_0)
            return super().backward(batch)

    Watching(LabeledExamples(half), changed(TINY, {"horizontal_flips": True, "batch_size": 400})).update()
    as_it_is = (seen[0] == half.images[0]).flatten(1).all(1)
    mirrored = (seen[0] == half.images[0].flip(-1)).flatten(1).all(1)
    assert bool((as_it_is ^ mirrored).all())
    assert 150 < int(mirrored.sum()) < 250


def test_the_learning_rate_warms_up_and_then_stays():
    recipe = changed(TINY, {"lr_schedule": "constant", "warm_up_steps": 4, "lr": 0.4})
    pretrainer = Pretrainer(EXAMPLES, recipe)
    rates = []
    for _ in range(6):
        rates.append(pretrainer.optimizer.param_groups[0]["lr"])
        pretrainer.update()
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_dropout_is_at_work_in_training_and_never_in_the_teacher():
    pretrainer = Pretrainer(EXAMPLES, changed(TINY, {"dropout": 0.5}))
    x_t, t, c = torch.zeros(2, 1, 8, 8), torch.tensor([5, 5]), torch.tensor([1, 1])

    def outputs(model):
        with torch.no_grad():
            return [model.forward(x_t, t, c).output for _ in range(2)]

    first, second = outputs(pretrainer.model)
    assert not torch.equal(first, second)
    after(2, pretrainer)
    first, second = outputs(pretrainer.ema_model)
    assert torch.equal(first, second)
    assert not any(module.training for module in pretrainer.ema_model.modules())
    assert not any(weight.requires_grad for weight in pretrainer.ema_model.parameters())


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_global_random_numbers_neither_matter_nor_change(dropout):
    def run(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        loss = after(2, Pretrainer(EXAMPLES, changed(TINY, {"dropout": dropout}))).update()
        number = torch.rand(())
        torch.manual_seed(seed)
        assert torch.equal(number, torch.rand(()))
        return loss

    with torch.random.fork_rng():
        assert torch.equal(run(1), run(2))


def test_bfloat16_is_for_products_alone():
    pretrainer = Pretrainer(EXAMPLES, changed(TINY, {"precision": "bfloat16"}))
    exact = Pretrainer(EXAMPLES, TINY)
    losses = [pretrainer.update() for _ in range(3)]
    expected = [exact.update() for _ in range(3)]
    assert torch.stack(losses) == pytest.approx(torch.stack(expected).numpy(), rel=0.02)
    assert losses[0] != expected[0]
    state = pretrainer.state()
    assert {tensor.dtype for name, tensor in state.items() if "weight" in name} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in state.values())


def photographs(size: int) -> LabeledImages:
    return LabeledImages(
        torch.zeros(2, 3, size, size, dtype=torch.uint8),
        torch.arange(2),
        tuple(f"class {index}" for index in range(10)),
    )


def published(preset: str) -> UNet2DModel:
    examples = LabeledExamples(photographs(PRESETS[preset].image_size))
    with torch.device("meta"):
        return new_teacher(examples, PRESETS[preset]).network


def test_the_published_network_has_its_published_size():
    """`google/ddpm-cifar10-32` has 35,746,307 weights, and here there are 11 labels of 4·128 numbers."""
    weights = published("ddpm-cifar10").parameters()
    assert sum(weight.numel() for weight in weights) == 35_746_307 + 11 * 512


@pytest.mark.parametrize(
    ("preset", "size", "widths"), [("ddpm-cifar10", 32, (1, 2, 2, 2)), ("ddpm-stl10", 64, (1, 2, 2, 2, 4))]
)
def test_a_published_network_is_as_wide_as_the_release_says_and_attends_at_16_with_one_head(preset, size, widths):
    network = published(preset)
    assert network.config.sample_size == size
    assert network.config.block_out_channels == tuple(128 * width for width in widths)
    assert {module.heads for module in network.modules() if isinstance(module, Attention)} == {1}
    kinds = network.config.down_block_types
    assert size // 2 ** kinds.index("AttnDownBlock2D") == 16
    assert sum("Attn" in kind for kind in [*kinds, *network.config.up_block_types]) == 2
    assert {module.p for module in network.modules() if isinstance(module, nn.Dropout)} == {0.0, 0.1}


@pytest.mark.parametrize(
    ("shape", "changes", "message"),
    [
        ((1, 8, 6), {}, "square images, and these are 8×6"),
        ((3, 36, 36), {"channels": (8, 8, 8, 8)}, "halves its images 3 times"),
        ((3, 32, 32), {"attention_sizes": (64, 16)}, "feature maps of 32, 16, and none of 64"),
        ((3, 32, 32), {"attention_sizes": (16,), "attention_head_dim": 6}, "8 channels do not fall into heads of 6"),
        ((3, 32, 32), {"middle_attention": True, "attention_head_dim": 32}, "8 channels do not fall into heads of 32"),
    ],
)
def test_images_that_do_not_fit_the_network_are_refused(shape, changes, message):
    with pytest.raises(UserError, match=message):
        check_images(shape, changed(TINY, changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": ()},
        {"channels": (8, 12), "norm_groups": 8},
        {"process": "flow_matching", "prediction_type": "epsilon"},
        {"warm_up_steps": 5},
        {"label_dropout": 1.1},
        {"batch_size": "16"},
        {"color": "blue"},
    ],
)
def test_a_recipe_is_sound_or_refused(changes):
    with pytest.raises(UserError, match="^--set"):
        changed(Pretraining(), changes)
