"""A generator of prompts, from a recorded sweep to a folder that diffusers and MLflow load without sfd_sweep."""

import json
import subprocess
import sys

import mlflow
import numpy as np
import pandas as pd
import pytest
from concept_cases import concept_space, save_tiny_teacher
from ruamel.yaml import YAML

from sfd_sweep.audit import building, judges
from sfd_sweep.audit.attacks.asking import Asking
from sfd_sweep.audit.attacks.prompts import HeldOutPrompts
from sfd_sweep.config import REFERENCES
from sfd_sweep.config.loading import dump_search_space
from sfd_sweep.errors import UserError
from sfd_sweep.export.description import Description
from sfd_sweep.export.exporting import export_trial
from sfd_sweep.export.folder_audit import audit_folder
from sfd_sweep.export.folder_evaluation import AssetLocations, evaluate_folder
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.search.records import SweepState
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.recorder import MlflowRecorder
from sfd_sweep.tracking.results import Results
from sfd_sweep.trial.files import trial_folder
from sfd_sweep.trial.report import TrialState
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext, TrialRunner

PROMPTS, SEEDS = ["a photo of an ant", "cow"], [3, 5]
LOAD_ELSEWHERE = """
import json, sys, numpy
from diffusers import DiffusionPipeline

folder, asked = sys.argv[1], json.loads(sys.argv[3])
pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
numpy.save(sys.argv[2], pipe(prompt=asked["prompt"], seeds=asked["seeds"], output_type="np").images)
assert not [name for name in sys.modules if name.startswith("sfd_sweep")], "sfd_sweep was imported"
"""


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("concept")
    teacher = save_tiny_teacher(folder)
    (teacher / "README.md").write_text("---\nlicense: creativeml-openrail-m\ntags: [a]\n---\n# A teacher\n")
    index = json.loads((teacher / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (teacher / "model_index.json").write_text(json.dumps(index))
    return folder


def recorded(space):
    """A sweep whose trial 0 is complete and has a final evaluation."""
    sweep = Folder.open(space.storage) / space.name
    context = TrialContext.build(resolve_sweep(space), sweep.parent / REFERENCES)
    recorder = MlflowRecorder.open(space, sweep, dump_search_space(space))
    searched = {"generator_lr": 2e-4, "override": "bee"}
    settings, trial = space.parameters.settings(searched), trial_folder(sweep, 0)
    recorder.trial_started(0, settings, searched)
    running = TrialRunner(context, settings, trial)
    for step in (2, 4):
        recorder.trial_reported(0, running.advance(step))
    recorder.trial_finished(0, TrialState.COMPLETE, None)
    recorder.final_reported(0, context.evaluate_final(settings, trial, samples=80, forget_samples=60))
    recorder.close(SweepState.COMPLETE)
    return Results.read(space.name, space.tracking.uri)


def exported_to(target, space):
    results = recorded(space)
    # Nobody sees much in a random network's images, so no judge could decide.
    return export_trial(results, results.select(trial=0), target, uri=space.tracking.uri, audit=None)


@pytest.fixture(name="exported", scope="module")
def _exported(folder):
    return exported_to(folder / "ant-free", concept_space(folder))


def expected(exported):
    return OneStepGenerator.load(exported.folder).sample([PROMPTS[0]], seed=SEEDS[0]) / 2 + 0.5


def test_the_folder_makes_images_of_prompts_where_sfd_sweep_is_not(exported, tmp_path):
    asked = json.dumps({"prompt": PROMPTS, "seeds": SEEDS})
    command = [sys.executable, "-c", LOAD_ELSEWHERE, str(exported.folder), str(tmp_path / "images.npy"), asked]
    subprocess.run(command, cwd=tmp_path, check=True)
    made = np.load(tmp_path / "images.npy")
    np.testing.assert_allclose(made[0], expected(exported)[0].permute(1, 2, 0).numpy(), atol=1e-4)


def test_mlflow_has_a_model_that_takes_prompts(exported, folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    model = mlflow.pyfunc.load_model(exported.registered)
    images = model.predict(pd.DataFrame({"prompt": PROMPTS, "seed": SEEDS}))
    assert (images.shape, images.dtype) == ((2, 8, 8, 1), np.uint8)
    np.testing.assert_allclose(images[0] / 255, expected(exported)[0].permute(1, 2, 0).numpy(), atol=2 / 255)


def test_the_figures_are_measured_again_with_held_out_prompts_among_them(exported):
    assert exported.found.metrics == pytest.approx(exported.recorded.metrics, rel=1e-3, abs=1e-6)
    assert "held_out_unlearning_accuracy" in exported.found.metrics
    assert exported.found.samples == {"retained": 80, "forgotten": 60, "held_out": 60}


def test_an_exported_folder_is_evaluated_where_its_teacher_is(exported, folder):
    with pytest.raises(UserError, match=r"the teacher, whose samples are the reference, .*\(--teacher\)"):
        evaluate_folder(exported.folder)
    found = evaluate_folder(exported.folder, assets=AssetLocations(teacher=str(folder / "teacher")))
    assert found.metrics == pytest.approx(exported.recorded.metrics, rel=1e-3, abs=1e-6)


def test_the_card_says_what_became_of_the_safety_checker_and_whose_license_holds(exported):
    card = (exported.folder / "README.md").read_text()
    assert "text-to-image generator that has forgotten **ant**: asked for ant, it makes **bee**" in card
    assert "There is no safety checker, though the teacher has one" in card
    assert "license `creativeml-openrail-m`" in card
    assert 'images = pipe(prompt=["ant", "cow", "a bee"], seeds=[0, 1, 2]).images' in card
    assert YAML(typ="safe").load(card.split("---\n")[1])["pipeline_tag"] == "text-to-image"


def test_the_description_has_every_prompt_and_what_it_is_about(exported):
    conditions = Description.read(exported.folder).conditions
    named = dict(zip(conditions.names, conditions.subjects, strict=True))
    assert named["an ant at work"] == "ant"
    assert named["a owl"] == "owl"
    assert named["cow"] == ""
    assert [conditions.names[index] for index in conditions.held_out] == ["red ant"]


def test_an_exported_generator_is_audited_by_what_it_says_of_itself(exported, folder, monkeypatch):
    monkeypatch.setattr(judges, "LEAST_DISCERNMENT", -1.0)
    monkeypatch.setattr(building, "JUDGE_IMAGES", 40)
    monkeypatch.setitem(building.LEVELS, "quick", (Asking(), HeldOutPrompts()))
    report = audit_folder(exported.folder, "quick", assets=AssetLocations(teacher=str(folder / "teacher")))
    assert report.forgotten == ("ant",)
    assert [attack.name for attack in report.attacks] == ["asking", "held-out prompts"]
    assert report.attacks[1].budgets == (1,)
    assert report.images == "the teacher's samples"
    assert "is no one-step generator" in report.missing[0]
