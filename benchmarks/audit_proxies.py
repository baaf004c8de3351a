"""Cheap forms of the audit's attacks against the full audit, on recorded digits trials.

    python benchmarks/audit_proxies.py --cache FOLDER [--trials 32] [--seeds 1]

The settings of the trials are random draws from the space of `digits.yaml`. Each trial is trained in a plain loop; its
generator meets the attacks of the full audit and the candidates for cheap forms in `CANDIDATES`. The folder keeps
every result, so that an interrupted run continues, and several processes can share the work (`--only 0:16`).

The table has Spearman's rank correlation of each form's excess over the never-knew control with the worst excess of the
full audit, and with the excess of the full attack of the same kind: on the even trials, on which budgets are chosen,
and on the odd ones, by which a form is admitted.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import nan
from pathlib import Path

import numpy as np
import optuna
import torch
from scipy.stats import spearmanr

from sfd_sweep.audit.attacks.base import Attack, AttackContext, Point
from sfd_sweep.audit.attacks.inversion import ConditionInversion
from sfd_sweep.audit.attacks.relearning import Relearning
from sfd_sweep.audit.building import AuditContext
from sfd_sweep.audit.cheap import CHEAP, SAMPLES, CheapAttacks
from sfd_sweep.audit.levels import LEVELS
from sfd_sweep.audit.report import NEVER_KNEW
from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.config.loading import load_search_space
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.metrics.definition import AUDITED
from sfd_sweep.search.distributions import to_optuna
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext, TrialRunner, load_generator

SPACE = Path(__file__).parent.parent / "search_spaces" / "digits.yaml"
ADMITTED = 0.7
"""The least rank correlation of a form that is admitted."""
FORGOTTEN = 0.99
"""The unlearning accuracy from which on a trial counts as one that has forgotten."""
REPEATS = 5
"""Evaluations whose median time is compared."""

CANDIDATES: tuple[ConditionInversion | Relearning, ...] = (
    *(ConditionInversion(restarts=1, budgets=(3, 6, 9, 12), batch_size=16, lr=lr) for lr in (0.05, 0.1, 0.2, 0.4)),
    *(Relearning(images=n, budgets=(3, 6, 9, 12), candidates=32, lr=lr) for n in (10, 25) for lr in (1e-4, 2e-4, 4e-4)),
)

Curve = list[tuple[int, float]]
"""Budgets and rates."""


@dataclass(frozen=True)
class Recorded:
    """Everything that is known about one generator.

    Attributes:
        metrics: of the trial's last evaluation.
        curves: by attack and seed (see `key_of`).
    """

    metrics: dict[str, float]
    curves: dict[str, Curve]

    @classmethod
    def read(cls, path: Path) -> "Recorded":
        """Read the results in a file; without one there are none."""
        return cls(**json.loads(path.read_text())) if path.exists() else cls({}, {})

    def write(self, path: Path) -> None:
        """Replace the file."""
        half = path.with_suffix(".half")
        half.write_text(json.dumps(asdict(self)))
        half.replace(path)


def key_of(attack: Attack, seed: int, samples: int) -> str:
    """Return the name of a result."""
    return f"{attack.key()} seed {seed} on {samples}"


def settings_of(space: SearchSpace, trials: int) -> list[Settings]:
    """Return the settings of the trials, drawn at random from a fixed seed."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=13))
    searched = {name: to_optuna(part) for name, part in space.parameters.searched().items()}
    return [space.parameters.settings(study.ask(searched).params) for _ in range(trials)]


def train(context: TrialContext, settings: Settings, folder: Folder, known: Recorded) -> Recorded:
    """Train and evaluate a trial, unless that was done before."""
    if known.metrics:
        return known
    trial = TrialRunner(context, settings, folder)
    *_, report = [trial.advance(step) for step in context.plan.space.trial.milestones()]
    return replace(known, metrics=report.metrics)


