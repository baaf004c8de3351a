"""The model card: what a reader wants to know of an exported generator before using it. Imports no torch."""

import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from ruamel.yaml import YAML

from sfd_sweep.config import Constraint
from sfd_sweep.export.description import DESCRIPTION, Description, Figures, FrontMember, Origin
from sfd_sweep.metrics import METRICS, Goal, ReferenceKind

CARD = "README.md"
GRID, BEFORE, FRONT = "grid.png", "before.png", "front.png"

LIMITS = """\
- Unlearning accuracy is one classifier's opinion of samples, not a proof that what was forgotten is gone. No
  robustness is claimed, neither against fine-tuning nor against whoever else tries to bring it back from the weights.
- What a share says ends with its n: not one hit in n samples still allows a rate of about 3/n.
- It has the faults and biases of its teacher, and the licence of the teacher's weights holds for these too.
- The figures hold for the judge named above alone; `fd_classifier` cannot be compared with an FID on Inception
  features, and an FID at one number of samples not with one at another."""


def model_card(description: Description, name: str, *, has_before: bool) -> str:
    """The card as Markdown, with YAML front matter as model hubs read it.

    Args:
        description: of the generator.
        name: of its folder.
        has_before: whether `before.png` lies beside it.
    """
    sections = [
        _summary(description),
        _pictures(description, has_before),
        f"## Use\n\n{_usage(description, name)}",
        f"## Figures\n\n{_figures(description)}",
        f"## Why this one\n\n{description.why}\n\n{_front(description)}",
        f"## Settings\n\n{_settings(description)}",
        f"## Lineage\n\n{_lineage(description)}",
        f"## Limits\n\n{LIMITS}",
    ]
    return f"---\n{_front_matter(description, name)}---\n\n# {name}\n\n" + "\n\n".join(sections) + "\n"


def _front_matter(description: Description, name: str) -> str:
    figures = description.figures
    metrics = [
        {"type": metric, "value": value, "name": f"{metric} (n = {figures.count(metric)})"}
        for metric, value in figures.metrics.items()
    ]
    kind = "text-to-image" if description.reads_text else "unconditional-image-generation"
    what = "text-to-image generation" if description.reads_text else "class-conditional image generation"
    result = {
        "task": {"type": kind, "name": what},
        "dataset": {"type": description.evaluation.reference, "name": description.evaluation.reference},
        "metrics": metrics,
    }
    content = {
        "library_name": "diffusers",
        "pipeline_tag": kind,
        "tags": ["score-forgetting-distillation", "machine-unlearning", "one-step", "sfd-sweep"],
        "model-index": [{"name": name, "results": [result]}],
    }
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # annotated as None by its default
    yaml.width = 4096
    stream = io.StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def _summary(description: Description) -> str:
    return (
        f"A one-step, {'text-to-image' if description.reads_text else 'class-conditional image'} generator that has "
        f"forgotten **{description.forgotten}**: {_override(description)}. It was "
        f"distilled from the diffusion model `{description.lineage.teacher.source}` by Score Forgetting Distillation "
        "([Chen, Zhang & Zhou, ICLR 2025](https://arxiv.org/abs/2409.11219)), which reads no real image, and chosen "
        f"from the sweep `{description.lineage.sweep}`."
    )


def _override(description: Description) -> str:
    """What replaces the forgotten, in words: `asked for 0, it makes 1`, and so on for each."""
    told = description.conditions
    if description.override is not None:
        pairs = dict.fromkeys(
            (told.subjects[index], told.subjects[to])
            for index, to in zip(told.forget, description.override, strict=True)
        )
        return ", ".join(f"asked for {subject}, it makes **{to or 'something else'}**" for subject, to in pairs)
    words = {
        "random": f"any of the retained {'prompts' if description.reads_text else 'classes'}",
        "classifier": "the retained class that a classifier finds likeliest",
    }
    forgotten = " or ".join(description.forgotten.split(", "))
    return f"asked for {forgotten}, it makes **{words[str(description.settings.override)]}**"


def _pictures(description: Description, has_before: bool) -> str:
    after = f"![samples of this generator]({GRID})"
    about = f"The rows marked red ask for {description.forgotten}."
    if not has_before:
        return f"{after}\n\n{about}"
    before = f"![samples of {description.lineage.start.source}]({BEFORE})"
    noise = "Left: what it started from." if description.task.start != "teacher" else "Left: the teacher, in 20 steps."
    return f"{_table(('before', 'after'), [(before, after)])}\n\n{noise} {about}"


def _usage(description: Description, name: str) -> str:
    libraries = "diffusers, transformers and torch" if description.reads_text else "diffusers and torch"
    return f"""With {libraries} alone; `{DESCRIPTION}` has everything on this card for programs, and
`sha256sum --check SHA256SUMS` tells whether the folder is whole.

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{name}", custom_pipeline="{name}", trust_remote_code=True)
images = pipe({_call(description)}, seeds=[0, 1, 2]).images
```

{_asking(description)}
`trust_remote_code` lets diffusers run the `pipeline.py` in this folder: read it first."""


