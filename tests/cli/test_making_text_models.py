"""Text-to-image models: made of captioned images, distilled on prompts, and looked at."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny_models import save_teacher, tiny_model
from tiny_text_models import PROMPTS, save_stable_diffusion

from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.teachers.pretraining import FRONT_ENDS

PRETRAIN = ("pretrain", "builtin:digits-in-words", "--preset", "digits-text", "--out", "teacher", "--steps", "2")
FEW_STEPS = ("text.autoencoder_steps=2", "text.text_steps=2", "channels=[8,8]", "attention_head_dim=4")
SHORT = (*PRETRAIN, *(word for field in FEW_STEPS for word in ("--set", field)))


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_teacher_of_captioned_digits_is_a_folder_of_stable_diffusion_and_is_judged(command, folder):
    said = command(*SHORT, "--grid", "grid.png")
    assert (said.code, said.err) == (0, "")
    assert "teacher: fd_classifier " in said.out
    made = ModelFolder.open("teacher")
    assert made.reads_text
    assert (made.sample_shape, made.image_shape) == ((4, 4, 4), (1, 8, 8))
    assert made.index["_class_name"] == "StableDiffusionPipeline"
    assert {name.partition("/")[0] for name in files(folder / "teacher")} == {
        *("model_index.json", "scheduler", "text_encoder", "tokenizer", "unet", "vae")
    }
    with Image.open("grid.png") as picture:
        assert picture.width > 10 * 32
    assert files(folder)[0] == "grid.png"
    assert not list(folder.glob(f"*/{FRONT_ENDS}"))


def test_a_teacher_is_distilled_on_prompts_and_its_generator_shows_any(command, folder):
    save_stable_diffusion(folder / "teacher")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    said = command("distill", "teacher", "--prompts", "prompts.txt", "--out", "generator", "--steps", "2")
    assert (said.code, said.err) == (0, "")
    assert said.out == "generator: a one-step generator of 3 prompts\n"
    assert OneStepGenerator.load("generator").t_init == 625
    shown = ("--prompt", PROMPTS[0], "--prompt", "a zebra")
    said = command("sample", "generator", *shown, "--count", "4", "--out", "grid.png")
    assert (said.code, said.err) == (0, "")
    assert said.out == "8 images of an ant, a zebra in grid.png\n"
    with Image.open("grid.png") as picture:
        assert np.asarray(picture).std() > 5


def sdxl(folder):
    index = save_stable_diffusion(folder / "teacher") / "model_index.json"
    content = json.loads(index.read_text()) | {
        "_class_name": "StableDiffusionXLPipeline",
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    }
    index.write_text(json.dumps(content))


def of_text(folder):
    save_stable_diffusion(folder / "teacher")


def of_classes(folder):
    save_teacher(folder / "teacher", tiny_model())


DISTILL = ["distill", "teacher", "--out", "out", "--steps", "1"]
REFUSED = {
    "of another kind": (sdxl, DISTILL, "StableDiffusionXLPipeline, which is not supported"),
    "without prompts": (of_text, DISTILL, "say of which (--prompts FILE)"),
    "without a prompt in the file": (of_text, [*DISTILL, "--prompts", "empty.txt"], "there is no prompt in empty.txt"),
    "without that file": (of_text, [*DISTILL, "--prompts", "none.txt"], "there is no file none.txt"),
    "of too long prompts": (of_text, [*DISTILL, "--prompts", "long.txt"], "16 tokens, begin and end included"),
    "of classes, with prompts": (of_classes, [*DISTILL, "--prompts", "long.txt"], "--prompts are for text-to-image"),
    "in an arithmetic of GPUs": (of_classes, [*DISTILL, "--precision", "tf32"], "tf32 needs a GPU"),
}


@pytest.mark.parametrize(("make", "arguments", "words"), REFUSED.values(), ids=REFUSED)
def test_a_distillation_is_refused(command, folder, make, arguments, words):
    make(folder)
    (folder / "empty.txt").write_text("\n")
    (folder / "long.txt").write_text("a prompt that is too long")
    said = command(*arguments)
    assert said.code == 2
    assert words in said.err
    assert said.err.count("\n") == 1
    assert not (folder / "out").exists()


def test_a_generator_of_prompts_wants_prompts_and_one_of_classes_labels(command, folder):
    OneStepGenerator.load("builtin:digits-distilled").save(folder / "classes")
    save_stable_diffusion(folder / "teacher")
    (folder / "prompts.txt").write_text("a bee")
    assert command("distill", "teacher", "--prompts", "prompts.txt", "--out", "text", "--steps", "1").code == 0
    for arguments, words in (
        (("text",), "text makes images of prompts: give one or more (--prompt)"),
        (("text", "--label", "0"), "text makes images of prompts"),
        (("classes", "--prompt", "a zero"), "classes makes images of classes: give them by --label"),
    ):
        said = command("sample", *arguments, "--out", "grid.png")
        assert said.code == 2
        assert words in said.err
    said = command("evaluate", "text", "--forget", "0", "--override", "1")
    assert said.code == 2
    assert "only generators of classes can be judged" in said.err


def test_a_caption_without_class_is_refused(command, folder):
    said = command(*PRETRAIN, "--set", "text.captions=[digit]")
    assert said.code == 2
    assert "captions must have one {} each" in said.err
    assert not list(folder.iterdir())
