"""Commands that show the results of a recorded sweep."""

import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pandas as pd
import pytest
from PIL import Image
from recorded_sweep import BEST_SCORE, KNEE, NAME, TRIALS, record_sweep, report

from sfd_sweep.tracking.results import Results

pytestmark = pytest.mark.usefixtures("recorded")


def rows(text: str) -> dict[str, list[str]]:
    """The cells of the first table of trials, by the first of each row."""
    lines = text.splitlines()
    begin = next(index for index, line in enumerate(lines) if line.split()[:1] == ["trial"])
    table = []
    for line in lines[begin + 1 :]:
        if not line.strip():
            break
        table.append(line.split())
    return {first: rest for first, *rest in table}


def test_list_has_a_line_for_each_sweep(command):
    said = command("list")
    assert said.code == 0
    name, state, trials, front = next(line for line in said.out.splitlines() if line.startswith(NAME)).split()[:4]
    assert (name, state, trials, front) == (NAME, "complete", "5/5", "3")


def test_show_has_every_trial_with_state_step_and_figures(command):
    table = rows(command("show", NAME).out)
    assert list(table) == [str(number) for number in TRIALS]
    assert table["0"][:4] == ["complete", "20", "1", "0.5"]
    assert table["4"][:2] == ["failed", "10"]


def test_show_tells_task_search_space_objectives_and_counts(command):
    out = command("show", NAME).out
    assert "builtin:digits forgets 0" in out
    assert "4 complete, 1 failed" in out
    assert re.search(r"searched: generator_lr +from 1e-05 to 0.001", out)
    assert re.search(r"fixed: batch_size +32", out)
    assert re.search(r"constraint: override_distance +at most 40 *\n", out)


def test_no_column_of_a_table_is_cut_off(command):
    assert "…" not in command("show", NAME).out + command("pareto", NAME).out


def test_show_of_a_chosen_trial_has_all_its_settings_and_why(command):
    out = command("show", NAME, "--trial", "4").out
    assert "Trial 4 was requested; it is failed" in out
    assert re.search(r"override +1 +\(searched\)", out)
    assert re.search(r"beta2 +0.999", out)
    assert "diverged at step 13" in out


def test_pareto_has_the_front_by_its_first_objective_and_nothing_else(command):
    said = command("pareto", NAME)
    table = rows(said.out)
    assert list(table) == ["0", "1", "2"]
    assert table[str(KNEE)][-3:] == ["knee,", "best", "score"]
    assert "2,007 retained and 1,000 forgotten samples" in said.out
    assert "--picture FILE" in said.out


@pytest.mark.parametrize(
    ("policy", "number", "why"),
    [
        (["--knee"], KNEE, "is the knee"),
        (["--best-score"], BEST_SCORE, "has the best combined score"),
        (["--trial", "3"], 3, "was requested; it is not on the front"),
        (["--min", "unlearning_accuracy=0.98"], 2, "unlearning_accuracy at least 0.98"),
        (["--max", "fd_classifier=1.2"], 0, "fd_classifier at most 1.2"),
        (["--max", "fd_classifier=2", "--min", "unlearning_accuracy=0.9"], 1, "at most 2 and unlearning_accuracy"),
    ],
)
def test_every_way_of_choosing_says_which_trial_and_why(command, policy, number, why):
    said = command("pareto", NAME, *policy)
    assert said.code == 0
    assert re.search(rf"Trial {number} .*{why}", said.out)


def test_the_front_as_json_has_figures_and_settings_as_numbers(command):
    members = json.loads(command("pareto", NAME, "--format", "json").out)
    assert [member["trial"] for member in members] == [0, 1, 2]
    assert members[1]["unlearning_accuracy"] == 0.95
    assert members[1]["generator_lr"] == pytest.approx(2e-4)
    assert members[1]["override"] == "random"


def test_the_front_as_csv_is_a_row_each(command):
    table = pd.read_csv(io.StringIO(command("pareto", NAME, "--format", "csv").out))
    assert list(table["trial"]) == [0, 1, 2]
    assert list(table["fd_classifier"]) == [1.0, 1.5, 6.0]


def test_the_front_as_parquet_goes_into_a_file(command, tmp_path):
    assert command("pareto", NAME, "--format", "parquet", "--out", str(tmp_path / "front.parquet")).code == 0
    assert list(pd.read_parquet(tmp_path / "front.parquet")["trial"]) == [0, 1, 2]


