"""Changes to a sweep that has begun: what may change, what may not, and the record of it."""

import pytest
from stub_runtime import make_space

from sfd_sweep.config import SearchSpace, change, changes_of, dump_search_space, parse_search_space, with_changes
from sfd_sweep.config.changes import WHY_FIXED
from sfd_sweep.errors import UserError


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("budget.trials=64", "budget.trials from 4 to 64"),
        ("budget.hours=0.5", "budget.hours from null to 0.5"),
        ("search.scheduler={type: asha}", 'search.scheduler from {"type": "none"} to {"type": "asha", '),
        ("search.max_failures=7", "search.max_failures from 3 to 7"),
        ("search.first=[{guidance_scale: 1.5}]", 'search.first from [] to [{"guidance_scale": 1.5}]'),
        ("resources.slots=2", "resources.slots from 1 to 2"),
        ("keep_generators=all", 'keep_generators from "front" to "all"'),
    ],
)
def test_what_leaves_figures_comparable_may_change(override, words):
    changed, (text,) = change(make_space("runs"), [override])
    assert changed == make_space("runs", override)
    assert text.startswith(words)


@pytest.mark.parametrize(
    ("key", "override"),
    [
        ("name", "name=other"),
        ("task.forget", "task.forget=[2]"),
        ("trial.steps", "trial.steps=8"),
        ("trial.seed", "trial.seed=1"),
        ("parameters.alpha", "parameters.alpha=1.5"),
        ("parameters.guidance_scale", "parameters.guidance_scale.high=3"),
        ("objectives", "objectives.0.reference_point=30"),
        ("constraints", "constraints=[]"),
        ("selection.max", "selection.max={override_distance: 3}"),
        ("evaluation.samples", "evaluation.samples=200"),
        ("audit.judge", "audit.judge=other"),
        ("resources.precision", "resources.precision=bfloat16"),
        ("search.warm_start", "search.warm_start=[old]"),
        ("tracking.experiment", "tracking.experiment=x"),
        ("storage", "storage=elsewhere"),
    ],
)
def test_what_would_make_figures_incomparable_is_refused_by_name(key, override):
    with pytest.raises(UserError) as refusal:
        change(make_space("runs"), ["budget.trials=64", override])
    assert str(refusal.value).startswith(f"--set {key}: cannot change in a sweep that has begun: ")


def test_every_section_of_the_file_has_a_rule():
    assert set(SearchSpace.model_fields) == {key for key in WHY_FIXED if "." not in key}
    assert {key.partition(".")[0] for key in WHY_FIXED} == set(SearchSpace.model_fields)


def test_the_same_value_again_is_no_change():
    space = make_space("runs")
    assert change(space, ["budget.trials=4", "trial.steps=6"]) == (space, [])


def test_first_settings_can_only_be_added():
    space = make_space("runs", "search.first=[{guidance_scale: 1.5}]")
    changed, _ = change(space, ["search.first=[{guidance_scale: 1.5}, {guidance_scale: 1.25}]"])
    assert len(changed.search.first) == 2
    with pytest.raises(UserError, match="can only be added after the 1 that"):
        change(space, ["search.first=[{guidance_scale: 1.25}]"])


def test_the_kept_file_tells_all_changes_and_gives_the_changed_space():
    space = make_space("runs")
    longer, first = change(space, ["budget.trials=5"])
    text = with_changes(longer, dump_search_space(space), first)
    longest, second = change(parse_search_space(text, "config.yaml"), ["budget.trials=6", "resources.slots=2"])
    text = with_changes(longest, text, second)
    assert parse_search_space(text, "config.yaml") == make_space("runs", "budget.trials=6", "resources.slots=2")
    assert [line.partition("UTC: ")[2] for line in changes_of(text)] == [
        "budget.trials from 4 to 5",
        "budget.trials from 5 to 6",
        "resources.slots from 1 to 2",
    ]
