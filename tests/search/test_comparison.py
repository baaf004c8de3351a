"""Comparison of sweeps: figures over seeds, and which sweeps can be compared."""

from dataclasses import replace
from itertools import chain, pairwise, product
from math import inf
from statistics import median

import numpy as np
import pytest
from compared import POINTS, class_names, named, seeded, with_finals
from recorded import trial

from sfd_sweep.config import SelectionBounds
from sfd_sweep.errors import UserError
from sfd_sweep.metrics import Goal
from sfd_sweep.search.comparison import Comparison, Quartiles, compare_records
from sfd_sweep.search.records import SweepRecord, SweepState
from sfd_sweep.trial.report import TrialState

SEEDS = (0, 1, 2)
TWO_SAMPLERS = [seeded(seed) for seed in SEEDS] + [
    seeded(seed, "search.sampler=random", worse=0.5, name="random") for seed in SEEDS
]


def compared(records: list[SweepRecord], **options: object) -> Comparison:
    return compare_records(records, class_names, **options)  # type: ignore[arg-type]


def labels(comparison: Comparison) -> list[str]:
    return [part.label for part in comparison.groups]


def counted_volume(points: list[tuple[float, float]], distance: float, accuracy: float = 0.0) -> float:
    """The area between points and a reference point, by cutting it along all coordinates and adding up the cells."""
    x = sorted({*(min(point[0], distance) for point in points), distance})
    y = sorted({*(max(point[1], accuracy) for point in points), accuracy})
    cells = product(pairwise(x), pairwise(y))
    return sum(
        (right - left) * (top - low)
        for (left, right), (low, top) in cells
        if any(point[0] <= left and point[1] >= top for point in points)
    )


def test_sweeps_that_differ_in_seeds_alone_are_one_group() -> None:
    comparison = compared(TWO_SAMPLERS)
    assert [len(part.runs) for part in comparison.groups] == [3, 3]
    assert labels(comparison) == ["sampler tpe", "sampler random"]
    assert comparison.differences() == {"search.sampler": ["tpe", "random"]}


def test_sweeps_without_repetitions_are_groups_by_name() -> None:
    assert labels(compared([TWO_SAMPLERS[0], TWO_SAMPLERS[3]])) == ["small-0", "random-0"]


def test_groups_that_differ_in_much_are_called_by_their_sweeps() -> None:
    other = [seeded(seed, "trial.steps=40", "budget.trials=9", "search.sampler=random") for seed in (0, 1)]
    assert labels(compared([*TWO_SAMPLERS[:2], *other])) == ["small-0 and 1 more", "small-0 and 1 more"]


def test_hypervolumes_are_the_counted_areas_at_the_worst_of_all_reference_points() -> None:
    wide = "objectives=[{metric: fd_classifier, goal: minimize, reference_point: 12}, "
    wide += "{metric: unlearning_accuracy, goal: maximize, reference_point: 0.1}]"
    comparison = compared([*TWO_SAMPLERS[:3], *(seeded(seed, wide, name="wide") for seed in SEEDS)])
    assert [part.reference_point for part in comparison.objectives] == [12, 0]
    for part in comparison.groups:
        assert comparison.hypervolumes(part) == pytest.approx([counted_volume(POINTS[seed], 12) for seed in SEEDS])


def test_best_values_are_within_the_bounds_of_the_other_metrics() -> None:
    comparison = compared(TWO_SAMPLERS[:3], bounds=SelectionBounds(min={"unlearning_accuracy": 0.55}))
    (part,) = comparison.groups
    distance, accuracy = comparison.objectives
    per_seed = [min((d for d, a in POINTS[seed] if a >= 0.55), default=inf) for seed in SEEDS]
    assert comparison.best(part, distance).median == median(per_seed)
    assert comparison.best(part, distance).high == inf
    assert comparison.best(part, accuracy).median == median(max(a for _, a in POINTS[seed]) for seed in SEEDS)


