"""Which searched parameters an objective hangs on: functional ANOVA on the complete trials."""

import math

import optuna
from matplotlib.axes import Axes

from sfd_sweep.config import Distribution, Objective
from sfd_sweep.search.distributions import to_optuna
from sfd_sweep.search.records import SweepRecord, TrialRecord
from sfd_sweep.tracking.front_view import INK
from sfd_sweep.tracking.plots import new_figure, say, to_png

FEWEST_TRIALS = 8
FIRM_FROM = 50
BAR_COLOR = "#3d6b99"


def importance_png(record: SweepRecord) -> bytes:
    """A panel for each objective, a bar for each searched parameter; words instead where the trials are too few."""
    objectives = record.space.objectives
    figure, panels = new_figure(record.space.name, basis_of(record), len(objectives))
    found = [parameter_importance(record, objective) for objective in objectives]
    names = sorted(_always_drawn(record), key=lambda name: sum(shares.get(name, 0.0) for shares in found))
    for panel, objective, shares in zip(panels, objectives, found, strict=True):
        if shares:
            _draw_bars(panel, objective, names, shares)
        else:
            say(panel, f"{objective.metric}:\nneeds {FEWEST_TRIALS} complete trials\nthat differ")
    return to_png(figure)


def basis_of(record: SweepRecord) -> str:
    """What the importance rests on, in words."""
    count = len(_usable(record, record.space.objectives[0]))
    caution = "" if count >= FIRM_FROM else ": a hint at most"
    left_out = sorted(set(record.space.parameters.searched()) - set(_always_drawn(record)))
    without = f"; not of {', '.join(left_out)}, which not all of them have drawn" if left_out else ""
    return f"importance of parameters by fANOVA on {count} complete trials{caution}{without}"


def parameter_importance(record: SweepRecord, objective: Objective) -> dict[str, float]:
    """The share of an objective's variance that each parameter explains by itself or with others.

    Of the searched parameters, those that every complete trial has drawn: a condition leaves others out of some.

    Functional ANOVA with random forests (Hutter, Hoos & Leyton-Brown, ICML 2014), as in Optuna, with a fixed seed.

    Returns:
        Shares that add up to 1, by name; empty if fewer than FEWEST_TRIALS complete trials have finite values, or all
        have the same.
    """
    trials = _usable(record, objective)
    values = [trial.metrics[objective.metric] for trial in trials]
    if len(trials) < FEWEST_TRIALS or min(values) == max(values):
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=objective.goal.value)
    distributions = {name: to_optuna(found) for name, found in _always_drawn(record).items()}
    for trial, value in zip(trials, values, strict=True):
        drawn = {name: trial.searched[name] for name in distributions}
        study.add_trial(optuna.trial.create_trial(params=drawn, distributions=distributions, value=value))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _always_drawn(record: SweepRecord) -> dict[str, Distribution]:
    searched = record.space.parameters.searched().items()
    return {name: found for name, found in searched if all(name in trial.searched for trial in record.complete)}


def _usable(record: SweepRecord, objective: Objective) -> list[TrialRecord]:
    return [trial for trial in record.complete if math.isfinite(trial.metrics[objective.metric])]


def _draw_bars(panel: Axes, objective: Objective, names: list[str], shares: dict[str, float]) -> None:
    widths = [shares.get(name, 0.0) for name in names]
    panel.barh(names, widths, color=BAR_COLOR, height=0.62)
    for row, width in enumerate(widths):
        panel.annotate(
            f"{width:.0%}", (width, row), (4, 0), textcoords="offset points", va="center", fontsize=8, color=INK
        )
    panel.set_title(objective.metric, fontsize=10, color=INK, loc="left")
    panel.set(xlim=(0, max(widths) * 1.15), xticks=[])
    panel.spines["bottom"].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.grid(visible=False)
