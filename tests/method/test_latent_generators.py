"""Generators that make latents: trained on them, judged and shown as images."""

import pytest
import torch
from diffusers import DiffusionPipeline
from tiny_latent_models import IMAGE_SHAPE, LATENT_SHAPE, save_dit, tiny_latent_model
from tiny_models import NAMES
from update_cases import trainer, weights

from sfd_sweep.method import one_step_pipeline
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model


@pytest.fixture(name="teacher")
def _teacher(tmp_path):
    return load_score_model(ModelFolder.open(str(save_dit(tmp_path / "teacher"))))


@torch.no_grad()
def test_a_generator_makes_latents_and_shows_images(teacher):
    one, c = OneStepGenerator(teacher, 440), torch.tensor([2, 0, 1])
    z = torch.randn(3, *LATENT_SHAPE, generator=torch.Generator().manual_seed(5))
    latents = one(z, c)
    scheduler = teacher.scheduler
    x_t = (1 - scheduler.alphas_cumprod[440]).sqrt() * z
    output = teacher.network(x_t, torch.tensor([440] * 3), class_labels=c).sample[:, :4]
    expected = scheduler.step(output, 440, x_t).pred_original_sample
    torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-5)
    images = one.generate(c, torch.Generator().manual_seed(5))
    assert images.shape == (3, *IMAGE_SHAPE)
    vae = teacher.decoder.vae
    torch.testing.assert_close(images, vae.decode(expected / 0.6).sample, rtol=1e-4, atol=1e-4)
    sample = one.sample(["cow"], seed=5)
    torch.testing.assert_close(sample, images[:1].clamp(-1, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loss", ["score_identity", "diff_instruct"])
def test_updates_move_generator_and_fake_score_and_neither_teacher_nor_autoencoder(teacher, loss):
    one = trainer(teacher, guidance_scale=1.5, loss=loss)
    networks = (one.teacher, one.fake_score, one.generator.model)
    before = [weights(network) for network in networks]
    decoder = weights(teacher.decoder.vae)
    for _ in range(2):
        losses = one.update()
        assert losses.generator.isfinite()
        assert losses.dropped_samples == 0
    changed = [not torch.equal(weights(network), old) for network, old in zip(networks, before, strict=True)]
    assert changed == [False, True, True]
    assert torch.equal(weights(teacher.decoder.vae), decoder)


def test_generator_average_and_teacher_share_one_autoencoder_that_no_training_state_holds(teacher):
    one = trainer(teacher)
    one.update()
    for model in (one.fake_score, one.generator.model, one.ema_generator.model):
        assert model.decoder is teacher.decoder
    trained = sum(parameter.numel() for parameter in teacher.parameters())
    networks = [tensor for name, tensor in one.state().items() if name.partition(".")[2].find("network.") >= 0]
    assert sum(tensor.numel() for tensor in networks) == 3 * trained
    assert not [name for name in one.state() if "vae" in name or "decoder" in name]


def test_a_run_that_goes_on_from_its_state_ends_as_one_without_interruption(teacher):
    whole, first, second = trainer(teacher), trainer(teacher), trainer(teacher, seed=9)
    for _ in range(4):
        whole.update()
    for _ in range(2):
        first.update()
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    for _ in range(2):
        second.update()
    assert torch.equal(weights(second.generator.model), weights(whole.generator.model))
    assert torch.equal(second.ema_generator.sample([0, 1]), whole.ema_generator.sample([0, 1]))


def test_a_saved_folder_is_whole(teacher, tmp_path):
    """It needs no teacher: with this package and with diffusers alone the images are the generator's."""
    one = trainer(teacher)
    one.update()
    generator = one.ema_generator
    generator.save(tmp_path / "generator")
    copy = OneStepGenerator.load(tmp_path / "generator")
    expected = generator.sample([2, 0, 1], seed=4)
    assert torch.equal(copy.sample([2, 0, 1], seed=4), expected)
    pipeline = DiffusionPipeline.from_pretrained(
        tmp_path / "generator",
        custom_pipeline=str(tmp_path / "generator"),
        trust_remote_code=True,
        low_cpu_mem_usage=False,
    )
    images = pipeline(labels=["cow", 0, "bee"], seeds=[4, 5, 6], output_type="pt").images
    torch.testing.assert_close(images, expected / 2 + 0.5, rtol=0, atol=1e-5)
    assert images.std() > 0.05


def test_the_pipeline_decodes_some_at_a_time(monkeypatch):
    one = OneStepGenerator(tiny_latent_model(), 440)
    names = {str(index): name for index, name in enumerate(NAMES)}
    pipeline = one_step_pipeline.OneStepPipeline(
        one.model.scheduler, transformer=one.model.network, vae=one.model.decoder.vae, id2label=names
    )
    sizes, decode = [], pipeline.vae.decode

    def counted(part):
        sizes.append(len(part))
        return decode(part)

    monkeypatch.setattr(pipeline.vae, "decode", counted)
    monkeypatch.setattr(one_step_pipeline, "PIXELS_AT_ONCE", 2 * 8 * 8)
    images = pipeline(labels=[0, 1, 2, 0, 1], seeds=[0, 1, 2, 3, 4], output_type="pt").images
    assert sizes == [2, 2, 1]
    torch.testing.assert_close(images, one.sample([0, 1, 2, 0, 1]) / 2 + 0.5, rtol=0, atol=1e-5)
