"""Commands that train models, in a few steps."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from photographs import encode, photographs, write_parquet
from PIL import Image
from safetensors.torch import load_file
from tiny_models import NAMES, save_teacher, tiny_model
from tiny_text_models import PROMPTS, save_stable_diffusion

from sfd_sweep.cli import options, progress
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.conditioning import PROMPTS as PROMPT_CONDITIONS
from sfd_sweep.models.folder import ASSETS, ModelFolder
from sfd_sweep.models.weights import WEIGHTS
from sfd_sweep.teachers.pretraining import COMPONENTS
from sfd_sweep.teachers.training_job import STATE


def files(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def figure(out: str) -> float:
    found = re.search(r"fd_classifier ([\d.e+]+) on 2,000 samples", out)
    assert found
    return float(found[1])


def test_a_pretrained_teacher_is_a_folder_like_the_shipped_one(command, folder):
    said = command("pretrain", "builtin:digits", "--out", "teacher", "--steps", "1", "--no-evaluate")
    assert (said.code, said.err) == (0, "")
    assert files(folder / "teacher") == files(ASSETS / "digits" / "teacher")
    made, shipped = ModelFolder.open("teacher"), ModelFolder.open("builtin:digits")
    assert (made.index, made.network, made.prediction_type) == (shipped.index, shipped.network, shipped.prediction_type)
    size = "unet/diffusion_pytorch_model.safetensors"
    assert (made.path / size).stat().st_size == (shipped.path / size).stat().st_size


def test_a_pretrained_teacher_is_evaluated(command, folder):
    said = command("pretrain", "builtin:digits", "--out", "teacher", "--steps", "30", "--set", "channels=[8,8]")
    assert (said.code, said.err) == (0, "")
    assert figure(said.out) > 10  # 30 steps are nothing


SMALL = ("--preset", "small-cifar10", "--set", "channels=[8,16]", "--set", "attention_head_dim=16", "--steps", "2")


def test_a_teacher_of_photographs_is_sampled_in_a_picture(command, folder):
    photographs(folder / "images", count=16, size=40)
    said = command("pretrain", "images", "--out", "teacher", *SMALL, "--set", "image_size=16", "--grid", "grid.png")
    assert (said.code, said.err) == (0, "")
    made = ModelFolder.open("teacher")
    assert (made.class_names, made.sample_shape) == (("china", "flower"), (3, 16, 16))
    assert said.out.startswith(f"teacher: teacher of 2 classes with {made.parameter_count:,} parameters\n")
    assert load_file(made.path / "unet" / WEIGHTS)["conv_in.weight"].dtype == torch.float32
    with Image.open("grid.png") as picture:
        assert picture.width > 10 * 32
    assert files(folder)[0] == "grid.png"


def test_photographs_are_brought_to_the_presets_size(command, folder):
    photographs(folder / "images", count=16, size=40)
    assert command("pretrain", "images", "--out", "teacher", *SMALL).code == 0
    assert ModelFolder.open("teacher").sample_shape == (3, 32, 32)


def test_classes_without_names_in_the_files_get_them_from_the_user(command, folder):
    images = [encode(np.full((16, 16, 3), shade, np.uint8)) for shade in range(0, 240, 12)]
    write_parquet(folder / "images" / "train.parquet", images, [0, 1] * 10)
    named = ("--class-names", "night, day")
    assert command("pretrain", "images", "--out", "teacher", *SMALL, *named).code == 0
    assert command("train-classifier", "images", "--out", "classifier", "--epochs", "1", *named).code == 0
    assert ModelFolder.open("teacher").class_names == load_classifier("classifier").class_names == ("night", "day")


@pytest.mark.parametrize("make", ["pretrain", "train-classifier"])
def test_names_that_are_too_few_or_the_same_are_refused(command, folder, make):
    images = [encode(np.zeros((16, 16, 3), np.uint8))] * 3
    write_parquet(folder / "images" / "train.parquet", images, [0, 1, 2])
    for names, words in (("a,b", "labels up to 2"), ("a,a,b", "every class needs a name of its own")):
        said = command(make, "images", "--out", "model", "--class-names", names)
        assert said.code == 2
        assert words in said.err
    assert not (folder / "model").exists()


def test_a_teacher_that_does_not_fit_the_classifier_is_refused_before_it_is_trained(command, folder):
    photographs(folder / "images", count=16, size=16)
    arguments = ("pretrain", "images", "--out", "teacher", *SMALL, "--classifier", "builtin:digits")
    said = command(*arguments)
    assert said.code == 2
    assert "--no-evaluate" in said.err
    assert not (folder / "teacher").exists()
    assert command(*arguments, "--no-evaluate").code == 0


def test_without_a_terminal_progress_comes_in_lines(command, folder, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    said = command("pretrain", "builtin:digits", "--out", "teacher", "--steps", "20", "--no-evaluate")
    assert said.code == 0
    assert re.fullmatch(r"(pretraining, loss [\d.]+: (10|20) of 20\n){2}", said.err)
    assert said.out.startswith("teacher: teacher of 10 classes")


@pytest.mark.slow
def test_a_killed_pretraining_resumes_and_gives_the_same_weights(command, folder):
    options = ["builtin:digits", "--steps", "400", "--save-every", "20", "--set", "channels=[8,8]", "--resume"]
    killed = subprocess.Popen([sys.executable, "-m", "sfd_sweep", "pretrain", *options, "--out", "killed"])
    state = folder / "killed.pretraining" / STATE
    while not state.exists():
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert command("pretrain", *options[:-1], "--out", "killed").code == 2  # without --resume
    for name in ("killed", "whole"):
        assert command("pretrain", *options, "--out", name).code == 0
    weights = [(folder / name / "unet" / WEIGHTS).read_bytes() for name in ("killed", "whole")]
    assert weights[0] == weights[1]
    assert sorted(path.name for path in folder.iterdir()) == ["killed", "whole"]


def test_a_distilled_generator_is_a_folder_like_the_shipped_one_with_its_distance(command, folder):
    said = command("distill", "builtin:digits", "--out", "generator", "--steps", "3")
    assert (said.code, said.err) == (0, "")
    assert 1 < figure(said.out) < 100
    assert files(folder / "generator") == files(ASSETS / "digits" / "generator")
    assert OneStepGenerator.load("generator").t_init == 440


def test_a_generator_may_be_replaced_by_force_and_not_evaluated(command, folder):
    said = command(
        "distill", "builtin:digits", "--out", "generator", "--steps", "1", "--no-evaluate", "--set", "t_init=300"
    )
    assert "fd_classifier" not in said.out
    assert (
        command("distill", "builtin:digits", "--out", "generator", "--steps", "1", "--no-evaluate", "--force").code == 0
    )
    assert OneStepGenerator.load("generator").t_init == 440
    assert [path.name for path in folder.iterdir()] == ["generator"]


def test_a_classifier_of_photographs_knows_their_names(command, folder):
    photographs(folder / "images", count=16, size=16)
    assert command("train-classifier", "images", "--out", "classifier", "--epochs", "1").code == 0
    assert load_classifier("classifier").class_names == ("china", "flower")


def test_a_classifier_is_a_folder_like_the_shipped_one_with_its_accuracy(command, folder):
    said = command("train-classifier", "builtin:digits", "--out", "classifier", "--epochs", "1")
    accuracy = load_classifier("classifier").config.held_out_accuracy
    assert accuracy is not None
    assert f"an accuracy of {accuracy:.2%} on the held-out images" in said.out
    assert files(folder / "classifier") == files(ASSETS / "digits" / "classifier")


def test_a_classifier_is_trained_as_the_preset_and_the_options_say(command, folder):
    options = ("--preset", "cifar-resnet-small", "--epochs", "1", "--device", "cpu")
    fields = ("--set", "batch_size=200", "--set", "lr=0.01")
    said = command("train-classifier", "builtin:digits", "--out", "classifier", *options, *fields)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("classifier: cifar-resnet-small with an accuracy of ")
    assert load_classifier("classifier").config.architecture == "resnet"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "pretrained=true"], "pretrained is for resnet34-224; digits has no ImageNet weights"),
        (["--set", "peak_lr=1"], "unknown field 'peak_lr'"),
        (["--preset", "digit"], "did you mean digits?"),
        (["--device", "cuda"], "--device cuda: torch finds no GPU"),
        (["--set", "lr=1e30", "--epochs", "1"], "the training diverged"),
    ],
)
def test_a_classifier_that_cannot_be_trained_so_leaves_nothing_behind(command, folder, options, words):
    said = command("train-classifier", "builtin:digits", "--out", "classifier", *options)
    assert said.code == 2
    assert words in said.err
    assert not (folder / "classifier").exists()


def test_the_help_names_every_preset(command):
    from sfd_sweep.teachers import classifier_training, recipes

    for name, presets in (("pretrain", recipes.PRESETS), ("train-classifier", classifier_training.PRESETS)):
        shown = command(name, "--help").out.replace("cifar-\n", "cifar-")
        assert all(re.sub(r"\s", "", preset) in re.sub(r"\s", "", shown) for preset in presets)


def test_a_teacher_of_classes_that_the_classifier_does_not_know_is_distilled_and_not_evaluated(command, folder):
    save_teacher(folder / "tiny", tiny_model())
    said = command("distill", "tiny", "--out", "generator", "--steps", "1", "--set", "batch_size=2")
    assert (said.code, said.err) == (0, "")
    assert said.out == "generator: one-step generator of 3 classes\n"
    assert OneStepGenerator.load("generator").condition_names == NAMES


def test_one_thread_is_used_unless_the_user_says_otherwise(monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        options.one_thread()
        assert torch.get_num_threads() == 2
        monkeypatch.delenv("OMP_NUM_THREADS")
        options.one_thread()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


PRETRAIN = ("pretrain", "builtin:digits-in-words", "--preset", "digits-text", "--out", "teacher", "--steps", "2")
FEW_STEPS = ("text.autoencoder_steps=2", "text.text_steps=2", "channels=[8,8]", "attention_head_dim=4")
SHORT = (*PRETRAIN, *(word for field in FEW_STEPS for word in ("--set", field)))


def test_a_teacher_of_captioned_digits_is_a_folder_of_stable_diffusion_and_is_evaluated(command, folder):
    said = command(*SHORT, "--grid", "grid.png")
    assert (said.code, said.err) == (0, "")
    assert "teacher: fd_classifier " in said.out
    made = ModelFolder.open("teacher")
    assert made.kind is PROMPT_CONDITIONS
    assert (made.sample_shape, made.image_shape) == ((4, 4, 4), (1, 8, 8))
    assert made.index["_class_name"] == "StableDiffusionPipeline"
    assert {name.partition("/")[0] for name in files(folder / "teacher")} == {
        *("model_index.json", "scheduler", "text_encoder", "tokenizer", "unet", "vae")
    }
    with Image.open("grid.png") as picture:
        assert picture.width > 10 * 32
    assert files(folder)[0] == "grid.png"
    assert not list(folder.glob(f"*/{COMPONENTS}"))


def test_a_teacher_is_distilled_on_prompts_and_its_generator_takes_any(command, folder):
    save_stable_diffusion(folder / "teacher")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    said = command("distill", "teacher", "--prompts", "prompts.txt", "--out", "generator", "--steps", "2")
    assert (said.code, said.err) == (0, "")
    assert said.out == "generator: one-step generator of 3 prompts\n"
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
    "without prompts": (of_text, DISTILL, "name a file of prompts (--prompts FILE)"),
    "without a prompt in the file": (of_text, [*DISTILL, "--prompts", "empty.txt"], "there is no prompt in empty.txt"),
    "without that file": (of_text, [*DISTILL, "--prompts", "none.txt"], "there is no file none.txt"),
    "of classes, with prompts": (of_classes, [*DISTILL, "--prompts", "long.txt"], "--prompts are for text-to-image"),
    "in an arithmetic of GPUs": (of_classes, [*DISTILL, "--set", "precision=tf32"], "tf32 needs a GPU"),
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


def test_long_prompts_of_a_distillation_are_cut_and_counted(command, folder):
    of_text(folder)
    (folder / "long.txt").write_text("an ant\na prompt that is too long\n")
    said = command(*DISTILL, "--prompts", "long.txt")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(
        "1 of 2 prompts are longer than the teacher reads; they are cut\nout: one-step generator"
    )
    assert sorted(path.name for path in folder.iterdir()) == ["long.txt", "out", "teacher"]


def test_a_caption_without_class_is_refused(command, folder):
    said = command(*PRETRAIN, "--set", "text.captions=[digit]")
    assert said.code == 2
    assert "captions must have one {} each" in said.err
    assert not list(folder.iterdir())


def test_a_never_knew_control_is_pretrained_and_distilled_without_a_class(command, folder):
    few = ("--steps", "2", "--set", "channels=[8,8]")
    said = command("pretrain", "builtin:digits", "--without", "0", "--without", "4", "--out", "teacher", *few)
    assert (said.code, said.err) == (0, "")
    assert re.search(r"fd_classifier \S+ on 2,000 samples without 0, 4 \(20 steps", said.out)
    teacher = ModelFolder.open("teacher")
    assert (teacher.class_names, teacher.null_label) == (tuple("0123456789"), 10)
    assert teacher.index["absent"] == {"classes": [0, 4]}
    said = command("distill", "teacher", "--out", "generator", "--steps", "1")
    assert said.out.startswith("generator: one-step generator of 8 classes without 0, 4\n")
    assert re.search(r"fd_classifier \S+ on 2,000 samples without 0, 4\n", said.out)
    generator = OneStepGenerator.load("generator")
    assert generator.model.conditioning.absent == (0, 4)
    assert generator.t_init == 440
    said = command("sample", "generator", "--label", "0", "--count", "2", "--out", "grid.png")
    assert said.code == 0


def test_a_teacher_of_captions_is_pretrained_and_distilled_without_a_word(command, folder):
    said = command(*SHORT, "--without", "zero")
    assert (said.code, said.err) == (0, "")
    assert "on 2,000 samples without zero (20 steps" in said.out
    assert ModelFolder.open("teacher").index["absent"] == {"concepts": ["zero"]}
    (folder / "prompts.txt").write_text("a one\na zero\na two\n")
    distilled = ("distill", "teacher", "--out", "generator", "--steps", "1", "--prompts")
    said = command(*distilled, "prompts.txt")
    assert said.out == "generator: one-step generator of 2 prompts without zero\n"
    assert ModelFolder.open("generator").index["absent"] == {"concepts": ["zero"]}
    (folder / "zeros.txt").write_text("a zero\nZero!\n")
    said = command(*distilled, "zeros.txt", "--force")
    assert said.code == 2
    assert "was never trained on what they name" in said.err


@pytest.mark.parametrize(
    ("without", "words"),
    [
        (["ten"], "--without: there is no class 'ten'"),
        ([*"0123456789"], "--without: no class is left"),
    ],
)
def test_classes_that_cannot_be_left_out_are_refused(command, folder, without, words):
    said = command("pretrain", "builtin:digits", "--out", "teacher", *(f"--without={name}" for name in without))
    assert said.code == 2
    assert words in said.err
    assert said.err.count("\n") == 1
    assert not list(folder.iterdir())