def test_files_that_differ_in_selection_need_bounds() -> None:
    records = [seeded(0), seeded(1, "selection={min: {unlearning_accuracy: 0.5}}")]
    with pytest.raises(UserError, match=r"small-0 and small-1 differ in what counts as forgotten .*--min METRIC=VALUE"):
        compared(records)
    assert compared(records, bounds=SelectionBounds(max={"fd_classifier": 3})).bounds[0].metric == "fd_classifier"


def test_a_bound_of_a_metric_that_nobody_reports_is_refused() -> None:
    with pytest.raises(UserError, match="small-0 has no metric 'fid'"):
        compared(TWO_SAMPLERS[:2], bounds=SelectionBounds(max={"fid": 3}))


@pytest.mark.parametrize("values", [[3.0], [1.0, 2.0], [5.0, 1.0, 3.0, 2.0], [0.5, 2.0, 8.0, 1.0, 4.0]])
def test_finite_quartiles_are_those_of_numpy(values: list[float]) -> None:
    found = Quartiles.of(values)
    assert [found.low, found.median, found.high] == pytest.approx(np.quantile(values, [0.25, 0.5, 0.75]).tolist())


def test_a_run_without_a_value_counts_as_infinitely_bad() -> None:
    assert Quartiles.of([1.0, 2.0, inf]) == Quartiles(1.5, 2.0, inf)
    assert Quartiles.of([1.0, inf, inf]) == Quartiles(inf, inf, inf)
    assert Quartiles.of([1.0, 2.0, 3.0, 4.0, inf]) == Quartiles(2.0, 3.0, 4.0)


def test_cost_adds_up_all_trials_until_the_common_hypervolume_is_reached() -> None:
    comparison = compared(TWO_SAMPLERS)
    fast, slow = comparison.groups
    ends = [sorted(comparison.hypervolumes(part))[1] for part in (fast, slow)]
    assert comparison.target == pytest.approx(min(ends))
    costs = []
    for run in fast.runs:
        points = [(each.metrics["fd_classifier"], each.metrics["unlearning_accuracy"]) for each in run.trials]
        reached = [n for n in range(1, len(points) + 1) if counted_volume(points[:n], 10) >= comparison.target]
        costs.append(reached[0] * 36.0 if reached else inf)
    assert comparison.seconds_to_target(fast) == Quartiles.of(costs)
    assert comparison.steps_to_target(fast) == Quartiles.of([cost / 36 * 20 for cost in costs])


def test_trials_that_did_not_complete_cost_without_a_gain() -> None:
    early = trial(0, 0.1, 1.0, TrialState.PRUNED)
    comparison = compared(
        [named("a", early, trial(1, 1.0, 0.9)), named("b", trial(0, 1.0, 0.9), overrides=("trial.steps=40",))]
    )
    slow, fast = comparison.groups
    assert comparison.seconds_to_target(slow).median == pytest.approx(72)
    assert comparison.seconds_to_target(fast).median == pytest.approx(36)


def test_without_a_common_hypervolume_there_is_no_cost() -> None:
    comparison = compared([seeded(0), named("none", trial(0, 20.0, 0.5), overrides=("trial.steps=40",))])
    assert comparison.target == 0
    assert any("no cost to compare" in remark for remark in comparison.remarks())


def test_final_figures_are_compared_where_sweeps_have_them() -> None:
    comparison = compared([with_finals(seeded(seed), worse=1.0) for seed in SEEDS])
    assert comparison.is_final
    worse = [counted_volume([(x + 1.0, y) for x, y in POINTS[seed]], 10) for seed in SEEDS]
    assert comparison.hypervolumes(comparison.groups[0]) == pytest.approx(worse)
    assert "final figures on 9,000 retained" in comparison.remarks()[0]


def test_one_sweep_is_compared_by_the_values_of_a_parameter() -> None:
    record = named("one", *(trial(number, 1.0 + number, 0.5 + 0.1 * number) for number in range(4)))
    comparison = compared([record], by="override")
    assert labels(comparison) == ["1", "random"]
    assert [[each.number for each in part.runs[0].trials] for part in comparison.groups] == [[0, 2], [1, 3]]
    assert labels(compared([record], by="parameters.override")) == ["1", "random"]


