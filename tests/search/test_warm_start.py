"""Starting from earlier sweeps: their complete trials are the sampler's knowledge, and are never run again."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from concept_cases import concept_space
from earlier_sweeps import DRAWN, POINT, record_sweep
from stub_runtime import Notebook, figures, make_space
from test_study import optuna_study, run_trial, searched

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.errors import UserError
from sfd_sweep.execution.run import run
from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.study import SweepStudy, begin_study
from sfd_sweep.search.trial import Trial
from sfd_sweep.search.warm_start import EarlierTrial, WarmStart, find_warm_start
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.reader import read_family
from sfd_sweep.trial.report import Report, TrialState

FAMILY = "tracking.experiment=family"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tracking store with the sweeps old and longer, both in the experiment family."""
    folder = tmp_path_factory.mktemp("earlier")
    record_sweep(folder, "name=old", FAMILY)
    record_sweep(folder, "name=longer", FAMILY, "trial.steps=8")
    return f"tracking.uri=sqlite:///{folder}/mlflow.db"


def test_complete_trials_are_taken_over_and_others_left_out_for_a_reason(tmp_path: Path, store: str) -> None:
    found = find_warm_start(make_space(tmp_path, store, "search.warm_start=[old]"), read_family)
    assert [earlier.trial.searched for earlier in found.trials] == DRAWN[:2]
    assert found.trials[0].source == "trial 0 of old"
    assert found.trials[0].trial.metrics == figures(make_space(tmp_path).parameters.settings(DRAWN[0]), 6)
    assert found.in_words() == [
        "taken over from earlier sweeps: 2 of old",
        "left out: 1 with a guidance_scale that this sweep does not try, 1 not complete",
    ]


def test_values_are_found_in_distributions_of_another_kind(tmp_path: Path, store: str) -> None:
    other = ("parameters.guidance_scale={type: categorical, choices: [1, 1.5]}", "parameters.generator_lr=1.0e-4")
    found = find_warm_start(make_space(tmp_path, store, "search.warm_start=[old]", *other), read_family)
    assert [earlier.trial.searched for earlier in found.trials] == [{"guidance_scale": 1.5, "override": 1}]


def test_a_parameter_whose_condition_does_not_hold_must_be_what_it_is_otherwise(tmp_path: Path, store: str) -> None:
    conditional = "parameters.guidance_scale={type: float, low: 1, high: 3, when: {override: 1}, otherwise: 1.25}"
    found = find_warm_start(make_space(tmp_path, store, "search.warm_start=[old]", conditional), read_family)
    assert [set(earlier.trial.searched) for earlier in found.trials] == [
        {"override", "generator_lr", "guidance_scale"},
        {"override", "generator_lr"},
        {"override", "generator_lr", "guidance_scale"},
    ]
    other = find_warm_start(
        make_space(tmp_path, store, "search.warm_start=[old]", conditional.replace("1.25", "1.0")), read_family
    )
    assert len(other.trials) == 2


def test_an_experiment_stands_for_its_sweeps_that_can_be_compared(tmp_path: Path, store: str) -> None:
    found = find_warm_start(make_space(tmp_path, store, "search.warm_start=[family, old]"), read_family)
    assert found.taken == (("of old", 2),)
    assert dict(found.left_out)["of longer (its trial.steps is 8 and not 6)"] == 4


@pytest.mark.parametrize(
    ("name", "difference", "reason"),
    [
        ("longer", "trial.seed=0", "its trial.steps is 8 and not 6"),
        ("old", "evaluation.samples=200", "its evaluation.samples is 100 and not 200"),
        ("old", "task.forget=[0, 2]", "its task.forget is 0 and not 0, 2"),
        ("old", "evaluation.classifier=models/x", "its evaluation.classifier is builtin:digits and not models/x"),
        ("old", "evaluation.class_of={dog: [3, 5]}", "its evaluation.class_of is {} and not {'dog': "),
        ("old", "evaluation.clip=models/clip", "its evaluation.clip is None and not models/clip"),
    ],
)
def test_a_sweep_whose_figures_mean_something_else_is_refused(
    tmp_path: Path, store: str, name: str, difference: str, reason: str
) -> None:
    with pytest.raises(
        UserError, match=rf"^search.warm_start: {name}: {re.escape(reason)}.*, so its metrics cannot be compared"
    ):
        find_warm_start(make_space(tmp_path, store, f"search.warm_start=[{name}]", difference), read_family)


def test_overrides_do_not_keep_sweeps_apart_and_the_concepts_of_clip_do(tmp_path: Path, store: str) -> None:
    def space(overrides: str, concepts: str) -> SearchSpace:
        changes = ("evaluation.classifier=clip:models/clip", f"parameters.override.choices={overrides}")
        judged = f"evaluation.concepts={concepts}"
        return concept_space(tmp_path, *changes, judged, store, "search.warm_start=[old]", called=0)

    def read_concepts(uri: str | None, name: str) -> list[SweepRecord]:
        return [replace(record, space=space("[wasp, bee]", "[a stone]")) for record in read_family(uri, name)]

    find_warm_start(space("[bee, fly]", "[a stone]"), read_concepts)
    with pytest.raises(UserError, match=r"its evaluation\.concepts is a stone and not a stone, fly"):
        find_warm_start(space("[bee, wasp]", "[a stone, fly]"), read_concepts)


