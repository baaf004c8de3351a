"""The results of a sweep, and choosing one trial with a reason."""

from datetime import UTC, datetime

import pytest

from sfd_sweep.config import SelectionBounds
from sfd_sweep.config.loading import parse_search_space
from sfd_sweep.errors import UserError
from sfd_sweep.search.records import SweepRecord, SweepState, SweepSummary
from sfd_sweep.search.trial import Trial, TrialRun
from sfd_sweep.tracking.results import Results
from sfd_sweep.trial.report import Report, TrialState

TIME = datetime(2025, 1, 1, tzinfo=UTC)
SPACE = parse_search_space(
    """
name: small
task: {teacher: "builtin:digits", forget: [0]}
trial: {steps: 20, evaluate_every: 10}
parameters: {forget_weight: {type: float, low: 0.01, high: 1}, override: 1}
budget: {trials: 6}
objectives:
  - {metric: fd_classifier, goal: minimize, reference_point: 10}
  - {metric: unlearning_accuracy, goal: maximize, reference_point: 0}
constraints:
  - {metric: override_distance, max: 40}
""",
    "small.yaml",
)


def report(distance: float, accuracy: float, override_distance: float = 4.0, samples: int = 2000) -> Report:
    metrics = {"fd_classifier": distance, "unlearning_accuracy": accuracy, "override_distance": override_distance}
    return Report(20, metrics, {"retained": samples, "forgotten": 1000}, {}, {})


def trial(
    number: int, last: Report | None, state: TrialState = TrialState.COMPLETE, final: Report | None = None
) -> Trial:
    return Trial(
        number=number,
        state=state,
        settings=SPACE.parameters.settings({"forget_weight": 0.1}),
        searched={"forget_weight": 0.1},
        reports=(last,) if last else (),
        final=final,
        recorded=TrialRun(f"run{number}", TIME, slot_hours=0.5, score=None, model_uri=None),
    )


def results(*trials: Trial, selection: SelectionBounds | None = None) -> Results:
    summary = SweepSummary(
        name="small",
        state=SweepState.RUNNING,
        reason=None,
        started=TIME,
        planned=6,
        finished=len(trials),
        front_size=0,
        hypervolume=None,
        slot_hours=0.0,
        storage="file:///runs/small",
        run_id="parent",
    )
    space = SPACE.model_copy(update={"selection": selection or SelectionBounds()})
    return Results(SweepRecord(summary, space, trials))


# The front is 0, 1, 2: 1 is the knee, and has the best combined score.
SWEEP = results(
    trial(0, report(1.0, 0.50)),
    trial(1, report(1.5, 0.95)),
    trial(2, report(6.0, 1.00)),
    trial(3, report(2.0, 0.90)),
    trial(4, report(0.5, 1.00), TrialState.PRUNED),
    trial(5, report(0.5, 1.00, override_distance=100)),
    trial(6, None, TrialState.RUNNING),
)
SAMPLES = "on 2,000 retained and 1,000 forgotten samples"


def test_the_front_goes_from_one_end_to_the_other() -> None:
    assert [member.number for member in SWEEP.front()] == [0, 1, 2]


def test_the_hypervolume_is_that_of_the_front() -> None:
    assert SWEEP.hypervolume() == pytest.approx(9 * 0.50 + 8.5 * 0.45 + 4 * 0.05)


def test_the_table_has_figures_with_their_samples_and_settings_under_their_names() -> None:
    table = SWEEP.trials().set_index("trial")
    assert table.index.tolist() == list(range(7))
    assert table["pareto"].tolist() == [True, True, True, False, False, False, False]
    assert table.loc[1, ["fd_classifier", "unlearning_accuracy", "samples_retained", "samples_forgotten"]].tolist() == [
        1.5,
        0.95,
        2000,
        1000,
    ]
    assert table.loc[1, ["forget_weight", "override", "slot_seconds", "run_id"]].tolist() == [0.1, 1, 1800, "run1"]
    assert table.loc[6].isna()[["fd_classifier", "step", "samples_retained"]].all()


def test_final_figures_have_columns_and_samples_of_their_own() -> None:
    table = results(trial(0, report(1.0, 0.5), final=report(1.1, 0.6, samples=10000))).trials()
    assert table[["final_fd_classifier", "final_samples_retained", "fd_classifier"]].iloc[0].tolist() == [1.1, 1e4, 1.0]


def test_a_sweep_without_trials_has_an_empty_table() -> None:
    assert results().trials().empty


def test_the_knee_says_that_it_bends() -> None:
    choice = SWEEP.select(knee=True)
    assert choice.trial.number == 1
    assert choice.why == (
        "Trial 1 is the knee: of the 3 trials on the front it lies farthest below the line between the ends "
        f"(fd_classifier 1.5, unlearning_accuracy 0.95 {SAMPLES})."
    )


