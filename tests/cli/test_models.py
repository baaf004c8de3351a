"""Commands that sample, evaluate, and import models."""

import json

import pytest
import torch
from PIL import Image
from research_unet import ResearchUNet, Sizes, random_weights
from tiny_models import tiny_model
from tiny_text_models import save_stable_diffusion

from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.conditioning import ClassLabels
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.score_model import ScoreModel

OPTIMIZER = {"state": {}, "param_groups": []}
RAW, EMA, FAKE = (random_weights(seed=seed) for seed in range(3))
WRAPPED = {f"module.{name}": tensor for name, tensor in RAW.items()}
PRETRAINED = [WRAPPED, OPTIMIZER, 799_999, EMA]
DISTILLED = [FAKE, OPTIMIZER, RAW, OPTIMIZER, 49_999, EMA]
NAMES = ("--class-names", "ant,bee,cow")


def same(model, tensors) -> bool:
    x_t = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        found = model.double().forward(x_t, torch.tensor([300]), torch.tensor([2])).epsilon
    return bool((found - ResearchUNet(tensors)(x_t, 300, 2)).abs().max() < 1e-5)


@pytest.mark.parametrize(
    ("content", "options", "tensors", "words"),
    [
        (PRETRAINED, [], EMA, "teacher of 3 classes at 32×32 pixels"),
        (PRETRAINED, ["--weights", "raw"], RAW, "from its raw weights"),
        (WRAPPED, ["--layout", "ddpm"], RAW, "teacher: teacher of"),
        ({"model": RAW, "ema": EMA}, ["--network", "teacher"], EMA, "from its ema weights"),
        (DISTILLED, ["--network", "fake-score"], FAKE, "fake-score of 3 classes"),
    ],
)
def test_a_network_of_many_steps_becomes_a_teachers_folder(command, folder, content, options, tensors, words):
    torch.save(content, "ckpt.pth")
    said = command("import-checkpoint", "ckpt.pth", "teacher", *NAMES, *options)
    assert (said.code, said.err) == (0, "")
    assert words in said.out
    imported = ModelFolder.open("teacher")
    assert imported.class_names == ("ant", "bee", "cow")
    assert imported.t_init is None
    assert same(load_score_model(imported), tensors)
    assert sorted(path.name for path in folder.iterdir()) == ["ckpt.pth", "teacher"]


@pytest.mark.parametrize(
    ("content", "options", "tensors", "t_init"),
    [
        (DISTILLED, [], EMA, 440),
        (DISTILLED, ["--weights", "raw", "--t-init", "0"], RAW, 0),
        (RAW, ["--network", "generator", "--t-init", "625"], RAW, 625),
    ],
)
def test_a_generator_becomes_a_one_step_generators_folder(command, folder, content, options, tensors, t_init):
    torch.save(content, "ckpt.pth")
    said = command("import-checkpoint", "ckpt.pth", "generator", *NAMES, *options)
    assert (said.code, said.err) == (0, "")
    generator = OneStepGenerator.load("generator")
    assert (generator.t_init, generator.condition_names) == (t_init, ("ant", "bee", "cow"))
    assert same(generator.model, tensors)


def test_an_imported_teacher_can_be_distilled_and_an_imported_generator_sampled(command, folder):
    torch.save(DISTILLED, "ckpt.pth")
    for network, out in (("fake-score", "teacher"), ("generator", "generator")):
        assert command("import-checkpoint", "ckpt.pth", out, *NAMES, "--network", network).code == 0
    distill = ("distill", "teacher", "--out", "distilled", "--steps", "1", "--set", "batch_size=2", "--no-evaluate")
    assert command(*distill).code == 0
    assert command("sample", "generator", "--label", "bee", "--count", "1", "--out", "grid.png").code == 0


@pytest.mark.parametrize(("preset", "second", "last"), [("cifar10", "automobile", "truck"), ("stl10", "bird", "truck")])
def test_the_classes_of_known_data_sets_have_names(command, folder, preset, second, last):
    torch.save(random_weights(Sizes(classes=10)), "ckpt.pth")
    assert command("import-checkpoint", "ckpt.pth", "teacher", "--class-names", preset).code == 0
    names = ModelFolder.open("teacher").class_names
    assert (len(names), names[0], names[1], names[-1]) == (10, "airplane", second, last)