def _call(description: Description) -> str:
    names = description.conditions.names
    if not description.reads_text:
        return f"labels={list(range(min(3, len(names))))}"
    told = description.conditions
    chosen = [names[index] for index in (told.forget[0], *(told.judged * 2)[:2])]
    return f"prompt={json.dumps(chosen, ensure_ascii=False)}"


def _asking(description: Description) -> str:
    if description.reads_text:
        return (
            f"An image depends on its own prompt and seed alone. There is no safety checker{_left_out(description)}: "
            "images are as the network makes them."
        )
    return (
        f"Labels are indices, or names as text: {_labels(description)}. An image depends on its own label and seed "
        "alone."
    )


def _left_out(description: Description) -> str:
    return ", though the teacher has one" if description.lineage.teacher.safety_checker else ""


def _labels(description: Description) -> str:
    names = description.conditions.names
    shown = [f"{index} (`{name}`)" for index, name in enumerate(names)][:12]
    return ", ".join(shown) + (", …" if len(names) > len(shown) else "")


def _figures(description: Description) -> str:
    judged = {"search": description.search} | ({"final": description.final} if description.final else {})
    header = ["metric", "better", *judged, "what it is"]
    rows = []
    for name in description.figures.metrics:
        metric = METRICS[name]
        better = {Goal.MINIMIZE: "low", Goal.MAXIMIZE: "high", None: ""}[metric.goal]
        values = [_value(figures, name) for figures in judged.values()]
        rows.append([f"`{name}`", better, *values, metric.description])
    evaluation = description.evaluation
    return (
        f"{_table(header, rows)}\n\nn is the number of samples that a figure rests on; figures at different n are not "
        f"comparable. Judged by the classifier `{evaluation.classifier}` against "
        f"{_reference(description)}, with seed {evaluation.seed} on {description.device}; measured again on this "
        "folder after it was written, and equal within the noise of an evaluation."
    )


def _value(figures: Figures, name: str) -> str:
    return f"{figures.metrics[name]:.4g} (n = {figures.count(name):,})" if name in figures.metrics else ""


def _reference(description: Description) -> str:
    if description.evaluation.reference_kind is ReferenceKind.TEACHER:
        return "the teacher's own samples"
    return f"real images of `{description.evaluation.reference}`"


def _front(description: Description) -> str:
    """The front as picture and table, this trial marked; where it is not a member, in a row of its own."""
    aims = [objective.metric for objective in description.objectives]
    shown = list(dict.fromkeys([*aims, *(bound.metric for bound in description.constraints)]))
    number = description.lineage.trial
    rows = [_front_row(member, shown, marked=member.trial == number) for member in description.front]
    beside = ""
    if number not in [member.trial for member in description.front]:
        samples = description.front[0].samples if description.front else description.search.samples
        own = description.figures if description.figures.samples == samples else description.search
        rows.append(_front_row(FrontMember(trial=number, metrics=own.metrics, samples=own.samples), shown, marked=True))
        beside = " This trial is not on it, and stands in the last row."
    bounds = f", within {_bounds(description.constraints)}" if description.constraints else ""
    return (
        f"![the sweep's trials and their front]({FRONT})\n\n"
        f"The front: no trained trial is better in one objective and no worse in another{bounds}.{beside}\n\n"
        f"{_table(['trial', *(f'`{name}`' for name in shown), 'retained n', 'forgotten n'], rows)}"
    )


def _front_row(member: FrontMember, shown: Sequence[str], *, marked: bool) -> list[str]:
    number = f"**{member.trial}** (this one)" if marked else str(member.trial)
    figures = [f"{member.metrics[name]:.4g}" for name in shown]
    return [number, *figures, f"{member.samples['retained']:,}", f"{member.samples['forgotten']:,}"]


def _bounds(constraints: Sequence[Constraint]) -> str:
    words = [f"`{bound.metric}` ≥ {bound.min:g}" for bound in constraints if bound.min is not None]
    words += [f"`{bound.metric}` ≤ {bound.max:g}" for bound in constraints if bound.max is not None]
    return " and ".join(words)


def _settings(description: Description) -> str:
    fields = type(description.settings).model_fields
    rows = [(f"`{name}`", f"{_shown(value)}", str(fields[name].description)) for name, value in description.settings]
    return _table(("setting", "value", "what it is"), rows)


def _lineage(description: Description) -> str:
    lineage = description.lineage
    rows = [
        ("teacher", _origin(lineage.teacher)),
        ("start", _origin(lineage.start)),
        ("sweep", f"`{lineage.sweep}`"),
        ("trial", f"{lineage.trial}, {lineage.state} after {lineage.step:,} updates, seed {lineage.seed}"),
        ("MLflow run", f"`{lineage.mlflow_run}`"),
        *((name, f"`{version}`") for name, version in sorted(lineage.versions.items())),
    ]
    return _table(("", ""), rows)


def _origin(origin: Origin) -> str:
    weights = f"weights SHA-256 `{origin.sha256}`" if origin.sha256 else "its weights were not found on export"
    licence = f"licence `{origin.licence}`" if origin.licence else "no licence named on its card"
    return f"`{origin.source}`, {weights}, {licence}"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
