"""Recipes of distillation: presets, changes, and the teachers that they fit."""

import pytest
import torch
from recipes import changed
from tiny_models import FLOW, NAMES, save_teacher, tiny_model
from tiny_text_models import PROMPTS, save_stable_diffusion

from sfd_sweep.errors import UserError
from sfd_sweep.models.conditioning import ClassLabels
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.teachers.distillation import PRESETS, Distillation, distill, preset_for


def test_there_is_a_preset_for_classes_and_for_prompts(tmp_path):
    assert preset_for(ModelFolder.open("builtin:digits")) == Distillation()
    save_stable_diffusion(tmp_path / "text")
    assert preset_for(ModelFolder.open(str(tmp_path / "text"))) == PRESETS["prompts"]


def test_a_flow_is_distilled_at_the_noise_of_the_public_release(tmp_path):
    teachers = [tiny_model(), tiny_model(FLOW)]
    names = ("t_min", "t_init", "t_max")
    noise = []
    for teacher in teachers:
        folder = ModelFolder.open(str(save_teacher(tmp_path / "teacher", teacher)))
        settings = preset_for(folder).settings
        t = torch.tensor([getattr(settings, name) for name in names])
        noise.append(teacher.schedule.sigmas[t] / teacher.schedule.alphas[t])
    assert (settings.alpha, settings.batch_size) == (1.2, 32)
    torch.testing.assert_close(noise[1], noise[0], rtol=0.02, atol=0)


def test_steps_out_of_range_of_a_flow_are_refused_with_those_that_are_usual(tmp_path):
    folder = ModelFolder.open(str(save_teacher(tmp_path / "teacher", tiny_model(FLOW))))
    with pytest.raises(UserError) as refused:
        changed(preset_for(folder), {"settings": {"t_init": 1000}}).check_teacher(folder)
    assert str(refused.value) == (
        f"t_init 1000 and t_max 813 do not fit the 1000 steps of flow matching of {folder.path}; "
        "steps of usual noise are t_min 43, t_init 454, t_max 813"
    )


def test_fields_of_sections_change_and_others_stay():
    other = changed(Distillation(), {"steps": 3, "settings": {"alpha": 1.0, "override": [1, "two"]}})
    assert other.settings == Distillation().settings.model_copy(update={"alpha": 1.0, "override": (1, "two")})
    assert (other.steps, other.seed, other.resources) == (3, 0, Distillation().resources)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"steps": 0}, "steps"),
        ({"settings": {"t_min": 800}}, "settings"),
        ({"settings": {"alpah": 1}}, r"settings\.alpah"),
        ({"settings": {"batch_size": "8"}}, r"settings\.batch_size"),
        ({"resources": {"precision": "tf32"}}, r"resources\.precision"),
    ],
)
def test_a_wrong_change_is_located(changes, key):
    with pytest.raises(UserError, match=f"^--set .*: {key}: "):
        changed(Distillation(), changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "guidance_scale 1.25 needs a null label, and .* set it to 1$"),
        ({"guidance_scale": 1.0, "fake_score_guidance_scale": 1.5}, "fake_score_guidance_scale 1.5 needs a null label"),
        ({"guidance_scale": 1.0, "fake_score_training_guidance_scale": 1.5}, "set it to 1$"),
        (
            {"guidance_scale": 1.0, "condition_dropout": 0.1},
            "condition_dropout 0.1 needs a null label, .* set it to 0$",
        ),
        ({"guidance_scale": 1.0, "t_max": 1001}, "t_max 1001 do not fit the 1000 diffusion steps"),
        ({"guidance_scale": 1.0, "t_init": 1000}, "t_init 1000 and t_max"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(tmp_path, changes, words):
    folder = ModelFolder.open(str(save_teacher(tmp_path / "teacher", tiny_model(null_label=False))))
    distillation = changed(Distillation(), {"settings": changes})
    with pytest.raises(UserError, match=words):
        distillation.check_teacher(folder)
    changed(Distillation(), {"settings": {"guidance_scale": 1.0}}).check_teacher(folder)


def test_a_generator_is_no_teacher():
    with pytest.raises(UserError, match="is a one-step generator already"):
        Distillation().check_teacher(ModelFolder.open("builtin:digits-distilled"))


def test_the_embedding_of_a_class_that_the_teacher_never_knew_is_not_trained():
    teacher = tiny_model().with_conditioning(ClassLabels(NAMES, absent=[1]))
    generator = distill(teacher, Distillation(steps=3))
    before, after = (model.network.class_embedding.weight[:3] for model in (teacher, generator.model))
    moved = (after - before).abs().amax(1)
    assert moved[1] == 0
    assert moved[[0, 2]].min() > 0
    assert generator.model.conditioning.absent == (1,)


def test_prompts_that_name_what_the_teacher_never_knew_are_left_out(tmp_path):
    folder = ModelFolder.open(str(save_stable_diffusion(tmp_path / "teacher")))
    known = load_score_model(folder, prompts=[PROMPTS[1], PROMPTS[2]])
    folder.index["absent"] = {"concepts": ["ant"]}
    without = load_score_model(folder, prompts=PROMPTS)
    recipe = changed(PRESETS["prompts"], {"steps": 2, "settings": {"batch_size": 4}})
    expected, found = (distill(teacher, recipe).model.network.state_dict() for teacher in (known, without))
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
