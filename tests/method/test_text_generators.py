"""Generators that make images of prompts: trained, kept, and loaded by diffusers alone."""

import sys

import pytest
import torch
from diffusers import DiffusionPipeline
from tiny_latent_models import IMAGE_SHAPE, LATENT_SHAPE
from tiny_text_models import PROMPTS, save_stable_diffusion
from update_cases import trainer, weights

from sfd_sweep.errors import UserError
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.one_step_pipeline import OneStepPipeline
from sfd_sweep.models import conditioning
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model

UNSEEN = "a cow, that flies"


@pytest.fixture(name="teacher")
def _teacher(tmp_path):
    folder = ModelFolder.open(str(save_stable_diffusion(tmp_path / "teacher")))
    return load_score_model(folder, prompts=PROMPTS)


@pytest.fixture(name="saved")
def _saved(teacher, tmp_path):
    OneStepGenerator(teacher, 625).save(tmp_path / "generator")
    return tmp_path / "generator"


def pipeline_of(folder):
    return DiffusionPipeline.from_pretrained(
        folder, custom_pipeline=str(folder), trust_remote_code=True, low_cpu_mem_usage=False
    )


@torch.no_grad()
def test_a_generator_makes_latents_of_prompts_in_one_step_and_shows_images(teacher):
    one, c = OneStepGenerator(teacher, 625), torch.tensor([2, 0])
    z = torch.randn(2, *LATENT_SHAPE, generator=torch.Generator().manual_seed(5))
    states = teacher.conditioning.encoder([PROMPTS[2], PROMPTS[0]], "cpu")
    x_t = (1 - teacher.scheduler.alphas_cumprod[625]).sqrt() * z
    output = teacher.network(x_t, torch.tensor([625, 625]), encoder_hidden_states=states).sample
    expected = teacher.scheduler.step(output, 625, x_t).pred_original_sample
    torch.testing.assert_close(one(z, c), expected, rtol=1e-4, atol=1e-4)
    images = one.generate(c, torch.Generator().manual_seed(5))
    assert images.shape == (2, *IMAGE_SHAPE)
    torch.testing.assert_close(images, teacher.decoder.vae.decode(expected / 0.6).sample, rtol=1e-3, atol=1e-3)


def test_any_prompt_can_be_asked_for_and_an_image_is_its_seeds_and_its_prompts_alone(teacher):
    one = OneStepGenerator(teacher, 625)
    images = one.sample([PROMPTS[1], UNSEEN, PROMPTS[1], ""], seed=3)
    for row, prompt in enumerate((PROMPTS[1], UNSEEN, PROMPTS[1], "")):
        torch.testing.assert_close(one.sample([prompt], seed=3 + row)[0], images[row], rtol=0, atol=1e-5)
    same_noise = [one.sample([prompt], seed=3) for prompt in (PROMPTS[1], UNSEEN)]
    assert (same_noise[0] - same_noise[1]).abs().max() > 1e-4


@pytest.mark.parametrize("guidance", [{}, {"guidance_scale": 4.5, "fake_score_guidance_scale": 4.5}])
def test_updates_move_generator_and_fake_score_and_nothing_else(teacher, guidance):
    one = trainer(teacher, **guidance)
    networks = (one.teacher, one.fake_score, one.generator.model)
    before = [weights(network) for network in networks]
    frozen = (teacher.decoder.vae, teacher.conditioning.encoder.model)
    kept = [weights(module) for module in frozen]
    for _ in range(2):
        losses = one.update()
        assert losses.generator.isfinite()
        assert losses.dropped_samples == 0
    changed = [not torch.equal(weights(network), old) for network, old in zip(networks, before, strict=True)]
    assert changed == [False, True, True]
    assert all(torch.equal(weights(module), old) for module, old in zip(frozen, kept, strict=True))
    assert {model.conditioning for model in networks} == {teacher.conditioning}
    assert not [name for name in one.state() if "text" in name or "prompt" in name or "vae" in name]


def test_activation_checkpoints_change_nothing(teacher):
    from sfd_sweep.config import Resources

    plain, saving = trainer(teacher.copy()), trainer(teacher, resources=Resources(activation_checkpointing=True))
    plain.update()
    saving.update()
    torch.testing.assert_close(weights(saving.generator.model), weights(plain.generator.model), rtol=0, atol=1e-6)


def test_a_saved_folder_is_whole(teacher, tmp_path):
    """It needs no teacher: with this package and with diffusers alone the images are the generator's."""
    one = trainer(teacher)
    one.update()
    generator = one.ema_generator
    generator.save(tmp_path / "generator")
    asked = [PROMPTS[2], UNSEEN, ""]
    expected = generator.sample(asked, seed=4)
    assert torch.equal(OneStepGenerator.load(tmp_path / "generator").sample(asked, seed=4), expected)
    pipeline = pipeline_of(tmp_path / "generator")
    images = pipeline(prompt=asked, seeds=[4, 5, 6], output_type="pt").images
    torch.testing.assert_close(images, expected / 2 + 0.5, rtol=0, atol=1e-5)
    assert images.std() > 0.05
    (image,) = pipeline(prompt="a bee", generator=torch.Generator().manual_seed(0)).images
    assert image.size == (8, 8)


def test_a_folder_that_diffusers_has_saved_is_still_one(saved, tmp_path):
    pipeline_of(saved).save_pretrained(tmp_path / "again")
    first, second = (OneStepGenerator.load(folder).sample([UNSEEN]) for folder in (saved, tmp_path / "again"))
    assert torch.equal(first, second)


def test_a_loaded_generator_has_the_prompts_that_it_is_given(saved):
    one = OneStepGenerator.load(saved, prompts=PROMPTS[:2])
    assert one.model.kind is conditioning.PROMPTS
    assert one.condition_names == PROMPTS[:2]
    c, noise = torch.tensor([1, 0]), torch.Generator().manual_seed(0)
    other = OneStepGenerator.load(saved)
    other.model = other.model.with_conditioning(other.model.conditioning.select(PROMPTS[:2], other.model.device)[0])
    assert torch.equal(one.generate(c, noise), other.generate(c, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"labels": [1]}, "makes images of prompts: give a prompt, and no labels"),
        ({}, "makes images of prompts"),
        ({"prompt": ["a", "b"], "seeds": [1]}, "2 images need 2 seeds, not 1"),
    ],
)
def test_the_pipeline_says_what_it_wants(saved, arguments, words):
    with pytest.raises(ValueError, match=words):
        pipeline_of(saved)(**arguments)


def test_a_pipeline_of_classes_wants_no_prompt():
    shipped = OneStepGenerator.load("builtin:digits-distilled").model
    pipeline = OneStepPipeline(shipped.scheduler, unet=shipped.network, id2label={"0": "0"})
    with pytest.raises(ValueError, match="makes images of classes: give labels, and no prompt"):
        pipeline(prompt="a zero")


def test_a_folder_of_classes_needs_no_transformers(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert OneStepGenerator.load("builtin:digits-distilled").sample([3]).shape == (1, 1, 8, 8)


def test_a_prompt_that_is_too_long_is_refused(saved):
    with pytest.raises(UserError, match="16 tokens, begin and end included"):
        OneStepGenerator.load(saved).sample(["far too long a prompt for it"])
