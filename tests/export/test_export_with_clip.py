"""A generator of prompts that CLIP evaluates: a local CLIP is exported with it, a hub id stays one."""

import json
import shutil

import pytest
from concept_cases import concept_space, save_tiny_teacher
from test_export_of_a_concept import exported_to
from tiny_clip import save_clip

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation import factory as building
from sfd_sweep.evaluation.classifiers import clip as clip_network
from sfd_sweep.export.folder_evaluation import AssetLocations, evaluate_folder

FILES = {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(name="folder")
def _folder(tmp_path, monkeypatch):
    """A teacher and CLIP, of random weights, which see anything in anything."""
    monkeypatch.setattr(building, "LEAST_RECOGNIZED", 0.0)
    folder = tmp_path / "sweep"
    save_tiny_teacher(folder)
    save_clip(folder / "clip")
    return folder


def space_of(folder, classifier, clip):
    evaluation = (f"evaluation.classifier={classifier}", f"evaluation.clip={clip}", "evaluation.class_of={}")
    return concept_space(folder, *evaluation, "evaluation.metrics=[clip_score]", called=0)


def evaluation_in(exported):
    return json.loads((exported / "sfd_sweep.json").read_text())["evaluation"]


def files_in(folder):
    return {path.name for path in folder.iterdir()}


def test_a_folder_with_clip_is_exported_once_and_evaluates_where_the_original_is_gone(folder, tmp_path):
    exported = exported_to(tmp_path / "ant-free", space_of(folder, f"clip:{folder}/clip", f"{folder}/./clip"))
    assert exported.found.metrics == pytest.approx(exported.recorded.metrics, rel=1e-3, abs=1e-6)
    assert exported.found.metrics.keys() >= {"clip_score", "fd_classifier_teacher"}
    evaluation = evaluation_in(exported.folder)
    assert (evaluation["classifier"], evaluation["clip"]) == ("clip:classifier", "classifier")
    assert files_in(exported.folder / "classifier") == FILES
    assert not (exported.folder / "clip").exists()
    moved = exported.folder.rename(tmp_path / "moved")
    shutil.rmtree(folder / "clip")
    found = evaluate_folder(moved, assets=AssetLocations(teacher=str(folder / "teacher")))
    assert found.metrics == pytest.approx(exported.recorded.metrics, rel=1e-3, abs=1e-6)
    assert str(folder) not in (moved / "sfd_sweep.json").read_text()


def test_a_hub_id_stays_one_and_another_clip_for_the_score_travels(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_network, "fetch", lambda hub_id, **_: folder / "clip")
    save_clip(folder / "other", seed=1)
    exported = exported_to(tmp_path / "ant-free", space_of(folder, "clip:somebody/clip", f"clip:{folder}/other"))
    evaluation = evaluation_in(exported.folder)
    assert (evaluation["classifier"], evaluation["clip"]) == ("clip:somebody/clip", "clip")
    assert files_in(exported.folder / "clip") == FILES
    assert not (exported.folder / "classifier").exists()
    shutil.rmtree(folder / "other")
    found = evaluate_folder(exported.folder, assets=AssetLocations(teacher=str(folder / "teacher")))
    assert found.metrics == pytest.approx(exported.recorded.metrics, rel=1e-3, abs=1e-6)


def test_clip_is_exported_with_a_classifier_of_another_kind_too(folder, tmp_path):
    space = concept_space(folder, f"evaluation.clip={folder}/clip")
    evaluation = evaluation_in(exported_to(tmp_path / "ant-free", space).folder)
    assert (evaluation["classifier"], evaluation["clip"]) == ("builtin:digits", "clip")


def test_a_score_whose_clip_is_gone_is_refused_by_the_name_that_the_sweep_has(folder, tmp_path, monkeypatch):
    space = concept_space(folder, f"evaluation.clip={folder}/clip")
    load = clip_network.load_clip

    def gone(source):
        shutil.rmtree(folder / "clip")
        return load(source)

    monkeypatch.setattr(clip_network, "load_clip", gone)
    with pytest.raises(UserError, match=f"{folder}/clip: there is no CLIP"):
        exported_to(tmp_path / "ant-free", space)
    assert not (tmp_path / "ant-free").exists()
