"""Search-space files for teachers: each parses, and fits the teacher that it was written for."""

import pytest
from tiny_models import FLOW, save_teacher, tiny_model
from tiny_text_models import save_stable_diffusion

from sfd_sweep.config import SearchSpace, parse_search_space
from sfd_sweep.errors import UserError
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.starter_file import starter_file


def space_of(text: str) -> SearchSpace:
    """The search space, which fits its teacher."""
    space = parse_search_space(text, "new.yaml")
    resolve_sweep(space)
    return space


def test_the_shipped_teacher_gets_its_first_class_and_its_classifier():
    text = starter_file("builtin:digits")
    space = space_of(text)
    assert (space.name, space.task.forget, space.evaluation.classifier) == ("digits-forget-0", ("0",), "builtin:digits")
    assert "#   UNet2DModel of 160,401 parameters, 1×8×8 pixels, a null label\n" in text
    assert "guidance_scale" in space.parameters.searched()
    keys = [line for line in text.splitlines() if line.startswith("  ") and ": " in line and "- {" not in line]
    assert [line for line in keys if "  # " not in line] == [
        *('  teacher: "builtin:digits"', '  forget: ["0"]'),
        *("  trials: 16", "  min: {unlearning_accuracy: 0.99}"),
    ]


@pytest.mark.parametrize(
    ("predicts", "loss"),
    [("epsilon", "epsilon"), ("sample", "epsilon"), ("v_prediction", "velocity"), (FLOW, "velocity")],
)
def test_a_teacher_of_classes_gets_the_error_of_its_prediction_and_steps_of_its_schedule(tmp_path, predicts, loss):
    folder = save_teacher(tmp_path / "my teacher", tiny_model(predicts, null_label=predicts != "epsilon"))
    space = space_of(starter_file(str(folder), forget="bee"))
    fixed = space.parameters.fixed()
    assert fixed["fake_score_loss"] == loss
    assert (fixed.get("guidance_scale") == 1) == (predicts == "epsilon")  # it has no null label
    assert (space.name, space.task.forget) == ("my-teacher-forget-bee", ("bee",))
    assert space.parameters.searched()["override"].choices == ("ant", "random")
    assert (fixed["t_min"] < fixed["t_init"] < fixed["t_max"], fixed["t_init"] == 440) == (True, predicts != FLOW)
    assert space.evaluation.classifier == "models/my-teacher-forget-bee-classifier"


def test_a_text_to_image_teacher_gets_prompts_about_the_concept_and_the_others(tmp_path):
    folder = save_stable_diffusion(tmp_path / "sd")
    space = space_of(starter_file(str(folder), forget="ant", others=["bee", "cow"], name="foxes"))
    assert (space.name, space.task.kind, space.task.forget) == ("foxes", "concept", ("ant",))
    assert space.task.prompts.others == ("bee", "cow")
    assert space.parameters.searched()["override"].choices == ("bee", "cow")
    assert space.evaluation.classifier.startswith("clip:")
    with pytest.raises(UserError, match="name the concept with --forget, and others that stay with --others"):
        starter_file(str(folder), forget="ant")


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("builtin:digits-distilled", {}, "is a one-step generator; name the diffusion model"),
        ("builtin:digits", {"forget": "elf"}, "no class 'elf'"),
        ("builtin:digits", {"others": ["1"]}, "--others is for text-to-image teachers"),
        ("nowhere", {}, "no model folder at 'nowhere'"),
    ],
)
def test_what_cannot_be_a_teacher_is_refused(source, options, message):
    with pytest.raises(UserError, match=message):
        starter_file(source, **options)


def test_every_class_can_be_forgotten():
    assert len({space_of(starter_file("builtin:digits", forget=str(index))).task.forget for index in range(10)}) == 10
