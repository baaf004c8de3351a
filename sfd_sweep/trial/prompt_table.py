"""Prompts of a concept task: read, fill in, and check that the sets are disjoint. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sfd_sweep.config import Override, Prompts, Task
from sfd_sweep.datasets.prompts import names_concept, read_prompts
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.conditions import Conditions

CONCEPT = "{concept}"


@dataclass(frozen=True)
class _Prompt:
    pattern: str  # with `{concept}` in place of the subject
    subject: str  # "" if unknown

    @property
    def text(self) -> str:
        return self.about(self.subject)

    def about(self, subject: str) -> str:
        """Return the text about another subject, without double spaces."""
        return " ".join(self.pattern.replace(CONCEPT, subject).split())


@dataclass(frozen=True)
class PromptTable:
    """All prompts of a sweep as conditions, and overrides by index (see `ResolvedSweep`)."""

    conditions: Conditions
    overrides: dict[Override, tuple[int, ...] | None]


def prompt_table(task: Task, overrides: Sequence[Override], negatives: Iterable[str]) -> PromptTable:
    """Return the table of a task.

    Args:
        task: a concept task.
        overrides: all values of `override` in the sweep.
        negatives: all negative prompts of the sweep.

    Raises:
        UserError: a file is unreadable, a prompt does not name its subject, sets overlap, or an override is invalid.
    """
    assert task.prompts is not None
    concepts, prompts = tuple(str(name) for name in task.forget), task.prompts
    forget = _forgotten(prompts.forget, "forget", concepts)
    held_out = _forgotten(prompts.held_out, "held_out", concepts)
    retain = _retained(prompts.retain, "retain", prompts)
    evaluated = _retained(prompts.held_out_retain, "held_out_retain", prompts) or retain
    _check_apart(forget, retain, held_out, evaluated)
    replacing = {override: _replacing(override, forget, concepts) for override in overrides}
    overriding = [prompt for found in replacing.values() for prompt in found or ()]
    subjects: dict[str, str] = {}
    for prompt in (*retain, *forget, *overriding, *held_out, *evaluated):
        subjects.setdefault(prompt.text, prompt.subject)
    for text in negatives:
        subjects.setdefault(" ".join(text.split()), "")
    index = {text: place for place, text in enumerate(subjects)}

    def places(found: Sequence[_Prompt]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(index[prompt.text] for prompt in found))

    return PromptTable(
        Conditions(
            names=tuple(subjects),
            subjects=tuple(subjects.values()),
            retain=places(retain),
            forget=places(forget),
            evaluated=places(evaluated),
            held_out=places(held_out),
        ),
        {
            override: None if found is None else tuple(index[prompt.text] for prompt in found)
            for override, found in replacing.items()
        },
    )


def _texts(source: str | tuple[str, ...] | None, key: str) -> tuple[str, ...]:
    if source is None:
        return ()
    if not isinstance(source, str):
        return source
    try:
        return read_prompts(source)
    except UserError as error:
        raise UserError(f"task.prompts.{key}: {error}") from error


def _forgotten(source: str | tuple[str, ...] | None, key: str, concepts: tuple[str, ...]) -> tuple[_Prompt, ...]:
    """Return the prompts about each concept, grouped by concept."""
    texts = _texts(source, key)
    found = [prompt for concept in concepts for text in texts for prompt in _about(text, concept)]
    for concept in concepts:
        if texts and not any(prompt.subject == concept for prompt in found):
            raise UserError(f"task.prompts.{key}: no prompt is about {concept!r}; write {CONCEPT} or its name into one")
    for text in texts:
        if not any(list(_about(text, concept)) for concept in concepts):
            raise UserError(
                f"task.prompts.{key}: {text!r} names no forgotten concept; write {CONCEPT} or {concepts[0]!r} into it, "
                "or move it to the retained prompts"
            )
    return _distinct(found)


def _about(text: str, concept: str) -> Iterator[_Prompt]:
    """Yield the prompt if it has a placeholder for the concept or names it."""
    pattern = text if CONCEPT in text else names_concept(concept).sub(CONCEPT, text)
    if CONCEPT in pattern:
        yield _Prompt(pattern, concept)


def _retained(source: str | tuple[str, ...] | None, key: str, prompts: Prompts) -> tuple[_Prompt, ...]:
    found: list[_Prompt] = []
    patterns = {other: names_concept(other) for other in prompts.others}
    for text in _texts(source, key):
        if CONCEPT not in text:
            named = [other for other, pattern in patterns.items() if pattern.search(text)]
            found.append(_Prompt(text, named[0] if len(named) == 1 else ""))
        elif not prompts.others:
            raise UserError(f"task.prompts.{key}: {text!r} has {CONCEPT}, and task.prompts.others is empty; fill it")
        else:
            found += [_Prompt(text, other) for other in prompts.others]
    return _distinct(found)


def _distinct(prompts: Iterable[_Prompt]) -> tuple[_Prompt, ...]:
    return tuple({prompt.text: prompt for prompt in prompts}.values())


def _check_apart(
    forget: Sequence[_Prompt], retain: Sequence[_Prompt], held_out: Sequence[_Prompt], evaluated: Sequence[_Prompt]
) -> None:
    """Check that forgotten and retained prompts are disjoint, and so are training and held-out prompts."""
    sets = {"forget": forget, "retain": retain, "held_out": held_out, "held_out_retain": evaluated}
    pairs = [("forget", "retain"), ("held_out", "retain"), ("held_out", "forget")]
    if evaluated is not retain:
        pairs += [("held_out_retain", "retain"), ("held_out_retain", "forget")]
    for key, other in pairs:
        texts = {prompt.text.casefold() for prompt in sets[other]}
        for prompt in sets[key]:
            if prompt.text.casefold() in texts:
                raise UserError(f"task.prompts: {prompt.text!r} is in both `{key}` and `{other}`; remove it from one")
    named = [names_concept(concept) for concept in {prompt.subject for prompt in forget}]
    for prompt in (*retain, *evaluated):
        if any(pattern.search(prompt.text) for pattern in named):
            raise UserError(f"task.prompts.retain: {prompt.text!r} names a forgotten concept; remove it")


def _replacing(override: Override, forget: Sequence[_Prompt], concepts: tuple[str, ...]) -> list[_Prompt] | None:
    """Return the override of each forgotten prompt; None where any retained prompt may be one."""
    if override == "random":
        return None
    if override == "classifier":
        raise UserError("parameters.override: `classifier` is for classes; name another concept, or use random")
    words = override if isinstance(override, tuple) else (override,) * len(concepts)
    if len(words) != len(concepts):
        raise UserError(f"parameters.override: {len(words)} overrides for {len(concepts)} forgotten concepts")
    of = dict(zip(concepts, map(str, words), strict=True))
    for word in of.values():
        if any(names_concept(concept).search(word) for concept in concepts):
            raise UserError(f"parameters.override: {word!r} names a forgotten concept; choose other words")
    return [_Prompt(prompt.about(of[prompt.subject]), of[prompt.subject]) for prompt in forget]