def test_final_figures_are_set_aside_where_parts_of_a_sweep_lack_them() -> None:
    trials = [trial(number, 1.0 + number, 0.5 + 0.1 * number) for number in range(3)]
    trials.append(trial(3, 9.0, 0.1, generator_lr=1e-4))
    record = with_finals(named("one", *trials))
    record = replace(record, trials=(*record.trials[:1], replace(record.trials[1], final=None), *record.trials[2:]))
    comparison = compared([record], by="override")
    assert not comparison.is_final
    assert any("set aside" in remark for remark in comparison.remarks())
    assert all(each.final is None for part in comparison.groups for run in part.runs for each in run.trials)


def test_many_numbers_make_three_ranges() -> None:
    record = named("one", *(trial(n, 1.0 + n, 0.5, generator_lr=1e-5 * (n + 1)) for n in range(12)))
    comparison = compared([record], by="generator_lr")
    assert labels(comparison) == ["1e-05 to 4e-05", "5e-05 to 8e-05", "9e-05 to 0.00012"]
    assert [len(part.runs[0].trials) for part in comparison.groups] == [4, 4, 4]


def test_few_numbers_make_groups_in_their_order() -> None:
    record = named("one", *(trial(n, 1.0 + n, 0.5, generator_lr=1e-5 * (3 - n % 3)) for n in range(9)))
    assert labels(compared([record], by="generator_lr")) == ["1e-05", "2e-05", "3e-05"]


def test_sweeps_are_compared_by_a_key_of_the_search_space() -> None:
    assert labels(compared(TWO_SAMPLERS, by="search.sampler")) == ["random", "tpe"]


def test_sweeps_that_forget_different_things_are_compared_by_that_alone() -> None:
    controls = ("audit.control=builtin:digits-without-0", "audit.control=elsewhere")
    records = [seeded(0, controls[0]), seeded(1, controls[1], "task.forget=[3]", "parameters.override=1")]
    assert labels(compared(records, by="task.forget")) == ["0", "3"]
    with pytest.raises(UserError, match="not judged alike, so they cannot be compared: task.forget is 0 and 3"):
        compared(records)


CLIP = "evaluation.clip=some/clip"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("evaluation.samples=1000", "evaluation.samples is 2000 and 1000"),
        ("evaluation.forget_samples=500", "evaluation.forget_samples is 1000 and 500"),
        ("evaluation.classifier=mine", "evaluation.classifier is builtin:digits and mine"),
        ("evaluation.reference=images", "evaluation.reference is builtin:digits and images"),
        (CLIP, "evaluation.clip is None and some/clip"),
        ("constraints=[]", "constraints is override_distance at most 40 and none"),
        (
            "objectives=[{metric: fd_classifier, goal: minimize, reference_point: 10}]",
            "objectives is fd_classifier (minimize), unlearning_accuracy (maximize) and fd_classifier (minimize)",
        ),
        ("task.teacher=other", "the list of the teacher's classes is 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 0, 1"),
    ],
)
def test_sweeps_that_were_judged_differently_are_refused_with_what_differs(override: str, told: str) -> None:
    with pytest.raises(UserError) as refused:
        compared([seeded(0), seeded(1, override)])
    assert "small-0 and small-1 were not judged alike" in str(refused.value)
    assert told in str(refused.value)


def test_everything_that_differs_is_in_the_one_line() -> None:
    with pytest.raises(UserError) as refused:
        compared([seeded(0), seeded(1, "evaluation.samples=1000", "evaluation.classifier=mine")])
    assert "evaluation.samples is 2000 and 1000; evaluation.classifier is builtin:digits and mine" in str(refused.value)
    assert "\n" not in str(refused.value)


ATTACKED = (
    "objectives=[{metric: fd_classifier, goal: minimize, reference_point: 10}, "
    "{metric: excess_inversion_rate, goal: minimize, reference_point: 1}]"
)


