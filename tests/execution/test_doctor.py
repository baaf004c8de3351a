"""Findings of the doctor on this machine."""

import shutil
from pathlib import Path

import pytest
from concept_cases import concept_space
from tiny_clip import save_clip
from tiny_text_models import save_stable_diffusion

from sfd_sweep.config.loading import load_search_space
from sfd_sweep.errors import UserError
from sfd_sweep.execution import probes
from sfd_sweep.execution.doctor import CheckStatus, examine

DIGITS = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"


def test_a_worker_that_fits_on_no_machine_is_a_fault(cluster: None, tmp_path: Path) -> None:
    space = load_search_space(DIGITS, [f"storage={tmp_path / 'runs'}", "resources.cpus_per_worker=1000"])
    (found,) = [finding for finding in examine(space, None) if finding.check == "resources"]
    assert (found.place, found.status) == ("cluster", CheckStatus.FAULT)
    assert found.text.startswith("resources.cpus_per_worker: a worker needs 1000 CPUs")
    assert not (tmp_path / "runs").exists()


def test_clip_is_opened_with_the_concepts_as_a_slot_opens_it(tmp_path: Path) -> None:
    save_stable_diffusion(tmp_path / "teacher")
    for name in ("classifier", "scorer"):
        save_clip(tmp_path / name)
    clips = (f"evaluation.classifier=clip:{tmp_path}/classifier", f"evaluation.clip={tmp_path}/scorer")
    space = concept_space(tmp_path, "evaluation.class_of={}", *clips, called=0)
    probes.find_models(space, tmp_path)
    for name in ("scorer", "classifier"):
        shutil.rmtree(tmp_path / name)
        with pytest.raises(UserError, match=f"{tmp_path}/{name}: there is no CLIP"):
            probes.find_models(space, tmp_path)


def test_a_port_that_cannot_be_checked_is_not_called_safe(cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def defective(port: int) -> bool:
        raise ImportError("no module named ray_client_pb2")

    monkeypatch.setattr(probes, "client_port_is_open", defective)
    (found,) = [finding for finding in examine(None, None) if finding.check == "Ray Client"]
    assert found.status is CheckStatus.WARNING
    assert "no module named ray_client_pb2" in found.text
