"""Verified folders: every claim holds, or one line says which does not; and audits that change a folder at once."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from recorded_trials import FRONT, Sweep, record_sweep
from safetensors.torch import save_file

from sfd_sweep.audit.report import GENERATOR, AttackReport, AttackRun, AuditReport, CurvePoint
from sfd_sweep.config import Audit
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.errors import ClaimFailed, UserError
from sfd_sweep.evaluation.reference_images import RealImages
from sfd_sweep.export import folder_audit
from sfd_sweep.export.appearing import changed_at_once
from sfd_sweep.export.description import Description
from sfd_sweep.export.exporting import Exported, export_trial
from sfd_sweep.export.folder_audit import AuditSources, audit_folder, audit_settings, keep_audit
from sfd_sweep.export.verification import check_checksums, write_checksums
from sfd_sweep.export.verifying import check_claims, revival, verify_folder
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.conditioning import ABSENT
from sfd_sweep.models.folder import find_model
from sfd_sweep.storage import exchange
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.results import Selection
from sfd_sweep.trial.files import GENERATOR as GENERATOR_FOLDER
from sfd_sweep.trial.files import step_folder, trial_folder
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def as_if_it_had_known(folder: Path) -> Path:
    """Return a copy of the control that never knew 0, which does not say so."""
    shutil.copytree(find_model("builtin:digits-without-0"), folder)
    index = json.loads((folder / "model_index.json").read_text())
    del index[ABSENT]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """An exported generator that does not know 0: the weights of the control that never knew, in a trial's place."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("forgetful")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sweep = record_sweep(folder)
        results, space = sweep.results, sweep.results.record.space
        trial = trial_folder(Folder.open(results.record.summary.storage), FRONT)
        stored = step_folder(trial, 4) / GENERATOR_FOLDER
        stored.delete()
        stored.upload(as_if_it_had_known(folder / "never-knew"))
        context = TrialContext.build(resolve_sweep(space), None)
        chosen = results.select(trial=FRONT).trial
        final = context.evaluate_final(chosen.settings, trial, samples=900, forget_samples=300)
        choice = Selection(replace(chosen, final=final), "It does not know 0.")
        return export_trial(results, choice, folder / "zero-free", alias=None, uri=sweep.uri)


@pytest.fixture
def zero_free(forgetful: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(forgetful.folder, tmp_path / "zero-free"))


def revive(folder: Path, *, steps: int = 60) -> None:
    """Fine-tune a generator on zeros, and rewrite the hashes, as somebody does who means no harm."""
    generator = OneStepGenerator.load(folder)
    targets = next(RealImages(load_images("builtin:digits")).batches([0], 25))
    noise = torch.Generator().manual_seed(0)
    adam = torch.optim.Adam(generator.model.network.parameters(), lr=1e-3)
    for _ in range(steps):
        images = generator(torch.randn(len(targets), 1, 8, 8, generator=noise), torch.zeros(len(targets), dtype=int))
        loss = (images - targets).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    save_file(generator.model.network.state_dict(), folder / WEIGHTS)
    write_checksums(folder)


def failures(folder: Path) -> dict[str, str | None]:
    return {finding.claim: finding.failure for finding in verify_folder(folder)}


def test_an_untouched_folder_is_what_it_claims(zero_free: Path) -> None:
    found = list(verify_folder(zero_free))
    assert [(each.claim, each.failure) for each in found] == [
        (claim, None) for claim in ("checksums", "pipeline", "figures", "audit")
    ]
    check_claims(found, zero_free)


def test_a_generator_that_was_tuned_on_what_it_had_forgotten_fails_in_one_line(zero_free: Path) -> None:
    revive(zero_free)
    check_checksums(zero_free)  # they are those of the changed folder
    found = list(verify_folder(zero_free))
    with pytest.raises(ClaimFailed, match=r"zero-free is not what it claims to be; .*audit: .* brings back") as raised:
        check_claims(found, zero_free)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 1
    assert {each.claim for each in found if each.failure} >= {"audit"}


def test_a_changed_file_fails_before_anything_of_the_folder_is_run(zero_free: Path) -> None:
    (zero_free / "pipeline.py").write_text("raise SystemExit('run')")
    found = list(verify_folder(zero_free))
    assert [each.claim for each in found] == ["checksums"]
    assert "pipeline.py has changed since it was exported" in str(found[0].failure)


def test_figures_that_were_polished_fail(zero_free: Path) -> None:
    path = zero_free / "sfd_sweep.json"
    content = json.loads(path.read_text())
    content["final"]["metrics"]["fd_classifier"] /= 4
    path.write_text(json.dumps(content))
    write_checksums(zero_free)
    found = failures(zero_free)
    assert "fd_classifier was recorded as" in str(found["figures"])
    assert found["audit"] is None