@pytest.mark.parametrize("key", ["judge", "control"])
def test_judge_and_control_matter_only_to_metrics_of_attacks(key: str) -> None:
    values = ("audit.control=builtin:digits-without-0", f"audit.{key}=elsewhere")

    def audited(seed: int, *overrides: str) -> SweepRecord:
        record = seeded(seed, *overrides)
        trials = [
            replace(
                each,
                reports=tuple(replace(r, metrics=r.metrics | {"excess_inversion_rate": 0.1}) for r in each.reports),
            )
            for each in record.trials
        ]
        return replace(record, trials=tuple(trials))

    assert compared([seeded(0, values[0]), seeded(1, *values)])
    with pytest.raises(UserError, match=f"audit.{key} is .* and elsewhere"):
        compared([audited(0, values[0], ATTACKED), audited(1, *values, ATTACKED)])


def test_final_figures_are_not_compared_with_those_of_a_search() -> None:
    with pytest.raises(UserError, match="the kind of figures is final and of the search"):
        compared([with_finals(seeded(0)), seeded(1)])


def test_final_figures_on_different_numbers_of_samples_are_not_compared() -> None:
    records = [with_finals(seeded(seed, f"evaluation.final_samples={9000 + seed}")) for seed in (0, 1)]
    with pytest.raises(UserError, match="evaluation.final_samples is 9000 and 9001"):
        compared(records)


def test_teachers_of_equal_classes_can_be_compared_unless_their_samples_are_the_reference() -> None:
    assert compared([seeded(0), seeded(1, "task.teacher=alike")])
    of_teacher = ("evaluation.reference=teacher", "constraints=[]")
    of_teacher += ("objectives=[{metric: fd_classifier_teacher, goal: minimize, reference_point: 10}]",)

    def renamed(seed: int, *overrides: str) -> SweepRecord:
        record = seeded(seed, *of_teacher, *overrides)
        trials = [
            replace(each, reports=tuple(replace(r, metrics={"fd_classifier_teacher": 1.0}) for r in each.reports))
            for each in record.trials
        ]
        return replace(record, trials=tuple(trials))

    assert compared([renamed(0), renamed(1)])
    with pytest.raises(UserError, match="task.teacher is builtin:digits and alike"):
        compared([renamed(0), renamed(1, "task.teacher=alike")])


@pytest.mark.parametrize(
    ("records", "by", "told"),
    [
        ([seeded(0)], None, "one sweep has nothing to be compared with; name another one, or a searched parameter"),
        ([seeded(0)], "overide", "neither a parameter nor a key of the search space of small-0; did you mean override"),
        ([seeded(0)], "batch_size", "--by batch_size: it is 32 throughout; name a searched parameter by --by: gen"),
        (TWO_SAMPLERS, "trial.steps", "--by trial.steps: it is 20 throughout"),
        (TWO_SAMPLERS, "override", "both have 1 and differ in search.sampler, so they are no repetitions"),
        ([seeded(0), named("none", trial(0, 1, 1, TrialState.FAILED))], None, "none has no complete trial yet"),
    ],
)
def test_what_cannot_be_grouped_is_refused(records: list[SweepRecord], by: str | None, told: str) -> None:
    with pytest.raises(UserError) as refused:
        compared(records, by=by)
    assert told in str(refused.value)


def test_a_sweep_that_is_not_complete_is_told() -> None:
    record = seeded(1)
    record = replace(record, summary=replace(record.summary, state=SweepState.RUNNING))
    assert "small-1 is running." in compared([seeded(0), record]).remarks()


def test_objectives_may_be_in_another_order() -> None:
    objectives = seeded(0).space.objectives
    record = seeded(1)
    turned = replace(record, space=record.space.model_copy(update={"objectives": objectives[::-1]}))
    comparison = compared([seeded(0), turned])
    assert [part.goal for part in comparison.objectives] == [Goal.MINIMIZE, Goal.MAXIMIZE]
    volumes = [comparison.hypervolumes(part) for part in comparison.groups]
    assert sorted(chain(*volumes)) == pytest.approx(sorted(counted_volume(POINTS[seed], 10) for seed in (0, 1)))