def test_a_front_of_one_or_two_has_no_bend_and_says_so() -> None:
    ends = [trial(0, report(1.0, 0.5)), trial(1, report(1.5, 0.95))]
    assert "it is the only trial on the front" in results(ends[0]).select(knee=True).why
    choice = results(*ends).select(knee=True)
    assert choice.trial.number == 0
    assert "no bend" in choice.why
    assert "better in fd_classifier" in choice.why


def test_the_best_score_is_named_with_its_value() -> None:
    choice = SWEEP.select(best_score=True)
    assert choice.trial.number == 1
    score = 0.3821 + 0.05 * (0.3821 + 0.05)  # log1p(1.5) / log1p(10) is the larger term, 1 - 0.95 the other
    assert choice.why.startswith(f"Trial 1 has the best combined score, {score:.3f}, of the 3 on the front (")


def test_bounds_leave_the_best_score_among_what_keeps_them() -> None:
    choice = SWEEP.select(max={"fd_classifier": 8}, min={"unlearning_accuracy": 0.99})
    assert choice.trial.number == 2
    assert "of the 1 on the front with fd_classifier at most 8 and unlearning_accuracy at least 0.99" in choice.why
    assert SWEEP.select(max={"fd_classifier": 1.0}).trial.number == 0
    assert SWEEP.select(min={"unlearning_accuracy": 0.5}).trial.number == 1


def test_bounds_that_none_keeps_bring_the_nearest() -> None:
    with pytest.raises(UserError) as refused:
        SWEEP.select(max={"fd_classifier": 0.9})
    assert str(refused.value) == (
        "no trial on the front of small has fd_classifier at most 0.9; the nearest is trial 0 "
        f"(fd_classifier 1 {SAMPLES})"
    )


def test_a_bound_on_an_unknown_metric_brings_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"small has no metric 'fd_clasifier'; did you mean fd_classifier\?"):
        SWEEP.select(max={"fd_clasifier": 1})
    with pytest.raises(UserError, match="no metric 'xyz'; use fd_classifier, override_distance"):
        SWEEP.select(min={"xyz": 1})


def test_a_bound_is_a_finite_number() -> None:
    with pytest.raises(UserError, match=r"max of fd_classifier: .*finite number"):
        SWEEP.select(max={"fd_classifier": float("nan")})


@pytest.mark.parametrize(
    ("number", "standing"),
    [
        (1, "it is on the front"),
        (3, "it is not on the front, where trial 1 is better"),
        (4, "it is pruned, so it is not on the front"),
        (5, "it violates a constraint, so it is not on the front"),
    ],
)
def test_a_trial_may_be_asked_for_and_is_told_where_it_stands(number: int, standing: str) -> None:
    choice = SWEEP.select(trial=number)
    assert choice.trial.number == number
    assert choice.why.startswith(f"Trial {number} was requested; {standing} (fd_classifier")


def test_a_trial_that_the_final_evaluation_takes_off_the_front_is_told_so() -> None:
    finals = {0: report(1.4, 0.90, samples=10000), 1: report(1.2, 0.95, samples=10000), 2: report(3.0, 0.99, 41.0)}
    lasts = {0: report(1.0, 0.5), 1: report(1.5, 0.95), 2: report(3.0, 0.99), 3: report(1.1, 0.4)}
    sweep = results(*(trial(number, last, final=finals.get(number)) for number, last in lasts.items()))
    whys = [sweep.select(trial=number).why for number in range(4)]
    assert [member.number for member in sweep.front()] == [1]
    assert "the final evaluation took it off the front, where trial 1 is better (fd_classifier 1.4" in whys[0]
    assert "it is on the front (fd_classifier 1.2" in whys[1]
    assert "it violates a constraint in the final evaluation, so it is not on the front" in whys[2]
    assert "it is not on the front, where trial 0 is better (fd_classifier 1.1" in whys[3]  # by the search's figures


def test_a_complete_trial_without_finite_figures_is_told_so() -> None:
    sweep = results(trial(0, report(1.0, 0.5)), trial(1, report(float("nan"), 1.0)))
    assert "its metrics are not finite, so it is not on the front" in sweep.select(trial=1).why


def test_a_trial_that_is_not_there_or_was_never_evaluated_is_refused() -> None:
    with pytest.raises(UserError, match="small has no trial 9; its trials are 0 to 6"):
        SWEEP.select(trial=9)
    with pytest.raises(UserError, match="trial 6 of small is running and was never evaluated"):
        SWEEP.select(trial=6)
    with pytest.raises(UserError, match="small has no trials yet"):
        results().select(trial=0)


@pytest.mark.parametrize("ways", [{}, {"knee": True, "best_score": True}, {"trial": 0, "max": {"fd_classifier": 1}}])
def test_exactly_one_way_of_choosing_is_asked_for(ways: dict[str, object]) -> None:
    with pytest.raises(UserError, match="choose exactly one of"):
        SWEEP.select(**ways)


