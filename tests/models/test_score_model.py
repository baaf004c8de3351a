"""Guidance, and what a forward costs."""

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from tiny_models import CLASSES, NULL, PREDICTION_TYPES, linear_model, tiny_model

from sfd_sweep.errors import UserError
from sfd_sweep.models.conditioning import ClassLabels
from sfd_sweep.models.score_model import ScoreModel


@pytest.fixture(name="batch")
def _batch():
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(6, 1, 4, 4, generator=generator),
        torch.randint(38, 712, (6,), generator=generator),
        torch.randint(CLASSES, (6,), generator=generator),
    )


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 4.5])
def test_guidance_moves_the_predicted_image_away_from_the_unconditional_one(kind, scale, batch):
    x_t, t, c = batch
    model = tiny_model(kind)
    conditional = model.forward(x_t, t, c).x_0
    unconditional = model.forward(x_t, t, torch.full_like(c, NULL)).x_0
    expected = unconditional + scale * (conditional - unconditional)
    torch.testing.assert_close(model.guided(x_t, t, c, scale).x_0, expected, rtol=1e-4, atol=1e-4)
    assert (conditional - unconditional).abs().max() > 1e-3


def test_a_scale_of_one_costs_one_forward_and_any_other_two():
    model = linear_model([0.5] * 4, [0.1] * 4)
    x_t, t, c = torch.zeros(2, 1, 2, 2), torch.tensor([5, 6]), torch.tensor([0, 2])
    model.guided(x_t, t, c, 1.0)
    assert model.network.calls == [([5, 6], [0, 2])]
    model.guided(x_t, t, c, 1.5)
    assert model.network.calls[1:] == [([5, 6, 5, 6], [0, 2, NULL, NULL])]


def test_guidance_is_refused_without_a_null_label(batch):
    model = tiny_model(null_label=False)
    model.guided(*batch, 1.0)
    with pytest.raises(UserError, match="null label"):
        model.guided(*batch, 1.5)


def test_a_score_model_never_drops_out():
    network = UNet2DModel(
        sample_size=4,
        in_channels=1,
        out_channels=1,
        block_out_channels=[8],
        down_block_types=["DownBlock2D"],
        up_block_types=["UpBlock2D"],
        norm_num_groups=4,
        add_attention=False,
        dropout=0.5,
        num_class_embeds=1,
    ).train()
    model = ScoreModel(network, DDPMScheduler(), ClassLabels(("ant",), has_null=False))
    x_t, t, c = torch.ones(2, 1, 4, 4), torch.tensor([3, 3]), torch.tensor([0, 0])
    assert torch.equal(model.forward(x_t, t, c).output, model.forward(x_t, t, c).output)


def test_a_copy_is_independent(batch):
    model = tiny_model()
    copy = model.copy()
    before = model.forward(*batch).output
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.add_(1)
    assert torch.equal(model.forward(*batch).output, before)
    assert not torch.equal(copy.forward(*batch).output, before)


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_what_a_network_puts_out_in_bfloat16_is_mixed_and_read_in_float32(scale, batch):
    x_t, t, c = batch
    model = tiny_model()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        prediction = model.guided(x_t, t, c, scale)
        raw = [model.network(x_t, t, class_labels=label).sample for label in (c, torch.full_like(c, NULL))]
    assert raw[0].dtype == torch.bfloat16
    conditional, unconditional = (output.float() for output in raw)
    expected = unconditional + scale * (conditional - unconditional)
    assert prediction.output.dtype == prediction.x_0.dtype == torch.float32
    torch.testing.assert_close(prediction.output, expected, rtol=0, atol=0.02 * float(expected.abs().max()))