def test_an_audit_that_was_polished_fails(zero_free: Path) -> None:
    path = zero_free / "audit.json"
    report = json.loads(path.read_text())
    relearning = next(each for each in report["attacks"] if each["name"].startswith("relearning"))
    for point in relearning["runs"]["generator"][0]["points"]:
        point["shown"] = 0
    path.write_text(json.dumps(report))
    write_checksums(zero_free)
    assert "relearning, 25 images at 40 updates brings back" in str(failures(zero_free)["audit"])


def test_a_folder_without_an_audit_claims_none(sweep: Sweep, tmp_path: Path) -> None:
    choice = sweep.results.select(trial=FRONT)
    export_trial(sweep.results, choice, tmp_path / "out", alias=None, uri=sweep.uri, audit=None)
    found = {each.claim: each for each in verify_folder(tmp_path / "out")}
    assert found["audit"].failure is None
    assert "none is recorded" in found["audit"].text
    card = (tmp_path / "out" / "README.md").read_text()
    assert "## Audit\n\nThe generator was not audited" in card
    settings = audit_settings(tmp_path / "out", AuditSources())
    stated = sweep.results.record.space.audit
    assert (settings.judge, settings.control) == (stated.judge, stated.control)
    assert stated.control is not None


def test_a_quick_audit_is_not_compared_with_full_attacks(zero_free: Path) -> None:
    with pytest.raises(UserError, match="audit.json holds a quick audit"):
        list(verify_folder(zero_free, level="full"))


def test_a_folder_that_was_not_exported_claims_nothing() -> None:
    with pytest.raises(UserError, match="claims nothing that could be verified") as raised:
        list(verify_folder(find_model("builtin:digits-distilled")))
    assert raised.value.exit_code == 2


def report_with(recorded: AuditReport, *shown: int, device: str = "cpu") -> AuditReport:
    points = tuple(CurvePoint(budget=10 * step, shown=hits, samples=300) for step, hits in enumerate(shown))
    runs = {GENERATOR: (AttackRun(seed=0, points=points, seconds=1.0),)}
    attack = AttackReport(name="relearning, 25 images", description="", unit="updates", runs=runs)
    return recorded.model_copy(update={"attacks": (attack,), "device": device})


@pytest.mark.parametrize(
    ("recorded", "found", "words"),
    [
        ((3, 30, 90), (3, 30, 90), None),
        ((3, 30, 90), (0, 0, 0), None),
        ((3, 30, 90), (3, 40, 100), None),
        ((3, 30, 90), (3, 30, 150), "at 20 updates brings back what was forgotten in 50% of the samples, and 30%"),
        ((3, 30, 90), (100, 30, 90), "at 0 updates brings back what was forgotten in 33% of the samples, and 1%"),
    ],
)
def test_a_revival_is_a_rate_whose_interval_lies_above_the_recorded_one(
    forgetful: Exported, recorded: tuple[int, ...], found: tuple[int, ...], words: str | None
) -> None:
    assert forgetful.audit is not None
    said = revival(report_with(forgetful.audit, *recorded), report_with(forgetful.audit, *found))
    assert (said is None) if words is None else (words in str(said))


def test_another_kind_of_device_may_differ_by_more(forgetful: Exported) -> None:
    assert forgetful.audit is not None
    recorded = report_with(forgetful.audit, 3, 30, 90)
    assert revival(recorded, report_with(forgetful.audit, 3, 30, 135, device="cuda")) is None
    assert revival(recorded, report_with(forgetful.audit, 3, 30, 135))
    assert revival(recorded, report_with(forgetful.audit, 3, 30, 200, device="cuda"))
    assert revival(recorded, report_with(forgetful.audit, 3, 250, 90, device="cuda")) is None


def test_the_card_has_the_attacks_the_controls_and_who_judged(forgetful: Exported) -> None:
    card = (forgetful.folder / "README.md").read_text()
    section = card.partition("## Audit\n")[2].partition("## Why this one")[0]
    assert "Worst excess over a generator that never knew: " in section
    assert "| attack | budget | generator, % | never knew, % | swap, % | start, % | excess | >30% after |" in section
    for name in ("asking", "relearning, 25 images", "condition inversion", "leak@10"):
        assert f"| {name} | " in section
    assert "![the attacks' curves over their budgets](audit.png)" in section
    assert "A support vector machine on the reference images judges" in section
    assert "An attacker's images are real images." in section
    assert "never knew, `builtin:digits-without-0` (weights SHA-256 `" in section
    assert "Not tried" not in section
    assert "No robustness is claimed" not in " ".join(card.split())


def test_the_description_has_the_audits_settings(forgetful: Exported) -> None:
    origin = Description.read(forgetful.folder).audit
    assert origin is not None
    assert (origin.level, origin.judge) == ("quick", "svm")
    assert origin.control is not None
    assert origin.control.source == "builtin:digits-without-0"
    assert len(str(origin.control.sha256)) == 64
    assert AuditReport.read(forgetful.folder) == forgetful.audit