def test_an_empty_front_leaves_nothing_to_choose() -> None:
    with pytest.raises(UserError, match="the front of small is empty"):
        results(SWEEP.record.trials[4]).select(knee=True)


def test_members_are_compared_by_final_figures_once_all_have_some() -> None:
    first, second = report(1.0, 0.5), report(1.5, 0.95)
    finals = report(1.0, 0.97, samples=10000), report(1.5, 0.95, samples=10000)
    half = results(trial(0, first, final=finals[0]), trial(1, second)).select(best_score=True)
    assert (half.trial.number, SAMPLES in half.why) == (1, True)
    whole = results(trial(0, first, final=finals[0]), trial(1, second, final=finals[1])).select(best_score=True)
    assert (whole.trial.number, "on 10,000 retained" in whole.why) == (0, True)


def test_what_is_measured_at_the_end_alone_bounds_a_choice() -> None:
    finals = [report(1.0, 0.97, samples=10000), report(1.5, 0.99, samples=10000)]
    for final, figure in zip(finals, (0.02, 0.01), strict=True):
        final.metrics["kid"] = figure
    members = results(*(trial(number, final, final=final) for number, final in enumerate(finals)))
    assert members.select(max={"kid": 0.015}).trial.number == 1


def selecting(least: float, **farthest: float) -> Results:
    """The same sweep, whose file counts as forgotten what has this unlearning accuracy at least."""
    bounds = SelectionBounds(min={"unlearning_accuracy": least}, max=farthest)
    return results(*SWEEP.record.trials, selection=bounds)


@pytest.mark.parametrize("way", ["knee", "best_score"])
def test_knee_and_best_score_are_chosen_among_what_counts_as_forgotten_and_say_so(way: str) -> None:
    assert SWEEP.select(**{way: True}).trial.number == 1  # with 0.95
    choice = selecting(0.99).select(**{way: True})
    assert choice.trial.number == 2
    assert "on the front that counts as forgotten (unlearning_accuracy at least 0.99)" in choice.why
    assert "does not count" not in choice.why


def test_the_knee_of_those_that_count_as_forgotten_is_theirs_alone() -> None:
    figures = [(1.0, 0.1), (1.2, 0.5), (2.0, 0.991), (2.1, 0.998), (4.0, 1.0)]
    members = [trial(number, report(*each)) for number, each in enumerate(figures)]
    assert results(*members).select(knee=True).trial.number == 2
    choice = results(*members, selection=SelectionBounds(min={"unlearning_accuracy": 0.99})).select(knee=True)
    assert choice.trial.number == 3  # 0.991 and 1 are the ends now
    assert "of the 3 trials on the front that count as forgotten" in choice.why


@pytest.mark.parametrize("way", ["knee", "best_score"])
def test_where_none_counts_as_forgotten_the_choice_is_as_before_and_says_so_plainly(way: str) -> None:
    choice = selecting(0.999, override_distance=1).select(**{way: True})
    assert choice.trial.number == SWEEP.select(**{way: True}).trial.number
    assert choice.why.endswith(
        " It does not count as forgotten (unlearning_accuracy is 0.95 and must be at least 0.999, and "
        "override_distance is 4 and must be at most 1), and no trial on the front does."
    )


def test_a_trial_that_is_asked_for_is_told_that_it_does_not_count_as_forgotten() -> None:
    choice = selecting(0.99).select(trial=0)
    assert choice.trial.number == 0
    assert choice.why.endswith(
        " It does not count as forgotten (unlearning_accuracy is 0.5 and must be at least 0.99)."
    )
    assert "count" not in selecting(0.99).select(trial=2).why


def test_bounds_of_the_command_line_prefer_what_counts_as_forgotten() -> None:
    assert SWEEP.select(min={"unlearning_accuracy": 0.9}).trial.number == 1
    assert selecting(0.99).select(min={"unlearning_accuracy": 0.9}).trial.number == 2
    within = selecting(0.99).select(max={"fd_classifier": 2})
    assert within.trial.number == 1
    assert "It does not count as forgotten" in within.why


def test_the_figures_on_the_most_samples_decide_what_counts_as_forgotten() -> None:
    optimistic = trial(0, report(1.0, 0.995), final=report(1.0, 0.985, samples=10000))
    record = results(optimistic, selection=SelectionBounds(min={"unlearning_accuracy": 0.99})).record
    assert not record.counts_as_forgotten(optimistic)


def test_the_table_says_which_trials_count_as_forgotten() -> None:
    column = selecting(0.95).trials().set_index("trial")["counts_as_forgotten"]
    assert [column[number] for number in (0, 1, 2)] == [False, True, True]
    assert column.isna()[6]  # never evaluated
    assert SWEEP.trials()["counts_as_forgotten"].isna().all()
