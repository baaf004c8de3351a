"""What a reader learns from the card, and a program from the description beside it."""

import hashlib

import pytest
from huggingface_hub import ModelCard
from recorded_trials import FRONT, Sweep
from ruamel.yaml import YAML

from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.export.card import model_card
from sfd_sweep.export.description import Description, Figures
from sfd_sweep.export.exporting import Exported
from sfd_sweep.metrics import METRICS
from sfd_sweep.models.folder import ASSETS


@pytest.fixture(scope="session")
def card(exported: Exported) -> str:
    return (exported.folder / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def description(exported: Exported) -> Description:
    return Description.read(exported.folder)


def test_the_card_says_what_was_forgotten_and_what_replaces_it(card: str) -> None:
    assert "has forgotten **0**: asked for 0, it makes **1**. " in card


def test_the_card_gives_every_figure_with_its_number_of_samples(card: str, exported: Exported, sweep: Sweep) -> None:
    search = sweep.results.record.trials[FRONT].report
    assert search is not None
    for name, value in exported.recorded.metrics.items():
        few, many = ("50", "100") if METRICS[name].forgotten else ("90", "180")
        assert f"| {search.metrics[name]:.4g} (n = {few}) | {value:.4g} (n = {many}) |" in card, name


def test_a_figure_on_fewer_samples_than_the_others_says_so(description: Description) -> None:
    final = Figures(metrics={"fid": 9.5, "recall": 0.5}, samples={"retained": 50_000, "forgotten": 100}, seconds=1.0)
    card = model_card(description.model_copy(update={"final": final}), "name", has_before=True)
    assert "| 9.5 (n = 50,000) |" in card
    assert "| 0.5 (n = 10,000) |" in card
    assert "name: recall (n = 10000)" in card


def test_the_card_tells_the_lineage_down_to_the_weights(card: str) -> None:
    for model in ("teacher", "generator"):  # the start is the shipped generator
        weights = ASSETS / "digits" / model / "unet" / "diffusion_pytorch_model.safetensors"
        assert hashlib.sha256(weights.read_bytes()).hexdigest() in card
    for row in (
        "| sweep | `small` |",
        "| trial | 0, complete after 4 steps, seed 5 |",
        "| torch | `",
        "| sfd-sweep | `",
    ):
        assert row in card


def test_the_card_marks_its_trial_on_the_front_and_says_why_it_was_chosen(card: str) -> None:
    assert "| **0** (this one) |" in card
    assert "Trial 0 was requested; it is" in card


def test_the_card_claims_no_robustness_beyond_the_audit(card: str) -> None:
    assert "one classifier's opinion" in card
    assert "Beyond the\n  attacks and budgets of the audit no robustness is claimed." in card


def test_the_front_matter_is_yaml_with_the_figures(card: str, exported: Exported) -> None:
    _, front_matter, _ = card.split("---\n", 2)
    content = YAML(typ="safe", pure=True).load(front_matter)
    assert content["library_name"] == "diffusers"
    (model,) = content["model-index"]
    figures = {metric["type"]: metric["value"] for metric in model["results"][0]["metrics"]}
    assert figures == exported.recorded.metrics


def test_model_hubs_read_the_card(exported: Exported) -> None:
    data = ModelCard.load(exported.folder / "README.md").data
    assert (data.library_name, data.pipeline_tag) == ("diffusers", "unconditional-image-generation")
    assert "machine-unlearning" in data.tags
    results = {result.metric_type: result for result in data.eval_results}
    assert {name: result.metric_value for name, result in results.items()} == exported.recorded.metrics
    assert {result.task_type for result in results.values()} == {"unconditional-image-generation"}
    assert results["unlearning_accuracy"].metric_name == "unlearning_accuracy (n = 100)"
    assert (data.model_name, results["fd_classifier"].dataset_name) == ("zero-free", "builtin:digits")


def test_the_code_on_the_card_runs(card: str, exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    code = card.split("```python\n")[1].split("```", maxsplit=1)[0]
    monkeypatch.chdir(exported.folder.parent)
    names: dict[str, object] = {}
    exec(code, names)
    assert [image.size for image in names["images"]] == [(8, 8)] * 3


def test_the_description_has_everything_by_index(description: Description, sweep: Sweep) -> None:
    trial = sweep.results.record.trials[FRONT]
    assert description.task.forget == ("0",)
    assert description.conditions.forget == (0,)
    assert description.override == (1,)
    assert description.settings == trial.settings
    assert description.task.teacher == "teacher"
    assert description.evaluation.classifier == "classifier"
    assert (description.lineage.sweep, description.lineage.trial, description.lineage.step) == ("small", 0, 4)
    assert [member.trial for member in description.front] == [t.number for t in sweep.results.front()]


@pytest.mark.parametrize(
    ("override", "words"),
    [("random", "any of the retained classes"), ("classifier", "the retained class that a classifier finds likeliest")],
)
def test_a_free_override_is_put_into_words(description: Description, override: str, words: str) -> None:
    settings = description.settings.model_copy(update={"override": override})
    free = description.model_copy(update={"settings": settings, "override": None})
    assert f"it makes **{words}**" in model_card(free, "name", has_before=True)


def test_each_forgotten_class_has_its_own_override_on_the_card(description: Description) -> None:
    conditions = Conditions.of_classes(description.conditions.names, (0, 4))
    several = description.model_copy(update={"conditions": conditions, "override": (1, 7)})
    card = model_card(several, "name", has_before=True)
    assert "has forgotten **0, 4**: asked for 0, it makes **1**, asked for 4, it makes **7**. " in card
    assert "The rows marked red ask for 0, 4." in card


def test_the_card_tells_how_often_the_trial_is_on_the_front_within_the_errors(description: Description) -> None:
    first, *others = description.objectives
    stated = (first.model_copy(update={"error": 0.25}), *others)
    changes = {"objectives": stated, "front_probability": 0.834}
    card = model_card(description.model_copy(update=changes), "name", has_before=True)
    assert f"within the errors of an evaluation (`{first.metric}` ± 0.25), this trial is on the front in 83% of" in card
    assert description.front_probability is None
    assert "drawn anew" not in model_card(description, "name", has_before=True)


def test_the_card_marks_the_members_that_are_as_good_within_the_errors(description: Description) -> None:
    member = next(member for member in description.front if member.trial == FRONT)
    front = (member.model_copy(update={"as_good_as": (7,)}), member.model_copy(update={"trial": 7, "as_good_as": (0,)}))
    changes = {"front": front, "front_probability": 0.5}
    card = model_card(description.model_copy(update=changes), "name", has_before=True)
    rows = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("|")]
    header = next(row for row in rows if row[0] == "trial" and len(row) > 2)
    told = {row[0]: row[-1] for row in rows if row[0] in ("**0** (this one)", "7")}
    assert header[-1] == "as good as"
    assert told == {"**0** (this one)": "7", "7": "0"}
    assert "as good as" not in model_card(description, "name", has_before=True)
