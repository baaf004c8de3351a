"""What a model was never trained on: kept with its folder, and read from it."""

import json

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from tiny_latent_models import save_dit
from tiny_models import NAMES, save_teacher, tiny_model
from tiny_text_models import PROMPTS, save_stable_diffusion

from sfd_sweep.errors import UserError
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.conditioning import ClassLabels
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model, save_score_model

CLASSES, CONCEPTS = {"classes": [0, 2]}, {"concepts": ["ant", "a flower"]}
SAVED = {
    "unet": (lambda folder: save_teacher(folder, tiny_model()), CLASSES, ("ant", "cow"), (0, 2)),
    "dit": (save_dit, CLASSES, ("ant", "cow"), (0, 2)),
    "stable diffusion": (save_stable_diffusion, CONCEPTS, ("ant", "a flower"), (0, 1)),
}


def with_absent(folder, entry):
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"absent": entry}))
    return folder


@pytest.mark.parametrize(("save", "entry", "names", "indices"), SAVED.values(), ids=SAVED)
def test_every_family_keeps_what_it_was_never_trained_on(tmp_path, save, entry, names, indices):
    known = ModelFolder.open(str(save(tmp_path / "teacher")))
    assert (known.absent_names, known.absent(PROMPTS)) == ((), ())
    folder = ModelFolder.open(str(with_absent(tmp_path / "teacher", entry)))
    assert folder.absent_names == names
    conditions = folder.class_names or PROMPTS
    assert folder.absent(conditions) == indices
    model = load_score_model(folder, prompts=PROMPTS)
    assert model.conditioning.absent == indices
    assert {*model.conditioning.present, *indices} == {0, 1, 2}
    save_score_model(model, tmp_path / "copy")
    OneStepGenerator(model, 440).save(tmp_path / "generator")
    for copy in ("copy", "generator"):
        assert ModelFolder.open(str(tmp_path / copy)).index["absent"] == entry


def test_other_prompts_and_swapped_conditions_are_still_of_the_same_model(tmp_path):
    folder = ModelFolder.open(str(with_absent(save_stable_diffusion(tmp_path / "teacher"), {"concepts": ["bee"]})))
    model = load_score_model(folder, prompts=PROMPTS)
    assert model.conditioning.absent == (1,)
    assert model.conditioning.select(["BEE!", "a beehive", "a flower"], torch.device("cpu"))[0].absent == (0,)
    assert model.with_swapped_conditions({0: 2}).conditioning.absent == (1,)


def test_a_model_that_knows_all_has_no_such_entry(tmp_path):
    assert "absent" not in ModelFolder.open(str(save_teacher(tmp_path / "teacher", tiny_model()))).index
    assert tiny_model().conditioning.present == (0, 1, 2)


@pytest.mark.parametrize("saved", ["unet", "stable diffusion"])
def test_stock_diffusers_loads_the_folder_of_a_teacher(tmp_path, saved):
    save, entry, *_ = SAVED[saved]
    folder = with_absent(save(tmp_path / "teacher"), entry)
    pipeline = DiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    assert (pipeline.__class__ is StableDiffusionPipeline) == (saved == "stable diffusion")
    expected = load_score_model(ModelFolder.open(str(folder)), prompts=PROMPTS).network.state_dict()
    found = pipeline.unet.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_the_pipeline_of_a_generator_says_what_it_was_never_trained_on(tmp_path):
    model = tiny_model().with_conditioning(ClassLabels(NAMES, absent=[1]))
    OneStepGenerator(model, 440).save(tmp_path / "generator")
    pipeline = DiffusionPipeline.from_pretrained(
        tmp_path / "generator", custom_pipeline=str(tmp_path / "generator"), trust_remote_code=True
    )
    assert pipeline.config.absent == {"classes": [1]}
    images = pipeline(labels=["bee", 2], seeds=[3, 4], output_type="pt").images
    expected = OneStepGenerator(model, 440).sample(["bee", 2], seed=3)
    torch.testing.assert_close(images, expected / 2 + 0.5, rtol=0, atol=1e-5)


BROKEN_CLASSES = [
    [0],
    {"classes": [3]},
    {"classes": ["0"]},
    {"classes": [0, 0]},
    {"classes": [0, 1, 2]},
    {"classes": 0},
]
BROKEN_CLASSES += [{"concepts": ["ant"]}, {"classes": [True]}, {"classes": [0], "concepts": []}]
BROKEN_CONCEPTS = [{"classes": [0]}, {"concepts": [0]}, {"concepts": [" "]}, {"concepts": "ant"}, ["ant", "bee"]]


@pytest.mark.parametrize(
    ("family", "entry"),
    [*(("unet", entry) for entry in BROKEN_CLASSES), *(("stable diffusion", entry) for entry in BROKEN_CONCEPTS)],
    ids=str,
)
def test_a_broken_entry_is_refused(tmp_path, family, entry):
    save = SAVED[family][0]
    folder = with_absent(save(tmp_path / "teacher"), entry)
    with pytest.raises(UserError, match="model_index.json") as raised:
        ModelFolder.open(str(folder))
    assert "absent" in str(raised.value)
    assert "\n" not in str(raised.value)
