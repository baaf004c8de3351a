"""The model card of an exported generator: what a reader wants to know before using it. Imports no torch."""

import json
from collections.abc import Sequence

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from sfd_sweep.audit.report import NEVER_KNEW, AttackReport, AuditReport
from sfd_sweep.audit.summary import (
    REVIVAL_HEADER,
    SUBJECT_NAMES,
    budget_in_words,
    cell,
    comparison,
    headline,
    judged_by,
    retained_in_words,
    revival_in_words,
)
from sfd_sweep.config import Bound, Constraint
from sfd_sweep.config.methods import METHODS, Method
from sfd_sweep.export.description import Description, Figures, FrontMember
from sfd_sweep.metrics import METRICS, Goal
from sfd_sweep.models.conditioning import CLASSES
from sfd_sweep.models.folder import ASSETS
from sfd_sweep.search.scores import why_not_forgotten
from sfd_sweep.search.uncertainty import stated_errors

TEMPLATE = ASSETS / "model_card.md"
TAGS = ["machine-unlearning", "one-step", "sfd-sweep"]
TAGS_OF_METHOD: dict[Method, list[str]] = {"sfd": ["score-forgetting-distillation"]}
BETTER = {Goal.MINIMIZE: "low", Goal.MAXIMIZE: "high", None: ""}
MOST_LABELS = 12
AS_GOOD_AS = "as good as"


def model_card(description: Description, name: str, *, has_before: bool, audit: AuditReport | None = None) -> str:
    """Return the card as Markdown, with the front matter that model hubs read.

    Args:
        description: of the generator.
        name: of its folder.
        has_before: whether `before.png` is beside it.
        audit: of the generator; None if it was not audited.
    """
    aims = [objective.metric for objective in description.objectives]
    bounds = (*description.constraints, *description.selection.bounds)
    metrics = list(dict.fromkeys([*aims, *(bound.metric for bound in bounds)]))
    card = ModelCard.from_template(
        _front_matter(description, name),
        template_path=str(TEMPLATE),
        name=name,
        description=description,
        lineage=description.lineage,
        has_before=has_before,
        kind=description.kind,
        method=METHODS[description.settings.method],
        override=_override(description),
        why_not_forgotten=why_not_forgotten(description.figures.metrics, description.selection),
        call=_call(description),
        labels=_labels(description.conditions.names),
        evaluations=["search", "final"] if description.final else ["search"],
        figures=_figures(description),
        bounds=_bounds(description.constraints),
        counts=_in_signs(description.selection.bounds),
        on_front=description.lineage.trial in [member.trial for member in description.front],
        within_errors=_within_errors(description),
        front_header=_front_header(description, metrics),
        front=_front(description, metrics),
        settings=_settings(description),
        audit=None if audit is None else _audit(audit, description),
    )
    return str(card)


def _front_matter(description: Description, name: str) -> ModelCardData:
    kind, reference = description.kind, description.evaluation.reference
    results = [
        EvalResult(
            task_type=kind.pipeline_tag,
            task_name=f"{kind.adjective} generation",
            dataset_type=reference,
            dataset_name=reference,
            metric_type=metric,
            metric_value=value,
            metric_name=f"{metric} (n = {description.figures.count(metric)})",
        )
        for metric, value in description.figures.metrics.items()
    ]
    return ModelCardData(
        library_name="diffusers",
        pipeline_tag=kind.pipeline_tag,
        tags=[*TAGS_OF_METHOD.get(description.settings.method, []), *TAGS],
        model_name=name,
        eval_results=results,
    )


def _override(description: Description) -> str:
    """What replaces each forgotten condition, in words."""
    subjects = description.conditions.subjects
    makes = "should make" if description.counts_as_forgotten is False else "makes"
    if not METHODS[description.settings.method].reads_override:
        return f"asked for {' or '.join(description.forgotten.split(', '))}, it {makes} **something else**"
    if description.override is not None:
        pairs = zip(description.conditions.forget, description.override, strict=True)
        named = dict.fromkeys((subjects[index], subjects[to]) for index, to in pairs)
        return ", ".join(f"asked for {subject}, it {makes} **{to or 'something else'}**" for subject, to in named)
    words = {
        "random": f"any of the retained {description.kind.plural}",
        "classifier": "the retained class that a classifier finds likeliest",
    }
    forgotten = " or ".join(description.forgotten.split(", "))
    return f"asked for {forgotten}, it {makes} **{words[str(description.settings.override)]}**"


def _call(description: Description) -> str:
    """Keyword and value of conditions for the pipeline: a forgotten one and two others."""
    conditions, kind = description.conditions, description.kind
    indices = [conditions.forget[0], *(conditions.evaluated * 2)[:2]]
    chosen = indices if kind is CLASSES else [conditions.names[index] for index in indices]
    return f"{kind.argument}={json.dumps(chosen, ensure_ascii=False)}"


