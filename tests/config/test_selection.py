"""What a search-space file counts as forgotten."""

import pytest
from trial_cases import digits_space

from sfd_sweep.config.loading import dump_search_space, parse_search_space
from sfd_sweep.errors import UserError

BOUNDS = "selection={min: {unlearning_accuracy: 0.99}, max: {override_distance: 60}}"


def test_bounds_are_kept_in_words_and_in_the_file():
    space = digits_space(BOUNDS)
    assert space.selection.in_words() == "unlearning_accuracy at least 0.99 and override_distance at most 60"
    assert parse_search_space(dump_search_space(space), "dumped.yaml") == space
    assert digits_space("selection.min.unlearning_accuracy=0.9").selection.min == {"unlearning_accuracy": 0.9}


def test_both_bounds_of_a_metric_are_one_range():
    space = digits_space("selection={min: {forget_entropy: 0.5}, max: {forget_entropy: 2}}")
    (bound,) = space.selection.bounds
    assert bound.in_words() == "forget_entropy at least 0.5 and at most 2"


def test_nothing_is_bounded_unless_the_file_says_so():
    assert digits_space().selection.bounds == ()


def test_a_bounded_metric_is_a_requested_one():
    assert "override_distance" in digits_space(BOUNDS).asked_metrics
    assert not digits_space(BOUNDS).wants_inception
    assert digits_space("selection={max: {fid: 20}}").wants_inception


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (
            "{min: {unlearning_acuracy: 1}}",
            "selection.min.unlearning_acuracy: unknown metric 'unlearning_acuracy'; did",
        ),
        ("{max: {kid: 0.1}}", "selection.max.kid: kid is measured only in the final evaluation"),
        (
            "{min: {unlearning_accuracy: 99}}",
            "selection.min.unlearning_accuracy: cannot be 99: unlearning_accuracy is a",
        ),
        ("{min: {unlearning_accuracy: .nan}}", "selection.min.unlearning_accuracy: must be a finite number, not NaN"),
        ("{max: {override_distance: far}}", 'selection.max.override_distance: must be a valid number, not "far"'),
        (
            "{min: {unlearning_accuracy: 0.9}, max: {unlearning_accuracy: 0.8}}",
            "selection.max.unlearning_accuracy: is below min (0.9)",
        ),
        ("{least: {}}", "selection.least: unknown key; use min or max"),
        (
            "{min: {held_out_unlearning_accuracy: 1}}",
            "selection.min.held_out_unlearning_accuracy: held_out_unlearning_accuracy is measured only for forgotten",
        ),
        (
            "{max: {fd_classifier_teacher: 1}}",
            "selection.max.fd_classifier_teacher: fd_classifier_teacher does not fit",
        ),
    ],
)
def test_a_bound_that_no_evaluation_can_keep_is_refused_at_its_path(selection, message):
    with pytest.raises(UserError) as refused:
        digits_space(f"selection={selection}")
    assert f": {message}" in str(refused.value)
