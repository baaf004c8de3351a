"""Teachers: trained from images, and sampled in many steps."""

import pytest
import torch
from diffusers import DDIMScheduler
from tiny_models import tiny_model

from sfd_sweep.datasets.sources import load_images
from sfd_sweep.models.samplers import GRID, sample_ddim
from sfd_sweep.teachers.pretraining import pretrain
from sfd_sweep.teachers.recipes import Pretraining


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_ddim_is_that_of_diffusers(scale):
    model = tiny_model("epsilon")
    c = torch.tensor([0, 2])
    images = sample_ddim(model, c, torch.Generator().manual_seed(0), steps=5, guidance_scale=scale)

    sampler = DDIMScheduler(clip_sample=True, timestep_spacing="trailing", prediction_type="epsilon")
    sampler.set_timesteps(5)
    x_t = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for t in sampler.timesteps:
        with torch.no_grad():
            conditional, unconditional = (
                model.network(x_t, t.expand(2), class_labels=labels).sample for labels in (c, torch.tensor([3, 3]))
            )
        x_t = sampler.step(unconditional + scale * (conditional - unconditional), t, x_t).prev_sample
    torch.testing.assert_close(images, x_t.clamp(-1, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [10, 20, 50])
def test_the_network_is_told_the_noise_level_that_a_sample_has(steps):
    sampler = DDIMScheduler(timestep_spacing=GRID)
    sampler.set_timesteps(steps)
    taken = sampler.timesteps - sampler.config.num_train_timesteps // steps  # as its `step` has it
    assert taken[:-1].tolist() == sampler.timesteps[1:].tolist()


RECIPE = Pretraining(channels=(8, 8), norm_groups=4, steps=30, batch_size=32, ema_decay=0.5, seed=1)


def test_pretraining_learns_and_is_repeatable():
    digits = load_images("builtin:digits")

    def denoising_error(model):
        generator = torch.Generator().manual_seed(0)
        x_0, c = digits.images[:256], digits.labels[:256]
        t, epsilon = torch.randint(1000, (256,), generator=generator), torch.randn(x_0.shape, generator=generator)
        with torch.no_grad():
            prediction = model.forward(model.schedule.diffuse(x_0, t, epsilon), t, c)
        return float(prediction.denoising_error(x_0, epsilon, "velocity").square().mean())

    untrained = pretrain(digits, recipe=Pretraining(channels=(8, 8), norm_groups=4, steps=2, lr=1e-12))
    seen = []
    first, second = (pretrain(digits, recipe=RECIPE, progress=lambda *news: seen.append(news)) for _ in range(2))
    assert denoising_error(first) < 0.7 * denoising_error(untrained)
    assert first.null_label == 10
    assert first.prediction_type == "v_prediction"
    assert not any(parameter.requires_grad for parameter in first.parameters())
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name
    assert [news[:2] for news in seen] == [(10, 30), (20, 30), (30, 30)] * 2
    assert seen[:3] == seen[3:]


@pytest.mark.parametrize(("label_dropout", "null_learns"), [(0.0, False), (1.0, True)])
def test_dropped_labels_train_the_null_label_and_no_other(label_dropout, null_learns):
    digits = load_images("builtin:digits")

    def embeddings(**changes):
        recipe = Pretraining(channels=(8, 8), norm_groups=4, steps=10, ema_decay=0.0, **changes)
        model = pretrain(digits, recipe=recipe)
        return model.network.class_embedding.weight

    moved = (embeddings(label_dropout=label_dropout) - embeddings(lr=1e-12)).abs().mean(1)
    classes, null = float(moved[:10].min()), float(moved[10])
    assert (null > 10 * classes) if null_learns else (classes > 10 * null)
