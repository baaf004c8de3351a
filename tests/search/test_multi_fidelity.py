"""The multi-fidelity sampler: what it proposes is drawable, repeatable, and better than chance."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState as OptunaState
from stub_runtime import make_space
from test_study import report_at, searched

from sfd_sweep.config import SearchSpace
from sfd_sweep.search.encoding import KnownTrial, SettingsEncoding
from sfd_sweep.search.pareto import front, front_of, hypervolume, to_losses
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.search.surrogate import Surrogate
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import Report

MFGP = "search.sampler=mfgp"
KINDS = (
    "parameters.fake_score_lr_ratio={type: float, low: 1, high: 4, step: 0.5}",
    "parameters.batch_size={type: int, low: 8, high: 64, log: true}",
    "parameters.forget_batch_size={type: int, low: 4, high: 16, step: 4}",
    "parameters.alpha={type: float, low: 0.5, high: 1.5, when: {override: random}, otherwise: 1}",
)
Figures = Callable[[Mapping[str, object], int], dict[str, float]]


def trade_off(drawn: Mapping[str, object], step: int) -> dict[str, float]:
    """Two objectives that only a narrow range of the learning rate serves, and a constraint on the guidance."""
    rate = (math.log10(float(str(drawn["generator_lr"]))) + 5) / 2
    scale = float(str(drawn["guidance_scale"])) - 1
    off = 40 * (rate - 0.7) ** 2
    return {
        "fd_classifier": 1 + 4 * scale + off + 3 / step,
        "unlearning_accuracy": scale * math.exp(-off) * step / 6,
        "override_distance": 30 + 20 * scale - step,
    }


def run(study: SweepStudy, trials: int, figures: Figures = trade_off) -> None:
    """Run trials to their end, one after another."""
    for _ in range(trials):
        number = study.ask()
        for step in (2, 4, 6):
            drawn = study.trial(number).settings.model_dump()
            study.report(number, Report(step, figures(drawn, step), {}, {}, {}))
        study.end(number)


def volume(space: SearchSpace, folder: Path) -> float:
    study = SweepStudy(space, Folder.open(folder))
    run(study, 14)
    return front_of(space, study.trials()).hypervolume


def test_a_point_keeps_what_a_trial_draws(tmp_path: Path) -> None:
    encoding = SettingsEncoding(make_space(tmp_path, *KINDS))
    drawn = encoding.decode(np.random.default_rng(0).random((200, encoding.columns)))
    points = encoding.encode(drawn)
    for one, other in zip(encoding.decode(encoding.to_cube(points)), drawn, strict=True):
        assert one == pytest.approx(other)
    assert {len(each) for each in drawn} == {6, 7}
    assert {each["forget_batch_size"] for each in drawn} == {4, 8, 12, 16}
    assert {each["fake_score_lr_ratio"] for each in drawn} == {1, 1.5, 2, 2.5, 3, 3.5, 4}
    assert all(1e-5 <= each["generator_lr"] <= 1e-3 and 8 <= each["batch_size"] <= 64 for each in drawn)
    assert ((points >= 0) & (points <= 2)).all()


@pytest.mark.slow
def test_it_finds_more_than_random_trials_do(tmp_path: Path) -> None:
    found = {
        sampler: [
            volume(
                make_space(tmp_path, f"search.sampler={sampler}", f"search.seed={seed}"), tmp_path / f"{sampler}{seed}"
            )
            for seed in range(3)
        ]
        for sampler in ("mfgp", "random")
    }
    assert min(found["mfgp"]) > 1.1 * max(found["random"])


def test_it_learns_from_stopped_and_running_trials_alone(tmp_path: Path) -> None:
    space = make_space(tmp_path, MFGP)
    study = SweepStudy(space, Folder.open(tmp_path))
    for index in range(12):
        number = study.ask()
        drawn = study.trial(number).settings.model_dump()
        study.report(number, Report(2, trade_off(drawn, 2), {}, {}, {}))
        if index < 9:
            study.end(number)
    rate = math.log10(study.trial(study.ask()).settings.generator_lr)
    assert abs((rate + 5) / 2 - 0.7) < 0.15


def test_proposals_for_several_slots_differ(tmp_path: Path) -> None:
    space = make_space(tmp_path, MFGP)
    study = SweepStudy(space, Folder.open(tmp_path))
    run(study, 6)
    numbers = [study.ask() for _ in range(4)]
    scales = [study.trial(number).settings.guidance_scale for number in numbers]
    assert np.diff(sorted(scales)).min() > 0.01


@pytest.mark.parametrize("bound", [[], ["constraints=[{metric: override_distance, min: 20, max: 40}]"]])
def test_the_expected_improvement_is_that_of_many_draws(tmp_path: Path, bound: list[str]) -> None:
    """Against the mean of what draws from the model add to the exact hypervolume of the front."""
    space = make_space(tmp_path, *(bound or ["constraints=[]"]))
    random, encoding = np.random.default_rng(0), SettingsEncoding(space)
    drawn = encoding.decode(random.random((8, encoding.columns)))
    trials = [
        KnownTrial(point, OptunaState.COMPLETE, (Report(6, trade_off(values, 6), {}, {}, {}),))
        for point, values in zip(encoding.encode(drawn), drawn, strict=True)
    ]
    surrogate = Surrogate(space, encoding.choices, trials, 0)
    candidates = encoding.encode(encoding.decode(random.random((6, encoding.columns))))
    mean, deviation = surrogate._marginals(candidates)
    modeled = mean + deviation * random.standard_normal((4000, *mean.shape))
    figures = [figure.original(modeled[..., column]) for column, figure in enumerate(surrogate._figures)]
    complete = [trial.reports[-1].metrics for trial in trials]
    losses = to_losses(
        [complete[index] for index in front(complete, space.objectives, space.constraints)], space.objectives
    )
    before = hypervolume(losses, [20.0, 0.0])
    for index, expected in enumerate(surrogate.improvement(candidates)):
        gains = [
            hypervolume(np.vstack([losses, [[figures[0][draw, index], -figures[1][draw, index]]]]), [20.0, 0.0])
            - before
            if not bound or 20 <= figures[2][draw, index] <= 40
            else 0.0
            for draw in range(4000)
        ]
        assert expected == pytest.approx(np.mean(gains), rel=0.1, abs=0.01)


@pytest.mark.parametrize("kind", ["constant", "infeasible", "nan", "all fail"])
def test_it_proposes_whatever_the_figures_are(tmp_path: Path, kind: str) -> None:
    def figures(drawn: Mapping[str, object], step: int) -> dict[str, float]:
        found = trade_off(drawn, step)
        changes: dict[str, dict[str, float]] = {
            "constant": {"fd_classifier": 3.0, "unlearning_accuracy": 0.5, "override_distance": 10.0},
            "infeasible": {"override_distance": 1e6},
            "nan": {"fd_classifier": math.nan} if found["override_distance"] > 35 else {},
            "all fail": {"fd_classifier": math.inf},
        }
        return found | changes[kind]

    space = make_space(tmp_path, MFGP)
    study = SweepStudy(space, Folder.open(tmp_path))
    run(study, 8, figures)
    assert len({tuple(trial.searched.values()) for trial in study.trials()}) == 8


def test_it_proposes_in_a_space_of_many_kinds_with_one_evaluation(tmp_path: Path) -> None:
    choices = "parameters.override={type: categorical, choices: [1, 2, 3, 4, 5, 6, 7, 8, 9, random]}"
    space = make_space(tmp_path, MFGP, "trial.evaluate_every=6", *KINDS, choices)
    study = SweepStudy(space, Folder.open(tmp_path))
    for _ in range(9):
        number = study.ask()
        study.report(number, report_at(study, number, 6))
        study.end(number)
    assert len(study.trials()) == 9


def test_an_interrupted_search_goes_on_as_it_would_have(tmp_path: Path) -> None:
    whole, parts = (make_space(tmp_path / name, MFGP) for name in ("whole", "parts"))
    study = SweepStudy(whole, Folder.open(tmp_path / "whole"))
    run(study, 9)
    for _ in range(3):
        run(SweepStudy(parts, Folder.open(tmp_path / "parts")), 3)
    assert searched(SweepStudy(parts, Folder.open(tmp_path / "parts"))) == searched(study)


def test_a_file_may_try_a_choice_first_and_leave_what_it_enables_to_the_sampler(tmp_path: Path) -> None:
    condition = "parameters.guidance_scale={type: float, low: 1.5, high: 2, when: {override: random}, otherwise: 1}"
    first = f"search.first=[{', '.join(['{override: random}'] * 8)}]"
    study = SweepStudy(make_space(tmp_path, MFGP, condition, first), Folder.open(tmp_path))
    run(study, 8)
    assert all(trial.settings.override == "random" for trial in study.trials())
    assert len({trial.searched["guidance_scale"] for trial in study.trials()}) == 8


def test_evaluations_that_the_sweep_does_not_make_are_no_ends(tmp_path: Path) -> None:
    """Reports of an earlier sweep at other steps, in a sweep with one evaluation a trial."""
    space = make_space(tmp_path, "constraints=[]", "trial.evaluate_every=6")
    encoding = SettingsEncoding(space)
    drawn = encoding.decode(np.random.default_rng(0).random((10, encoding.columns)))
    trials = [
        KnownTrial(
            point,
            OptunaState.COMPLETE,
            tuple(Report(step, trade_off(values, step), {}, {}, {}) for step in (1, 6)),
        )
        for point, values in zip(encoding.encode(drawn), drawn, strict=True)
    ]
    expected = Surrogate(space, encoding.choices, trials, 0).expected(encoding.encode(drawn))
    for values, figures in zip(drawn, expected, strict=True):
        assert figures["fd_classifier"] == pytest.approx(trade_off(values, 6)["fd_classifier"], rel=0.2)