def test_a_size_can_be_given(command, folder):
    torch.save(RAW, "ckpt.pth")
    assert command("import-checkpoint", "ckpt.pth", "teacher", *NAMES, "--size", "8").code == 0
    assert ModelFolder.open("teacher").sample_shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        (PRETRAINED, [], "--class-names"),
        (PRETRAINED, ["--class-names", "cifar10"], "ckpt.pth has 3 classes, but --class-names has 10"),
        (PRETRAINED, ["--class-names", "ant,bee,"], "every class needs a name of its own"),
        (PRETRAINED, ["--class-names", "ant,bee,ant"], "every class needs a name of its own"),
        (PRETRAINED, [*NAMES, "--network", "generator"], "holds no generator; it holds teacher ema, teacher raw"),
        (
            PRETRAINED,
            [*NAMES, "--t-init", "440"],
            "--t-init is for a generator, and the checkpoint's teacher is imported",
        ),
        (PRETRAINED, [*NAMES, "--layout", "edm"], "'edm'"),
        (PRETRAINED, [*NAMES, "--size", "31"], "must be a multiple of 2"),
        ([{}], NAMES, "holds no network"),
        ({"weight": torch.zeros(2)}, NAMES, "is missing"),
    ],
)
def test_what_cannot_be_imported_is_told_in_one_line_and_leaves_nothing(command, folder, content, arguments, words):
    torch.save(content, "ckpt.pth")
    said = command("import-checkpoint", "ckpt.pth", "out", *arguments)
    assert (said.code, said.out) == (2, "")
    assert words in said.err
    assert said.err.startswith("sfd-sweep: error: ")
    assert said.err.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["ckpt.pth"]


def test_a_missing_checkpoint_is_told_in_one_line(command, folder):
    said = command("import-checkpoint", "nothing.pth", "out", *NAMES)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "there is no checkpoint nothing.pth" in said.err


def test_a_folder_that_is_there_is_replaced_by_force_alone(command, folder):
    torch.save(PRETRAINED, "ckpt.pth")
    assert command("import-checkpoint", "ckpt.pth", "teacher", *NAMES).code == 0
    again = ("import-checkpoint", "ckpt.pth", "teacher", *NAMES, "--weights", "raw")
    said = command(*again)
    assert said.code == 2
    assert "--force" in said.err
    assert same(load_score_model(ModelFolder.open("teacher")), EMA)
    assert command(*again, "--force").code == 0
    assert same(load_score_model(ModelFolder.open("teacher")), RAW)


@pytest.mark.parametrize(
    ("labels", "count", "rows", "columns"), [(["3"], 64, 4, 16), (["0", "3"], 10, 2, 10), ([], 2, 10, 2)]
)
def test_a_sample_is_a_picture_with_the_rows_that_were_asked_for(command, folder, labels, count, rows, columns):
    chosen = [word for label in labels for word in ("--label", label)]
    said = command("sample", "builtin:digits-distilled", *chosen, "--count", str(count), "--out", "grid.png")
    assert said.out.startswith(f"{count * (len(labels) or 10)} images of ")
    tile = 8 * 4 + 4
    with Image.open("grid.png") as picture:
        assert columns * tile < picture.width < columns * tile + 60
        assert picture.height == rows * (tile + 2) + 16


def test_a_sample_depends_on_its_seed_alone(command, folder):
    def picture(seed: str) -> bytes:
        command("sample", "builtin:digits-distilled", "--count", "4", "--seed", seed, "--out", "grid.png")
        return (folder / "grid.png").read_bytes()

    first = picture("7")
    assert picture("8") != first
    assert picture("7") == first