def _labels(names: Sequence[str]) -> str:
    listed = [f"{index} (`{name}`)" for index, name in enumerate(names[:MOST_LABELS])]
    return ", ".join(listed) + (", …" if len(names) > MOST_LABELS else "")


def _figures(description: Description) -> list[list[str]]:
    evaluations = [description.search, description.final] if description.final else [description.search]
    return [
        [
            f"`{name}`",
            BETTER[METRICS[name].goal],
            *(_figure(figures, name) for figures in evaluations),
            METRICS[name].description,
        ]
        for name in description.figures.metrics
    ]


def _figure(figures: Figures, name: str) -> str:
    return f"{figures.metrics[name]:.4g} (n = {figures.count(name):,})" if name in figures.metrics else ""


def _front_header(description: Description, metrics: Sequence[str]) -> list[str]:
    equals = [AS_GOOD_AS] if _is_any_as_good(description) else []
    return ["trial", *(f"`{metric}`" for metric in metrics), "retained n", "forgotten n", *equals]


def _is_any_as_good(description: Description) -> bool:
    return any(member.as_good_as for member in description.front)


def _front(description: Description, metrics: Sequence[str]) -> list[list[str]]:
    """The front's members with this trial marked; a trial beside the front comes last."""
    number, members = description.lineage.trial, list(description.front)
    if number not in [member.trial for member in members]:
        comparable = members and description.figures.samples == members[0].samples
        own = description.figures if comparable else description.search
        members.append(FrontMember(trial=number, metrics=own.metrics, samples=own.samples))
    return [
        [
            f"**{member.trial}** (this one)" if member.trial == number else str(member.trial),
            *(f"{member.metrics[name]:.4g}" for name in metrics),
            f"{member.samples['retained']:,}",
            f"{member.samples['forgotten']:,}",
            *([", ".join(map(str, member.as_good_as))] if _is_any_as_good(description) else []),
        ]
        for member in members
    ]


def _within_errors(description: Description) -> str:
    """How often the trial is on the front within the stated errors, in words; "" if it is not known."""
    if description.front_probability is None:
        return ""
    errors = stated_errors(description.objectives, description.constraints)
    stated = ", ".join(f"`{name}` ± {error:g}" for name, error in errors.items() if error)
    words = (
        f"With all figures drawn anew within the errors of an evaluation ({stated}), this trial is on the front in "
        f"{description.front_probability:.0%} of the draws."
    )
    if not _is_any_as_good(description):
        return words
    return f"{words} *{AS_GOOD_AS}* lists the members that differ from a trial by no more than the errors."


def _bounds(constraints: Sequence[Constraint]) -> str:
    return f", within {_in_signs(constraints)}" if constraints else ""


def _in_signs(bounds: Sequence[Bound]) -> str:
    lower = [f"`{bound.metric}` ≥ {bound.min:g}" for bound in bounds if bound.min is not None]
    upper = [f"`{bound.metric}` ≤ {bound.max:g}" for bound in bounds if bound.max is not None]
    return " and ".join(lower + upper)


def _audit(report: AuditReport, description: Description) -> dict[str, object]:
    """Everything that the section on the audit shows."""
    origin = description.audit
    sources = {SUBJECT_NAMES[subject]: f"`{report.sources[subject]}`" for subject in report.subjects[1:]}
    if origin is not None and origin.control is not None and origin.control.sha256 is not None:
        sources[SUBJECT_NAMES[NEVER_KNEW]] += f" (weights SHA-256 `{origin.control.sha256}`)"
    header = ["attack", "budget", *(f"{SUBJECT_NAMES[subject]}, %" for subject in report.subjects)]
    if report.has_control:
        header.append("excess")
    return {
        "level": report.level,
        "headline": headline(report),
        "comparison": comparison(report),
        "header": [*header, REVIVAL_HEADER],
        "rows": [_attack_row(attack, report) for attack in report.attacks],
        "retained": retained_in_words(report),
        "judged_by": judged_by(report),
        "sources": sources,
        "missing": report.missing,
        "attacks": [f"*{attack.name}*: {attack.description}" for attack in report.attacks],
    }


def _attack_row(attack: AttackReport, report: AuditReport) -> list[str]:
    excess = attack.excess()
    return [
        attack.name,
        budget_in_words(attack),
        *(cell(attack.rate(subject)) for subject in report.subjects),
        *([] if excess is None else [f"{excess.value:.2f} ({excess.low:.2f} to {excess.high:.2f})"]),
        revival_in_words(attack),
    ]


def _settings(description: Description) -> list[list[str]]:
    fields = type(description.settings).model_fields
    return [
        [f"`{name}`", f"{value:.4g}" if isinstance(value, float) else str(value), str(fields[name].description)]
        for name, value in description.settings.of_method().items()
    ]