def test_a_local_control_is_told_by_name_and_asked_for_elsewhere(zero_free: Path, tmp_path: Path) -> None:
    control = shutil.copytree(find_model("builtin:digits-without-0"), tmp_path / "my-control")
    report = AuditReport.read(zero_free)
    assert report is not None
    keep_audit(zero_free, report, Audit(control=str(control)))
    check_checksums(zero_free)
    origin = Description.read(zero_free).audit
    assert origin is not None
    assert origin.control is not None
    assert origin.control.source == "my-control"
    assert str(tmp_path) not in (zero_free / "sfd_sweep.json").read_text()
    with pytest.raises(UserError, match=r"the audit's control 'my-control' is not on this machine; .*--control"):
        audit_settings(zero_free, AuditSources())
    assert audit_settings(zero_free, AuditSources(control=str(control))).control == str(control)


def test_a_local_judge_comes_with_the_folder(zero_free: Path, tmp_path: Path) -> None:
    judge = shutil.copytree(find_model("builtin:digits").parent / "classifier", tmp_path / "my-judge")
    report = AuditReport.read(zero_free)
    assert report is not None
    keep_audit(zero_free, report, Audit(judge=str(judge)))
    check_checksums(zero_free)
    assert (zero_free / "judge" / "model.safetensors").is_file()
    assert audit_settings(zero_free, AuditSources()).judge == str(zero_free / "judge")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_audit_that_cannot_be_kept_leaves_the_folder_as_it_was(zero_free: Path, monkeypatch) -> None:
    before, report = snapshot(zero_free), AuditReport.read(zero_free)
    assert report is not None

    def fail(_folder: Path) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(folder_audit, "write_checksums", fail)
    with pytest.raises(OSError, match="the disk is full"):
        keep_audit(zero_free, report.model_copy(update={"missing": ("something",)}), Audit())
    assert snapshot(zero_free) == before
    assert [path.name for path in zero_free.parent.iterdir()] == ["zero-free"]


KILLED = """
import os, signal, sys
from pathlib import Path
from sfd_sweep.audit.report import AuditReport
from sfd_sweep.config import Audit
from sfd_sweep.export import appearing, folder_audit

folder, where = Path(sys.argv[1]), sys.argv[2]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

original = appearing.replace_folder
if where == "before":
    appearing.replace_folder = die
elif where == "after":
    appearing.replace_folder = lambda *folders: (original(*folders), die())
else:
    folder_audit.write_checksums = die
report = AuditReport.read(folder).model_copy(update={"missing": ("a thing",)})
folder_audit.keep_audit(folder, report, Audit())
"""


@pytest.mark.parametrize(
    ("where", "is_new"),
    [("amid", False), *(pytest.param(*case, marks=pytest.mark.slow) for case in (("before", False), ("after", True)))],
)
def test_a_process_that_is_killed_leaves_the_old_folder_or_the_new_one(
    zero_free: Path, where: str, is_new: bool
) -> None:
    before = snapshot(zero_free)
    done = subprocess.run([sys.executable, "-c", KILLED, str(zero_free), where], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    check_checksums(zero_free)
    report = AuditReport.read(zero_free)
    assert report is not None
    assert report.missing == (("a thing",) if is_new else ())
    assert (snapshot(zero_free) == before) is not is_new
    assert ("Not tried: a thing." in (zero_free / "README.md").read_text()) is is_new


def test_weights_are_shared_and_not_copied(zero_free: Path) -> None:
    inode = (zero_free / WEIGHTS).stat().st_ino
    with changed_at_once(zero_free) as new:
        (new / "note.txt").write_text("new")
    assert (zero_free / WEIGHTS).stat().st_ino == inode
    assert (zero_free / "note.txt").is_file()


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_replaced_with_or_without_an_exchange_of_names(tmp_path: Path, monkeypatch, can_exchange) -> None:
    if not can_exchange:
        monkeypatch.setattr(exchange, "_exchanged", lambda *_: False)
    for name in ("new", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    exchange.replace_folder(tmp_path / "new", tmp_path / "target", tmp_path / "old")
    assert {path.parent.name: path.read_text() for path in tmp_path.rglob("file")} == {"target": "new", "old": "target"}


def test_an_exported_folder_is_audited_as_it_was(zero_free: Path, tmp_path: Path) -> None:
    report = audit_folder(zero_free, cache=Folder.open(tmp_path / "cache"))
    recorded = AuditReport.read(zero_free)
    assert recorded is not None
    for found, before in zip(report.attacks, recorded.attacks, strict=True):
        for subject in report.subjects:
            assert found.curve(subject) == before.curve(subject), (found.name, subject)
    assert report.worst()[1].value < 0.1
