"""The generator that a user takes home, and its twin: the folder that loads without this package."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from tiny_latent_models import tiny_latent_model
from tiny_models import FLOW, NAMES, PREDICTION_TYPES, save_teacher, tiny_model

from sfd_sweep.errors import UserError
from sfd_sweep.method import one_step_pipeline
from sfd_sweep.method.generator import PIPELINE, OneStepGenerator
from sfd_sweep.method.one_step_pipeline import OneStepPipeline
from sfd_sweep.models.conditioning import ClassLabels
from sfd_sweep.models.folder import BUILTIN_MODELS

LABELS = [2, 0, 1, 2]


def generator(kind="v_prediction", t_init=440):
    return OneStepGenerator(tiny_model(kind), t_init)


def pipeline_of(one):
    names = {str(index): name for index, name in enumerate(one.condition_names)}
    return OneStepPipeline(one.model.scheduler, unet=one.model.network, t_init=one.t_init, id2label=names)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_an_image_is_the_denoised_noise_of_the_first_step(kind):
    one, z = generator(kind), torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    scheduler = one.model.scheduler
    x_t = (1 - scheduler.alphas_cumprod[440]).sqrt() * z
    c = torch.tensor([0, 1, 2])
    with torch.no_grad():
        output = one.model.network(x_t, 440, class_labels=c).sample
        expected = scheduler.step(output, 440, x_t).pred_original_sample
        torch.testing.assert_close(one(z, c), expected, rtol=1e-4, atol=1e-5)


def test_an_image_of_a_flow_is_the_end_of_one_straight_line():
    one, z = generator(FLOW), torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    u, c = 0.441, torch.tensor([0, 1, 2])
    sigma = 3 * u / (1 + 2 * u)
    with torch.no_grad():
        velocity = one.model.network(sigma * z, torch.tensor(sigma * 1000), class_labels=c).sample
        torch.testing.assert_close(one(z, c), sigma * z - sigma * velocity, rtol=1e-4, atol=1e-5)


def test_an_image_depends_on_its_own_label_and_seed_alone():
    one = generator()
    batch = one.sample(LABELS, seed=10)
    for index, label in enumerate(LABELS):
        alone = one.sample([label], seed=10 + index)
        torch.testing.assert_close(batch[index], alone[0], rtol=1e-5, atol=1e-6)
    assert not torch.equal(batch[0], batch[3])
    assert batch.shape == (4, 1, 4, 4)
    assert batch.abs().max() <= 1


def test_noise_from_a_generator_is_drawn_once_for_the_batch():
    one, c = generator(), torch.tensor(LABELS)
    z = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert torch.equal(one.generate(c, torch.Generator().manual_seed(5)), one(z, c))


def test_classes_have_names():
    one = generator()
    assert torch.equal(one.sample(["cow", "ant", 1, "cow"]), one.sample(LABELS))


def test_the_pipeline_takes_one_of_several_names_of_a_class_as_the_generator_does():
    names = ("tench, Tinca tinca", "missile", "projectile, missile")
    one = OneStepGenerator(tiny_model().with_conditioning(ClassLabels(names)), 440)
    labels = ["tench", "missile", "projectile", "tench, Tinca tinca"]
    expected = one.sample([0, 1, 2, 0]) / 2 + 0.5
    assert torch.equal(one.sample(labels) / 2 + 0.5, expected)
    images = pipeline_of(one)(labels=labels, seeds=[0, 1, 2, 3], output_type="pt").images
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("label", [3, -1, "cat"])
def test_a_class_that_there_is_not_is_refused(label):
    with pytest.raises(UserError, match="there is no class"):
        generator().sample([0, label])
    with pytest.raises(ValueError, match="no class"):
        pipeline_of(generator())(labels=[0, label])


def test_a_generator_comes_back_whole(tmp_path):
    one = generator(t_init=300)
    one.save(tmp_path / "generator")
    copy = OneStepGenerator.load(tmp_path / "generator")
    assert (copy.t_init, copy.condition_names) == (300, NAMES)
    assert torch.equal(copy.sample(LABELS), one.sample(LABELS))


def test_a_teacher_is_no_generator(tmp_path):
    save_teacher(tmp_path / "teacher", tiny_model())
    with pytest.raises(UserError, match="no one-step generator"):
        OneStepGenerator.load(tmp_path / "teacher")


def test_the_shipped_generator_carries_todays_pipeline():
    shipped = BUILTIN_MODELS["builtin:digits-distilled"] / "pipeline.py"
    assert shipped.read_bytes() == PIPELINE.read_bytes()


SCRIPT = """
    import sys
    sys.modules["sfd_sweep"] = None  # makes every import of it fail
    import numpy
    from diffusers import DiffusionPipeline
    images = {}
    for folder in sys.argv[2:]:
        pipeline = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
        images[folder] = pipeline(labels=["cow", 0, 1, 2], seeds=[10, 11, 12, 13], output_type="pt").images.numpy()
    assert not [name for name in sys.modules if name.startswith("sfd_sweep.")]
    numpy.savez(sys.argv[1], **images)
"""


def test_a_saved_folder_makes_the_same_images_in_a_process_without_this_package(tmp_path):
    made = {tmp_path / kind: generator(kind) for kind in (*PREDICTION_TYPES, FLOW)}
    made[tmp_path / "latent"] = OneStepGenerator(tiny_latent_model(), 440)
    for folder, one in made.items():
        one.save(folder)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), "images.npz", *map(str, made)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    images = np.load(tmp_path / "images.npz")
    for folder, one in made.items():
        expected = one.sample(LABELS, seed=10) / 2 + 0.5
        np.testing.assert_allclose(images[str(folder)], expected.numpy(), rtol=0, atol=1e-5)
        assert expected.std() > 0.01


def test_the_pipeline_puts_images_out_in_three_forms():
    pipeline = pipeline_of(generator())
    batch = {form: pipeline(labels=LABELS, seeds=[0, 1, 2, 3], output_type=form).images for form in ("pt", "np", "pil")}
    assert batch["pt"].shape == (4, 1, 4, 4)
    assert batch["np"].shape == (4, 4, 4, 1)
    np.testing.assert_array_equal(batch["pt"].numpy()[:, 0], batch["np"][..., 0])
    assert [image.size for image in batch["pil"]] == [(4, 4)] * 4
    np.testing.assert_array_equal(np.asarray(batch["pil"][0]), np.rint(batch["np"][0, :, :, 0] * 255))
    assert isinstance(pipeline(labels=[0], return_dict=False), tuple)


def test_the_pipeline_takes_noise_from_a_generator():
    pipeline = pipeline_of(generator())
    first, second, other = (
        pipeline(labels=LABELS, generator=torch.Generator().manual_seed(seed), output_type="pt").images
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_pipeline_refuses_what_it_cannot_do():
    pipeline = pipeline_of(generator())
    with pytest.raises(ValueError, match="2 images need 2 seeds, not 3"):
        pipeline(labels=[0, 1], seeds=[0, 1, 2])
    with pytest.raises(ValueError, match="none of pil, np, pt"):
        pipeline(labels=[0], output_type="jpeg")


def test_the_pipelines_file_needs_nothing_of_this_package():
    imported = {name for name, value in vars(one_step_pipeline).items() if str(value).startswith("<module")}
    assert imported == {"torch"}
    assert "sfd_sweep" not in PIPELINE.read_text()
