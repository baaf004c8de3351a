"""From images of digits to a generator that has forgotten the word "zero", by the program's own commands."""

import json
import re
from pathlib import Path

import pytest
from test_photographs_end_to_end import run
from test_running import settings

SPACES = Path(__file__).parents[2] / "search_spaces"


@pytest.mark.slow
def test_a_concept_is_forgotten_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run(tmp_path, "pretrain", "builtin:digits-in-words", "--preset", "digits-text", "--out", "models/digits-text")
    prompts = str(SPACES / "prompts" / "digits.txt")
    out = "models/digits-text-distilled"
    run(tmp_path, "distill", "models/digits-text", "--prompts", prompts, "--out", out)
    swept = run(tmp_path, "run", str(SPACES / "digits-text.yaml"), *settings("budget.trials=3"))
    assert "digits-text-forget-zero: 3 complete in " in swept
    run(tmp_path, "export", "digits-text-forget-zero", "--min", "unlearning_accuracy=0.9", "--out", "zero-free")
    figures = json.loads(run(tmp_path, "evaluate", "zero-free", "--teacher", "models/digits-text", "--format", "json"))[
        "metrics"
    ]
    assert min(figures["unlearning_accuracy"], figures["held_out_unlearning_accuracy"]) > 0.85
    assert figures["retain_accuracy"] > 0.9
    assert "text-to-image generator that has forgotten **zero**" in (tmp_path / "zero-free" / "README.md").read_text()
    said = run(tmp_path, "sample", "zero-free", "--prompt", "a sketch of zero", "--count", "4", "--out", "grid.png")
    assert re.match(r"4 images of a sketch of zero in ", said)