def test_a_chosen_trial_is_the_only_row(command):
    assert [row["trial"] for row in json.loads(command("pareto", NAME, "--knee", "--format", "json").out)] == [KNEE]


def test_the_picture_is_a_png_where_it_was_asked_for(command, tmp_path):
    target = tmp_path / "front.png"
    assert str(target) in command("pareto", NAME, "--picture", str(target)).out
    with Image.open(target) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 400


def test_another_store_is_named_by_uri(command, recorded, folder):
    assert NAME in command("list", "--uri", f"sqlite:///{recorded}/mlflow.db").out


def test_ui_serves_the_store_on_this_machine_alone(recorded: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, "-m", "sfd_sweep", "ui", "--port", str(port)]
    log = recorded / "ui.log"
    with log.open("w") as output:
        server = subprocess.Popen(program, stdout=output, stderr=output, start_new_session=True)
    try:
        assert wait_for(f"http://127.0.0.1:{port}/health", server, log) == 200
        assert f"http://127.0.0.1:{port}" in log.read_text().splitlines()[0]
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def wait_for(address: str, server: subprocess.Popen, log: Path) -> int:
    for _ in range(600):
        try:
            return urlopen(address, timeout=5).status
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
    raise AssertionError(log.read_text())


STRICT = "strict"


@pytest.fixture(scope="module")
def forgetful_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forgetful")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        record_sweep(folder, "selection={min: {unlearning_accuracy: 0.98}}", swap=report(0, 0.6, 1.0))
        record_sweep(folder, "selection={min: {unlearning_accuracy: 0.999}}", f"name={STRICT}")
    return folder