def test_evaluate_measures_any_generator_if_it_is_told_what_was_forgotten(command, folder):
    arguments = ["evaluate", "builtin:digits-distilled", "--forget", "0", "--override", "1", "--samples", "90"]
    said = command(*arguments, "--forget-samples", "50", "--format", "json")
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    assert found["samples"] == {"retained": 90, "forgotten": 50}
    assert found["metrics"]["unlearning_accuracy"] < 0.1  # nothing was forgotten


def test_evaluate_samples_a_teacher_by_ddim_for_a_classifier_and_reference_of_choice(command, folder):
    few = ("--forget", "0", "--override", "1", "--samples", "36", "--forget-samples", "8", "--format", "json")
    judged_by = ("--classifier", "builtin:digits", "--reference", "builtin:digits")
    said = command(
        "evaluate", "builtin:digits", *few, "--sampler", "ddim", "--steps", "4", "--guidance", "1.5", *judged_by
    )
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    assert found["samples"] == {"retained": 36, "forgotten": 8}
    assert found["metrics"]["unlearning_accuracy"] < 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("builtin:digits", "--steps", "4"), "--steps is for a diffusion model; add --sampler ddim"),
        (("builtin:digits", "--guidance", "1"), "--guidance is for a diffusion model"),
        (("builtin:digits", "--sampler", "ddim", "--t-init", "4"), "--t-init is for a one-step generator"),
        (("builtin:digits",), "is no one-step generator: its model_index.json has no t_init; give --sampler ddim"),
        (("builtin:digits-distilled", "--classifier", "./none"), "/none: there is no classifier"),
    ],
)
def test_evaluate_tells_in_one_line_what_does_not_go_together(command, folder, arguments, words):
    said = command("evaluate", *arguments, "--forget", "0", "--override", "1")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert words in said.err


@pytest.mark.parametrize(
    ("overrides", "same"), [(["2"], ["2", "2"]), (["random"], ["random"]), (["classifier"], ["random"])]
)
def test_evaluate_takes_an_override_for_all_or_for_each_of_several_forgotten_classes(command, folder, overrides, same):
    def figures(words):
        given = [word for override in words for word in ("--override", override)]
        forgotten = ["--forget", "0", "--forget", "1", "--samples", "80", "--forget-samples", "40"]
        said = command("evaluate", "builtin:digits-distilled", *forgotten, *given, "--format", "json")
        assert (said.code, said.err) == (0, "")
        return json.loads(said.out)

    found = figures(overrides)
    assert found == figures(same)
    assert found["samples"] == {"retained": 80, "forgotten": 40}
    assert found != figures(["2", "3"])


def test_a_generator_of_prompts_wants_prompts_and_one_of_classes_labels(command, folder):
    OneStepGenerator.load("builtin:digits-distilled").save(folder / "classes")
    save_stable_diffusion(folder / "teacher")
    (folder / "prompts.txt").write_text("a bee")
    assert command("distill", "teacher", "--prompts", "prompts.txt", "--out", "text", "--steps", "1").code == 0
    for arguments, words in (
        (("text",), "text makes images of prompts: give one or more by --prompt alone"),
        (("text", "--label", "0"), "text makes images of prompts"),
        (("classes", "--prompt", "a zero"), "classes makes images of classes: give one or more by --label alone"),
    ):
        said = command("sample", *arguments, "--out", "grid.png")
        assert said.code == 2
        assert words in said.err
    said = command("evaluate", "text", "--forget", "0", "--override", "1")
    assert said.code == 2
    assert "only generators of classes are evaluated" in said.err


@pytest.mark.parametrize("labels", [["1"], []])
def test_classes_of_one_name_are_sampled_by_their_indices(command, folder, labels):
    model = tiny_model()
    twins = ScoreModel(model.network, model.scheduler, ClassLabels(("ant", "crane", "crane")))
    OneStepGenerator(twins, 440).save(folder / "twins")
    chosen = [word for label in labels for word in ("--label", label)]
    said = command("sample", "twins", *chosen, "--count", "2", "--out", "grid.png")
    assert (said.code, said.err) == (0, "")
    assert said.out == f"{'2 images of crane' if labels else '6 images of ant, crane, crane'} in grid.png\n"
