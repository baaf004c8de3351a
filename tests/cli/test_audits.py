"""Commands that audit and verify: what they print, write and refuse, and that Ctrl-C keeps what is done."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from photographs import encode
from PIL import Image
from recorded_sweep import NAME, record_sweep
from short_audits import short_audits
from tiny_models import save_teacher, tiny_model

from sfd_sweep.audit.report import AuditReport
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.conditioning import ClassLabels
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.audits import record_audit
from sfd_sweep.tracking.results import Results
from sfd_sweep.tracking.store import Store

__all__ = ["short_audits"]

DISTILLED, WITHOUT_0 = "builtin:digits-distilled", "builtin:digits-without-0"
FORGET_0 = ("--forget", "0", "--override", "1")
CONTROLS = ("--control", WITHOUT_0, "--start", DISTILLED)


@pytest.fixture(scope="session")
def audits(tmp_path_factory) -> str:
    """Results of attacks, which the tests share."""
    return str(tmp_path_factory.mktemp("audits"))


@pytest.fixture
def refusal(command):
    def refused(*arguments: str) -> str:
        said = command(*arguments)
        assert said.code == 2, said.err
        assert said.err.startswith("sfd-sweep: error: ")
        assert said.err.count("\n") == 1
        assert said.out == ""
        return said.err

    return refused


def test_an_audit_prints_the_headline_a_row_an_attack_and_who_judged(command, folder, audits):
    said = command("audit", WITHOUT_0, *FORGET_0, *CONTROLS, "--cache", audits, "--out", "found")
    assert said.code == 0, said.err
    first, second, *_ = said.out.splitlines()
    assert first.startswith("Worst excess over a generator that never knew: 0.00 (95 % interval -")
    assert second.startswith("For comparison: swap ")
    for words in ("generator, %", "never knew, %", "swap, %", "start, %", "excess", ">30% after", "seconds"):
        assert words in said.out
    for name in ("asking", "relearning, 25 images", "condition inversion", "leak@10"):
        assert name in said.out
    assert "Worst retained condition: " in said.out
    assert "A support vector machine on the reference images judges" in said.out
    assert said.out.endswith("found has audit.json and audit.png.\n")
    assert Image.open("found/audit.png").size[0] > 1000
    report = AuditReport.read(folder / "found")
    assert report is not None
    assert report.worst()[1].value == 0.0
    assert sorted(path.name for path in folder.iterdir()) == ["found"]


def test_an_audit_of_what_has_forgotten_nothing_says_that_it_is_a_control(command, folder, audits):
    said = command("audit", DISTILLED, *FORGET_0, "--cache", audits)
    assert said.code == 0, said.err
    assert said.out.startswith("The generator has not forgotten 0: asked for it, it shows it in ")
    assert "It is a control, and no unlearned generator." in said.out
    assert "Its excess is unknown: a control that never knew comes from `sfd-sweep pretrain`" in said.out
    assert "Not tried: the start and `swap`: the start is unknown" in said.out
    assert not list(folder.iterdir())


def test_an_audit_is_json_for_programs(command, folder, audits):
    said = command("audit", WITHOUT_0, *FORGET_0, *CONTROLS, "--cache", audits, "--format", "json")
    assert said.code == 0, said.err
    report = AuditReport.model_validate(json.loads(said.out))
    assert report.level == "quick"
    assert report.forgotten == ("0",)


def test_results_of_attacks_are_kept_by_default_beside_the_references(command, folder, audits):
    Folder.open(folder / "runs" / "audits").upload(Path(audits))
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "runs" / "audits").iterdir()}
    said = command("audit", WITHOUT_0, *FORGET_0, *CONTROLS)
    assert said.code == 0, said.err
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "runs" / "audits").iterdir()} == before


def test_ctrl_c_keeps_what_is_done_and_the_same_command_continues(folder):
    command = [sys.executable, "-m", "sfd_sweep", "audit", DISTILLED, *FORGET_0]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    kept, end = folder / "runs" / "audits", time.monotonic() + 300
    while not (kept.is_dir() and len(list(kept.glob("*.json"))) >= 2):
        assert program.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("sfd-sweep: error: the audit was stopped; ")
    assert last.endswith(f" of 4 parts are kept in {kept}, and the same command continues")
    before = {path: path.stat().st_mtime_ns for path in kept.glob("*.json")}
    assert not list(kept.glob("*.part"))
    subprocess.run(command, check=True, capture_output=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(kept.glob("*.json"))) == 4


def other_classes(folder: Path) -> str:
    generator = OneStepGenerator.load(WITHOUT_0)
    names = ClassLabels(tuple("abcdefghij"), absent=(0,))
    OneStepGenerator(generator.model.with_conditioning(names), generator.t_init).save(folder / "letters")
    return str(folder / "letters")


def other_step(folder: Path) -> str:
    generator = OneStepGenerator.load(WITHOUT_0)
    OneStepGenerator(generator.model, generator.t_init - 1).save(folder / "earlier")
    return str(folder / "earlier")


BAD = {
    "a control of other classes": ([DISTILLED, *FORGET_0], other_classes, "has other classes than the generator"),
    "a control of another step": ([DISTILLED, *FORGET_0], other_step, "has t_init"),
    "a control that knows": ([DISTILLED, *FORGET_0], lambda _: DISTILLED, "is not known to have been trained without"),
    "a control that is a teacher": ([DISTILLED, *FORGET_0], lambda _: "builtin:digits", "audit.control: "),
    "a control that is not there": ([DISTILLED, *FORGET_0], lambda folder: str(folder / "none"), "audit.control: "),
    "a judge that is not there": ([DISTILLED, *FORGET_0, "--judge", "./none"], None, "audit.judge: "),
    "the attackers' classifier as judge": (
        [DISTILLED, *FORGET_0, "--judge", "builtin:digits"],
        None,
        "is also the classifier that attacks optimize against",
    ),
    "a teacher": (["builtin:digits", *FORGET_0], None, "is no one-step generator"),
    "no forgotten class": ([DISTILLED], None, "say what was forgotten and what replaces it"),
    "an unknown class": ([DISTILLED, "--forget", "eleven", "--override", "1"], None, "there is no class 'eleven'"),
    "a folder that is not there": (["nowhere", *FORGET_0], None, "there is no folder nowhere; give one of a one-step"),
    "a start that is not there": ([DISTILLED, *FORGET_0, "--start", "./none"], None, "no model folder at './none'"),
    "an option of sweeps": (
        [DISTILLED, *FORGET_0, "--address", "local"],
        None,
        "--address is for the audit of a sweep",
    ),
    "an option of folders": ([NAME, "--knee", "--forget", "0"], None, "--forget is for the audit of a folder"),
    "two selections": ([NAME, "--front", "--knee"], None, "--front audits every trial on the front"),
}


@pytest.mark.parametrize(("arguments", "control", "words"), BAD.values(), ids=BAD)
def test_an_audit_refuses(arguments, control, words, folder, refusal, audits):
    more = () if control is None else ("--control", control(folder))
    before = sorted(folder.iterdir())
    assert words in refusal("audit", *arguments, *more, "--cache", audits)
    assert sorted(folder.iterdir()) == before


def test_a_judge_that_does_not_know_the_forgotten_class_is_refused(command, refusal, folder, audits):
    trained = command("train-classifier", "builtin:digits", "--out", "judge", "--epochs", "1")
    assert trained.code == 0, trained.err
    config = json.loads(Path("judge/config.json").read_text())
    config["class_names"][0] = "nought"
    Path("judge/config.json").write_text(json.dumps(config))
    assert "knows no class '0'" in refusal(
        "audit", DISTILLED, *FORGET_0, "--judge", str(folder / "judge"), "--cache", audits
    )


def test_reference_images_too_few_for_relearning_are_refused(folder, refusal, audits):
    images = load_images("builtin:digits")
    for digit in range(10):
        place = folder / "few" / str(digit)
        place.mkdir(parents=True)
        for index, pixels in enumerate(images.of_classes([digit]).pixels[: 12 if digit == 0 else 40]):
            scaled = (pixels.float() / pixels.max().clamp(min=1) * 255).byte()
            (place / f"{index}.png").write_bytes(encode(scaled[0].numpy(), "PNG"))
    said = refusal("audit", DISTILLED, *FORGET_0, "--reference", str(folder / "few"), "--cache", audits)
    assert "relearning, 25 images needs 25 images of what is forgotten, and there are 12" in said


def test_a_sweep_may_have_the_name_of_a_folder(recorded, refusal):
    """A selection of trials tells a sweep from a folder."""
    assert "trial 7; its trials are 0 to 4" in refusal("audit", NAME, "--trial", "7")
    assert "there is no folder" in refusal("audit", NAME)


def test_tables_show_audits_where_there_are_any(command, folder, audits):
    record_sweep(folder)
    assert "audit" not in command("pareto", NAME).out
    said = command("audit", WITHOUT_0, *FORGET_0, *CONTROLS, "--cache", audits, "--format", "json")
    report = AuditReport.model_validate_json(said.out)
    results = Results.read(NAME)
    store, sweep = Store.open(), Folder.open(results.record.summary.storage)
    for _ in range(2):  # as an audit that was interrupted between its writes
        record_audit(store, sweep, results.record.trials[1], report)
    low, high = report.worst()[1].low, report.worst()[1].high
    figure = f"excess 0.00 ({low:.2f} to {high:.2f}), quick"
    assert figure in command("pareto", NAME).out
    assert figure in command("show", NAME).out
    line = next(line for line in command("show", NAME, "--trial", "1").out.splitlines() if line.startswith("audit"))
    assert f"quick: worst excess over a generator that never knew, 0.00 (95 % interval {low:.2f} to {high:.2f})" in line
    run_id = results.record.trials[1].run.run_id
    run = store.client.get_run(run_id)
    assert run.data.metrics["audit_excess"] == 0.0
    curve = store.client.get_metric_history(run_id, "audit_quick/relearning_25_images/swap")
    assert [point.step for point in curve] == [0, 40]
    assert {file.path for file in store.client.list_artifacts(run_id, "audits")} == {
        "audits/audit-quick.json",
        "audits/audit-quick.png",
    }
    assert (folder / "runs" / NAME / "trials" / "0001" / "audits" / "audit-quick.json").is_file()
    again = Results.read(NAME).record.trials[1]
    assert again.metrics == results.record.trials[1].metrics
    table = Results.read(NAME).trials().set_index("trial")
    assert table.loc[1, "audit_excess"] == 0.0
    full = report.model_copy(update={"level": "full"})
    record_audit(store, sweep, again, full)
    record_audit(store, sweep, again, report)
    assert ", full" in command("pareto", NAME).out  # a quick audit does not hide a full one


def test_a_folder_that_claims_nothing_is_not_verified(refusal, folder):
    save_teacher(folder / "teacher", tiny_model())
    assert "claims nothing that could be verified" in refusal("verify", "teacher")
    assert "claims nothing that could be verified" in refusal("verify", "nowhere")


def test_a_generator_whose_figures_are_not_finite_is_told(command, folder, audits):
    generator = OneStepGenerator.load(DISTILLED)
    with torch.no_grad():
        next(generator.model.parameters()).fill_(torch.nan)
    generator.save(folder / "broken")
    said = command("audit", "broken", *FORGET_0, "--cache", audits)
    assert said.code == 0, said.err
    assert said.out.startswith("The generator is broken: asked for ")
