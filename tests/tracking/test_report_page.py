"""The page of a sweep: one file, whatever its names say, and what it does in a browser."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recorded import sweep, trial
from test_tracking_pictures import FORGOTTEN, MIXED, SWAP, THREE, many
from tracked_sweep import grid, search_space

from sfd_sweep.cli.tables import figure
from sfd_sweep.evaluation.sample_grid import GridRow, sample_grid
from sfd_sweep.search.records import SweepRecord
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.report_page import report_html
from sfd_sweep.tracking.stored_samples import StoredSamples
from sfd_sweep.trial.files import GRID, START_GRID, step_folder, trial_folder

HOSTILE = "</script><script>alert(1)</script><!-- ${data}"
MOST_BYTES = 5_000_000


def page_of(record: SweepRecord, folder: Path) -> str:
    return report_html(record, {}, StoredSamples(Folder.open(folder)), None).decode()


def data_of(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, flags=re.S)
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = page_of(many(20, *THREE), tmp_path)
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*\s(?:src|href)=", page)
    assert not re.findall(r"@import|\bimport\s*\(|\bfetch\s*\(|url\((?!#)", page.partition('<script id="data"')[0])
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) == {"http://www.w3.org/2000/svg"}


def test_no_name_leaves_its_place(tmp_path: Path) -> None:
    plain, named = sweep(*MIXED), sweep(replace(MIXED[0], reason=HOSTILE), *MIXED[1:])
    named = replace(named, summary=replace(named.summary, name=HOSTILE, reason=HOSTILE))
    page = page_of(named, tmp_path)
    assert page.count("<script") == page_of(plain, tmp_path).count("<script") == 2
    assert "<title>&lt;/script&gt;" in page
    data = data_of(page)
    assert (data["name"], data["reason"], data["trials"][0]["reason"]) == (HOSTILE,) * 3


def test_a_hundred_trials_of_digits_are_less_than_five_megabytes(tmp_path: Path) -> None:
    record = many(100, *THREE)
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (10, 12, 1, 8, 8), generator=generator) / 127.5 - 1  # noise: nothing compresses
    content = sample_grid(
        [GridRow(str(label), images, marked=label == 0) for label, images in enumerate(levels)], scale=4
    )
    for each in record.trials:
        step_folder(trial_folder(Folder.open(tmp_path), each.number), 20).write(GRID, content)
    page = page_of(record, tmp_path)
    assert all(each["grid"] for each in data_of(page)["trials"])
    assert len(page) < MOST_BYTES


def test_pictures_of_many_colors_are_small(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tiles = torch.from_numpy(random.uniform(-1, 1, (10, 6, 3, 128, 128))).float()
    content = sample_grid([GridRow("a photograph", images) for images in tiles], scale=1)
    step_folder(trial_folder(Folder.open(tmp_path), 0), 20).write(GRID, content)
    samples = StoredSamples(Folder.open(tmp_path))
    assert len(samples.grid(trial(0, 1.0, 0.9)) or "") < 0.3 * len(content)


WALK = (Path(__file__).parents[1] / "support" / "report_walk.js").read_text(encoding="utf-8")
LISTEN = "window.errors = []; window.addEventListener('error', (event) => window.errors.push(event.message));"


def in_browser(page: str, folder: Path, width: int, script: str = WALK) -> dict[str, Any]:
    """What a script finds on the page in a window of some width."""
    text = page.replace("<head>", f"<head><script>{LISTEN}</script>").replace(
        "</body>", f'<script type="module">{script}</script></body>'
    )
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    browser = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    asked = [*browser, "--virtual-time-budget=5000", "--dump-dom", path.as_uri()]
    dom = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=True).stdout
    (found,) = re.findall(r'<pre id="found">(.*?)</pre>', dom, flags=re.S)
    read: dict[str, Any] = json.loads(found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return read


in_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")


@pytest.mark.slow
@in_chromium
@pytest.mark.parametrize("width", [1300, 400])
def test_a_browser_shows_trials_sorts_filters_and_compares_them(width: int, tmp_path: Path) -> None:
    record = many(20, *THREE, FORGOTTEN)
    record = replace(record, trials=(*record.trials, replace(trial(20, 1.0, 0.9), reports=())))
    Folder.open(tmp_path).write(START_GRID, grid())
    for each in record.trials:
        step_folder(trial_folder(Folder.open(tmp_path), each.number), 20).write(GRID, grid(each.number))
    found = in_browser(page_of(record, tmp_path), tmp_path, width)
    evaluated = [each for each in record.trials if each.report]
    by_distance = sorted(evaluated, key=lambda each: each.metrics["fd_classifier"])

    assert found["errors"] == []
    assert found["panels"] == 4  # three pairs and the space
    assert found["first"] == f"Trial {record.knee().number}"
    table = {row[0]: dict(zip(found["columns"], row, strict=True)) for row in found["table"]}
    for each in evaluated:
        row = table[str(each.number)]
        for name in ("fd_classifier", "unlearning_accuracy", "override_distance"):
            assert row[name] == figure(record.figures(each).metrics[name])
        assert row["generator_lr"] == figure(each.searched["generator_lr"])
        assert row["score"] == figure(record.front_score(each))
        assert row["forgotten"] == ("yes" if record.counts_as_forgotten(each) else "no")
        assert bool(row["front"]) == (each in record.front)
    assert found["hovered"]["card"] == "Trial 3"
    assert found["hovered"]["grid"] == "Samples of trial 3"
    assert "focused" in found["hovered"]["row"]
    assert found["compareIsHidden"]
    assert found["walked"]["from"] != found["walked"]["to"] == found["walked"]["active"]
    assert found["compared"] == ["Start", found["walked"]["to"], found["clicked"]]
    assert found["pressed"] == "true"
    assert found["lines"] == 2 * (1 + 3)  # in parallel coordinates and three learning curves
    assert found["left"] == 2
    assert found["ascending"] == [*(each.number for each in by_distance), 20]
    assert found["descending"] == [*(each.number for each in reversed(by_distance)), 20]
    assert found["sorted"] == "descending"
    within = {each.number for each in evaluated if each.metrics["fd_classifier"] < 1 and each.number % 2}
    assert set(found["filtered"]) == within
    assert set(found["dimmed"]) == {each.number for each in evaluated} - within
    assert found["refused"] == {"rows": len(within), "text": "no column nothing"}
    assert found["front"] == [each.number for each in reversed(record.front)]  # still sorted by distance, descending
    assert found["command"].startswith(f"sfd-sweep export small --trial {record.front[-1].number} --out")
    assert found["copied"] == "Copied"
    assert found["width"][0] <= found["width"][1]


COUNT = """
const count = (parts) => document.querySelectorAll(parts).length;
setTimeout(() => {
  const found = { errors: window.errors, panels: count("#panels svg"), rows: count("#table tbody tr") };
  const textContent = JSON.stringify(found);
  document.body.append(Object.assign(document.createElement("pre"), { id: "found", textContent }));
}, 300);
"""


@pytest.mark.slow
@in_chromium
def test_a_browser_shows_any_sweep_without_an_error(tmp_path: Path) -> None:
    swapped = replace(sweep(*MIXED), swap=SWAP)
    single = search_space(
        "sqlite:///unused.db", "objectives=[{metric: fd_classifier, goal: minimize, reference_point: 10}]"
    )
    hostile = replace(sweep(*MIXED[3:]), summary=replace(swapped.summary, name=HOSTILE))
    for record, panels in ((sweep(), 0), (swapped, 1), (sweep(*MIXED, space=single), 1), (hostile, 1)):
        found = in_browser(page_of(record, tmp_path), tmp_path, 1300, COUNT)
        assert found == {"errors": [], "panels": panels, "rows": len(record.trials)}