@pytest.fixture
def forgetful(forgetful_once: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Recorded sweeps, to be looked at only: one whose file counts trial 2 as forgotten and that has a null baseline,
    and one named `strict` whose file counts no trial."""
    monkeypatch.chdir(forgetful_once)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return forgetful_once


def test_show_and_pareto_mark_what_counts_as_forgotten(command, forgetful):
    front = command("pareto", NAME)
    assert {number: cells[-2:] for number, cells in rows(front.out).items() if number != "2"} == {
        "0": ["no", "yes"],
        "1": ["no", "yes"],
    }
    assert rows(front.out)["2"][-4:] == ["yes", "knee,", "best", "score"]
    assert "1 of 3 count as forgotten: unlearning_accuracy at least 0.98." in front.out
    shown = command("show", NAME).out
    assert re.search(r"counts as forgotten +unlearning_accuracy at least 0.98", shown)
    assert rows(shown)["3"][-1] == "no"
    members = json.loads(command("pareto", NAME, "--format", "json").out)
    assert [member["counts_as_forgotten"] for member in members] == [False, False, True]


def test_the_null_baseline_has_a_line_of_its_own_with_its_samples(command, forgetful):
    line = "fd_classifier 0.6, unlearning_accuracy 1, override_distance 4 on 2,007 retained and 1,000 forgotten samples"
    out = command("pareto", NAME).out
    assert f"swap, which forgets nothing: {line}." in out
    assert list(rows(out)) == ["0", "1", "2"]
    assert re.search(rf"swap +{line}", command("show", NAME).out)
    assert [row["trial"] for row in json.loads(command("pareto", NAME, "--format", "json").out)] == [0, 1, 2]


def test_pareto_says_plainly_that_no_trial_counts_as_forgotten(command, forgetful):
    said = command("pareto", STRICT, "--knee")
    assert "No trial on the front counts as forgotten, which takes unlearning_accuracy at least 0.999" in said.out
    assert re.search(r"Trial 1 is the knee.*no trial on the front\s+does\.", said.out, re.S)


def test_export_of_what_does_not_count_as_forgotten_is_refused_with_what_to_do(command, forgetful):
    said = command("export", NAME, "--trial", "0", "--out", "o")
    assert said.code == 2
    (line,) = said.err.splitlines()
    assert (
        "trial 0 of recorded does not count as forgotten: unlearning_accuracy is 0.5 and must be at least 0.98" in line
    )
    assert "the nearest on the front that does is trial 2 (--trial 2)" in line
    assert "--anyway exports this one" in line
    assert not (forgetful / "o").exists()


def test_export_names_what_comes_nearest_where_none_counts_as_forgotten(command, forgetful):
    said = command("export", STRICT, "--knee", "--out", "o")
    assert said.code == 2
    assert "no trial on the front does (trial 2 comes nearest: unlearning_accuracy 0.99)" in said.err
    assert "sfd-sweep: error: trial 1 of strict" in said.err
    assert not (forgetful / "o").exists()


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded sweep whose file states errors, such that trials 0 and 1 differ by no more."""
    folder = tmp_path_factory.mktemp("noisy")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        record_sweep(folder, "objectives.0.error=0.6", "objectives.1.error=0.5")
    return folder


def test_tables_tell_what_the_errors_make_of_the_front(command, noisy, monkeypatch):
    monkeypatch.chdir(noisy)
    record = Results.read(NAME).record
    shares = {str(number): f"{share:.0%}" for number, share in record.front_probability.items()}
    shown, front = command("show", NAME).out, command("pareto", NAME, "--knee").out
    for number, share in shares.items():
        assert share in rows(shown)[number]
    for number in ("0", "1", "2"):
        assert shares[number] in rows(front)[number]
    assert rows(front)["0"][-1] == "1"
    assert rows(front)["1"][-1] == "0"
    assert "as good as: as good within the errors as these trials." in front
    assert re.search(r"Hypervolume \S+ \(by the stated errors \S+ to \S+, median \S+\); metrics on", front)
    knee = record.knee()
    assert (
        f"it is the knee most often, in {record.knee_probability[knee.number]:.0%} of draws within the errors" in front
    )
    members = json.loads(command("pareto", NAME, "--format", "json").out)
    assert [member["front_probability"] for member in members] == pytest.approx(
        [record.front_probability[member["trial"]] for member in members]
    )


def test_tables_without_errors_have_no_probabilities(command, recorded):
    assert "on front" not in command("pareto", NAME).out
    assert "interval" not in command("show", NAME).out
    assert "front_probability" not in json.loads(command("pareto", NAME, "--format", "json").out)[0]


def test_report_writes_a_page_with_all_trials_and_their_samples(command, tmp_path):
    page = tmp_path / "page.html"
    said = command("report", NAME, "--out", str(page))
    assert (said.code, said.err) == (0, "")
    assert f"{page} has the {len(TRIALS)} trials of {NAME}" in said.out
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), flags=re.S)
    data = json.loads(found[1])
    for trial, (distance, accuracy, state) in zip(data["trials"], TRIALS.values(), strict=True):
        if state == "complete":
            assert trial["figures"]["fd_classifier"] == distance
            assert trial["figures"]["unlearning_accuracy"] == accuracy
        assert trial["grid"].startswith("data:image/webp;base64,")
    assert [len(data["curves"][0]["lines"][str(number)]) for number in TRIALS] == [2, 2, 2, 2, 1]


def test_report_refuses_what_it_cannot_write_or_find(command, tmp_path):
    for arguments in (("report", NAME, "--out", str(tmp_path)), ("report", "nothing", "--out", "page.html")):
        said = command(*arguments)
        assert said.code == 2
        assert said.err.count("\n") == 1
    assert not Path("page.html").exists()


def test_tables_are_printed_as_json_with_the_figures_of_the_record(command, recorded):
    (listed,) = json.loads(command("list", "--json").out)
    shown = json.loads(command("show", NAME, "--json").out)
    assert listed == shown["summary"]
    assert (listed["name"], listed["state"], listed["finished"]) == (NAME, "complete", 5)
    assert [trial["number"] for trial in shown["trials"]] == list(TRIALS)
    figures = [trial["reports"][-1]["metrics"]["fd_classifier"] for trial in shown["trials"]]
    assert figures[:4] == [distance for distance, *_ in TRIALS.values()][:4]
    assert (shown["front"], shown["knee"], shown["best_score"]) == ([0, 1, 2], KNEE, BEST_SCORE)
    assert shown["space"]["objectives"][0]["reference_point"] == 10
    one = json.loads(command("show", NAME, "--trial", "1", "--json").out)
    assert one["trial"] == shown["trials"][1]
    assert command("pareto", NAME, "--json").out == command("pareto", NAME, "--format", "json").out
