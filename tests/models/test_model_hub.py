"""What is fetched of a repository on the hub."""

import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest
from tiny_latent_models import save_dit
from tiny_models import save_teacher, tiny_model
from tiny_text_models import save_stable_diffusion

from sfd_sweep import hub
from sfd_sweep.errors import UserError
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.weights import OLD_WEIGHTS, WEIGHTS


@pytest.fixture(name="fetched")
def _fetched(tmp_path, monkeypatch):
    """A hub of one repository, `repository`, and the folder that what is fetched of it appears in."""
    target = tmp_path / "fetched"

    def snapshot_download(hub_id, *, repo_type, allow_patterns, local_files_only):
        repository = tmp_path / "repository"
        for path in repository.rglob("*"):
            name = path.relative_to(repository)
            if path.is_file() and any(fnmatch(str(name), pattern) for pattern in allow_patterns):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / name)
        return str(target)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr(hub, "answers", lambda endpoint: True)
    return target


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("save", [save_dit, lambda folder: save_teacher(folder, tiny_model()), save_stable_diffusion])
def test_descriptions_and_whole_weights_are_fetched_and_nothing_else(tmp_path, fetched, save):
    repository = save(tmp_path / "repository")
    (repository / "README.md").write_text("---\nlicense: mit\n---\n")
    needed = files(repository)
    network = next(path for name in ("unet", "transformer") if (path := repository / name).is_dir())
    (repository / "safety_checker").mkdir()
    for surplus in (
        "picture.png",
        f"{network.name}/{OLD_WEIGHTS}",
        f"{network.name}/model.fp16.safetensors",
        "x.ckpt",
        "safety_checker/model.safetensors",
    ):
        (repository / surplus).write_bytes(b"large")
    assert ModelFolder.open("owner/name").parameter_count > 0
    assert files(fetched) == needed


def test_old_weights_are_fetched_where_there_are_no_others(tmp_path, fetched):
    repository = save_dit(tmp_path / "repository")
    (repository / "vae" / WEIGHTS).rename(repository / "vae" / OLD_WEIGHTS)
    (repository / "transformer" / OLD_WEIGHTS).write_bytes(b"not needed")
    ModelFolder.open("owner/name")
    assert files(fetched) == files(repository) - {f"transformer/{OLD_WEIGHTS}"}


def test_of_a_pipeline_that_is_not_supported_no_weights_are_fetched(tmp_path, fetched):
    index = save_stable_diffusion(tmp_path / "repository") / "model_index.json"
    index.write_text(index.read_text().replace("CLIPTextModel", "T5EncoderModel"))
    with pytest.raises(UserError, match="its text_encoder is T5EncoderModel"):
        ModelFolder.open("owner/name")
    assert files(fetched) == {"model_index.json"}