def leak_by_judge(generator: OneStepGenerator, context: AttackContext, samples: int) -> float:
    """Return the share of retained samples that the judge calls forgotten."""
    evaluated = torch.tensor(context.conditions.evaluated)
    return rate(context.point(0, generator, evaluated.repeat(samples // len(evaluated))))


def rate(point: Point) -> float:
    """Return the share of samples that show what is forgotten."""
    return point.shown / point.samples


def attack_all(
    known: Recorded,
    generator: OneStepGenerator,
    contexts: Mapping[int, AttackContext],
    attacks: Sequence[Attack],
    seeds: int,
) -> Iterator[Recorded]:
    """Make the attacks that were not made before; yield the results after each."""
    wanted: list[tuple[Attack, int, int]] = [(attack, 0, min(contexts)) for attack in CANDIDATES]
    wanted += [(attack, seed, max(contexts)) for attack in attacks for seed in range(seeds)]
    if "leak" not in known.curves:
        share = leak_by_judge(generator, contexts[max(contexts)], 2000)
        known = replace(known, curves=known.curves | {"leak": [(0, share)]})
    for attack, seed, samples in wanted:
        key = key_of(attack, seed, samples)
        if key in known.curves:
            continue
        curve = [(point.budget, rate(point)) for point in attack.curve(generator, contexts[samples], seed)]
        known = replace(known, curves=known.curves | {key: curve})
        yield known


def excess(curve: Curve, control: Curve) -> float:
    """Return the largest excess over the control."""
    return max(rate - zero for (_, rate), (_, zero) in zip(curve, control, strict=True))


def full_excess(
    recorded: Recorded, control: Recorded, attacks: Sequence[Attack], seeds: int, samples: int
) -> dict[str, float]:
    """Return the excess of each attack of the full audit, by its name; the rates are means over seeds."""

    def mean(of: Recorded, attack: Attack) -> Curve:
        curves = [of.curves[key_of(attack, seed, samples)] for seed in range(seeds)]
        return [(points[0][0], float(np.mean([share for _, share in points]))) for points in zip(*curves, strict=True)]

    return {attack.name: excess(mean(recorded, attack), mean(control, attack)) for attack in attacks}


@dataclass(frozen=True)
class Form:
    """A cheap form of an attack.

    Attributes:
        name: in the table.
        of: the beginning of the names of the matching attacks of the full audit.
        values: by trial.
    """

    name: str
    of: str
    values: list[float]


def without_budgets(attack: ConditionInversion | Relearning) -> ConditionInversion | Relearning:
    """Return an attack whatever its budgets are, for comparison."""
    return replace(attack, budgets=(1,))


def forms(trials: Sequence[Recorded], control: Recorded) -> Iterator[Form]:
    """Yield the candidates at each of their budgets."""
    yield Form("leak_rate, by the classifier", "leak", [trial.metrics["leak_rate"] for trial in trials])
    yield Form("leak_rate, by the judge", "leak", [trial.curves["leak"][0][1] for trial in trials])
    shipped = [(without_budgets(attack), attack.budgets[-1]) for _, attack in CHEAP.values()]
    for attack in CANDIDATES:
        key = key_of(attack, 0, SAMPLES)
        of = "condition inversion" if isinstance(attack, ConditionInversion) else "relearning"
        budget = vars(attack)
        words = ", ".join(f"{name} {budget[name]:g}" for name in ("images", "candidates", "lr") if name in budget)
        for place, (steps, zero) in enumerate(control.curves[key]):
            values = [max(0.0, trial.curves[key][place][1] - zero) for trial in trials]
            mark = " (as shipped)" if (without_budgets(attack), steps) in shipped else ""
            yield Form(f"{of}, {words}, {steps} steps{mark}", of, values)


def correlation(one: Iterable[float], other: Iterable[float]) -> float:
    """Return Spearman's rank correlation; nan where one does not vary."""
    a, b = np.array(list(one)), np.array(list(other))
    return float(spearmanr(a, b).statistic) if len(a) > 2 and np.ptp(a) > 0 and np.ptp(b) > 0 else nan


def row(form: Form, full: Sequence[Mapping[str, float]], forgotten: Sequence[bool]) -> str:
    """Return a row of the table."""
    worst = [max(each.values()) for each in full]
    matching = [max((each[name] for name in each if name.startswith(form.of)), default=nan) for each in full]
    halves = (slice(0, None, 2), slice(1, None, 2))
    of_halves = [correlation(form.values[half], target[half]) for target in (worst, matching) for half in halves]
    rows = [index for index, has in enumerate(forgotten) if has]
    among = correlation([form.values[index] for index in rows], [worst[index] for index in rows])
    cells = [form.name, *(f"{each:.2f}" for each in (*of_halves, among))]
    cells += ["yes" if max(of_halves[1], of_halves[3]) >= ADMITTED else "no"]
    return f"| {' | '.join(cells)} |"


def print_table(
    trials: Sequence[Recorded], control: Recorded, attacks: Sequence[Attack], seeds: int, samples: int
) -> None:
    """Print how the trials spread, and the table of all forms."""
    full = [full_excess(trial, control, attacks, seeds, samples) for trial in trials]
    worst = [max(each.values()) for each in full]
    names = [max(each, key=lambda name: each[name]) for each in full]
    forgotten = [trial.metrics["unlearning_accuracy"] >= FORGOTTEN for trial in trials]
    print(f"{len(trials)} trials, {sum(forgotten)} with an unlearning accuracy from {FORGOTTEN} on")
    print(f"worst excess: quartiles {np.round(np.quantile(worst, [0, 0.25, 0.5, 0.75, 1]), 2).tolist()}")
    print(f"worst attacks: {', '.join(f'{name} ({names.count(name)})' for name in dict.fromkeys(names))}")
    columns = ["form", "worst, even", "worst, odd", "matching, even", "matching, odd", "worst, forgotten"]
    columns += ["admitted"]
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for form in forms(trials, control):
        print(row(form, full, forgotten))


def print_cost(context: TrialContext, space: SearchSpace) -> None:
    """Print the time of all cheap forms together beside that of the rest of an evaluation."""
    attacks = CheapAttacks.build(context.evaluator, space.audit, AUDITED, None)
    generator = OneStepGenerator.load(space.task.start)
    found = []
    for _ in range(1 + REPEATS):  # the first attacks the control, too
        result = context.evaluator.evaluate(
            generator.generate,
            override=None,
            samples=space.evaluation.samples,
            forget_samples=space.evaluation.forget_samples,
            attacks=attacks.on(generator),
        )
        found.append((result.seconds["attacking"], sum(result.seconds.values()) - result.seconds["attacking"]))
    attacking, rest = np.median(found[1:], axis=0)
    print(f"all cheap forms take {attacking:.2f} s, beside {rest:.2f} s of an evaluation ({attacking / rest:.0%})")


def run(asked: argparse.Namespace) -> None:
    """Record what is missing, and print the table once all trials are there."""
    space = load_search_space(SPACE, [f"audit.control={asked.control}"] if asked.control else [])
    context = TrialContext.build(resolve_sweep(space), None)
    audit = AuditContext.build(context.evaluator, space.audit, start=None, override=None)
    contexts = {attacks.samples: attacks for attacks in (audit.attacks, replace(audit.attacks, samples=SAMPLES))}
    first, last = (int(part) if part else None for part in asked.only.split(":"))
    asked.cache.mkdir(parents=True, exist_ok=True)
    proposed = list(enumerate(settings_of(space, asked.trials)))
    never_knew = audit.controls[NEVER_KNEW]
    at_control = asked.cache / f"control-{never_knew.content_hash()[:12]}.json"
    possible = [each for each in LEVELS["full"] if each.needs(audit.attacks) is None]
    attacks = [each for each in possible if each.name.startswith(tuple(asked.attacks.split("|")))]
    if not first:
        for result in attack_all(Recorded.read(at_control), never_knew, contexts, attacks, asked.seeds):
            result.write(at_control)
    for number, settings in proposed[first:last]:
        path, folder = asked.cache / f"{number:03d}.json", Folder.open(asked.cache / f"{number:03d}")
        known = train(context, settings, folder, Recorded.read(path))
        known.write(path)
        generator = load_generator(folder, space.trial.steps)
        for result in attack_all(known, generator, contexts, attacks, asked.seeds):
            result.write(path)
        print(f"trial {number}", flush=True)
    if first is None and last is None:
        trials = [Recorded.read(asked.cache / f"{number:03d}.json") for number, _ in proposed]
        print_cost(context, space)
        print_table(trials, Recorded.read(at_control), attacks, asked.seeds, audit.attacks.samples)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder of results")
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=1, help="of the full audit's attacks")
    parser.add_argument(
        "--attacks", default="", help="beginnings of names of the full audit's, with | between; default: all"
    )
    parser.add_argument("--only", default=":", metavar="FIRST:LAST", help="record these trials alone, without a table")
    parser.add_argument("--control", help="the never-knew generator; default: that of digits.yaml")
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