def test_a_name_that_the_store_does_not_know_is_refused_before_anything_is_made(tmp_path: Path, store: str) -> None:
    with pytest.raises(UserError, match="unknown sweep 'odl' at .*; did you mean old"):
        run(make_space(tmp_path / "runs", store, "search.warm_start=[odl]"), open_recorder=Notebook().open)
    assert not (tmp_path / "runs").exists()


def test_the_sampler_knows_the_earlier_trials_and_nobody_else_does(tmp_path: Path, store: str) -> None:
    space = make_space(tmp_path, store, "search.warm_start=[old]")
    begin_study(space, Folder.open(tmp_path), find_warm_start(space, read_family))
    study = SweepStudy(space, Folder.open(tmp_path))
    assert (study.trials(), study.ended()) == ([], 0)
    assert [run_trial(study), run_trial(study)] == [0, 1]
    first, second, third, fourth = optuna_study(tmp_path).trials
    assert [first.params, second.params] == DRAWN[:2]
    expected = figures(space.parameters.settings(DRAWN[0]), 6)
    assert first.values == [expected["fd_classifier"], expected["unlearning_accuracy"]]
    assert first.constraints.keys() == third.constraints.keys() == fourth.constraints.keys()


def test_an_earlier_trial_is_not_run_again_unless_its_seed_was_another(tmp_path: Path, store: str) -> None:
    spaces = [make_space(tmp_path, store, "search.warm_start=[old]", POINT, f"trial.seed={seed}") for seed in (0, 1)]
    firsts = []
    for folder, space in zip((tmp_path / "same", tmp_path / "other"), spaces, strict=True):
        folder.mkdir()
        begin_study(space, Folder.open(folder), find_warm_start(space, read_family))
        study = SweepStudy(space, Folder.open(folder))
        firsts.append(study.trial(study.ask()).searched == DRAWN[0])
        said = study.take_repeats()
        assert said == ([] if firsts[-1] else ["a proposal is not run again: trial 0 of old has the same settings"])
    assert firsts == [False, True]


def known(trials: int) -> WarmStart:
    """The better in both objectives the higher the guidance; from 1.5 on the override distance is above 40."""
    scales = np.linspace(1.0, 1.999, trials).tolist()
    return WarmStart(
        tuple(
            known_trial(
                number,
                {"guidance_scale": scale, "generator_lr": 1e-4, "override": 1},
                {
                    "fd_classifier": 4 - scale,
                    "unlearning_accuracy": scale - 1,
                    "override_distance": 40 * (scale - 0.5),
                },
            )
            for number, scale in enumerate(scales)
        )
    )


def known_trial(number: int, searched: dict[str, float], metrics: dict[str, float]) -> EarlierTrial:
    report = Report(6, metrics, {}, {}, {})
    return EarlierTrial(Trial(number, TrialState.COMPLETE, Settings(), searched, (report,)), "known", same_seed=True)


@pytest.mark.parametrize(("sampler", "proposals"), [("tpe", 8), ("nsga2", 8), ("nsga3", 8), ("gp", 1)])
@pytest.mark.filterwarnings("error")
def test_samplers_go_by_what_earlier_trials_have_found_and_by_its_constraints(
    tmp_path: Path, sampler: str, proposals: int
) -> None:
    def usual_proposal(name: str, *overrides: str) -> float:
        (tmp_path / name).mkdir()
        space = make_space(tmp_path, f"search.sampler={sampler}", "budget.trials=20", *overrides)
        begin_study(space, Folder.open(tmp_path / name), known(20))
        study = SweepStudy(space, Folder.open(tmp_path / name))
        return float(np.median([study.trial(study.ask()).settings.guidance_scale for _ in range(proposals)]))

    assert usual_proposal("bound") < 1.6 < usual_proposal("free", "constraints=[]")


def test_a_sampler_that_insists_on_its_optimum_gives_way_to_chance(tmp_path: Path) -> None:
    fixed = ("parameters.guidance_scale={type: categorical, choices: [1, 1.25, 1.5]}", "parameters.generator_lr=1.0e-4")
    space = make_space(tmp_path, "search.sampler=gp", *fixed)
    study = SweepStudy(space, Folder.open(tmp_path))
    drawn = [study.trial(study.ask()).searched for _ in range(6)]
    assert len({str(values) for values in drawn}) == 6


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "qmc"])
def test_a_warm_sweep_proposes_the_same_resumed_or_not(tmp_path: Path, sampler: str) -> None:
    space = make_space(tmp_path, f"search.sampler={sampler}")
    for folder in (tmp_path / "whole", tmp_path / "parts"):
        folder.mkdir()
        begin_study(space, Folder.open(folder), known(12))
    whole = SweepStudy(space, Folder.open(tmp_path / "whole"))
    for _ in range(4):
        run_trial(whole)
    for trials in (1, 3):
        study = SweepStudy(space, Folder.open(tmp_path / "parts"))
        for _ in range(trials):
            run_trial(study)
    assert searched(study) == searched(whole)


def test_a_study_is_begun_whole_or_not_at_all(tmp_path: Path) -> None:
    space = make_space(tmp_path)
    broken = WarmStart((*known(3).trials, known_trial(3, {"guidance_scale": 7.0}, {})))
    with pytest.raises((KeyError, ValueError)):
        begin_study(space, Folder.open(tmp_path), broken)
    begin_study(space, Folder.open(tmp_path), known(2))
    SweepStudy(space, Folder.open(tmp_path))
    assert len(optuna_study(tmp_path).trials) == 2
