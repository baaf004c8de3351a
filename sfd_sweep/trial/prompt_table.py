"""The prompts of a concept's task: read, filled in, and held against each other. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sfd_sweep.config import Override, Prompts, Task
from sfd_sweep.datasets.prompts import read_prompts
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.conditions import Conditions

CONCEPT = "{concept}"


@dataclass(frozen=True)
class _Prompt:
    """A prompt that is about something.

    Attributes:
        pattern: its text with `{concept}` for what it is about, if it says so.
        subject: what it is about; "" for anything.
    """

    pattern: str
    subject: str

    @property
    def text(self) -> str:
        """What a generator is told."""
        return self.about(self.subject)

    def about(self, subject: str) -> str:
        """The same about something else; nothing at all leaves a gap that is closed."""
        return " ".join(self.pattern.replace(CONCEPT, subject).split())


@dataclass(frozen=True)
class PromptTable:
    """All prompts that a sweep needs, embedded once and then known by their index.

    Attributes:
        conditions: which are kept, forgotten and judged.
        replacements: the index of what replaces each forgotten prompt, by the override; None where any retained may.
    """

    conditions: Conditions
    replacements: dict[Override, tuple[int, ...] | None]


def prompt_table(task: Task, overrides: Sequence[Override], negatives: Iterable[str]) -> PromptTable:
    """The table of a task.

    Args:
        task: of a concept.
        overrides: everything that `override` may be in the sweep.
        negatives: every negative prompt of the sweep.

    Raises:
        UserError: a file is missing or broken, a prompt does not name what it should be about, prompts that must differ
            are the same, or an override is none.
    """
    assert task.prompts is not None
    concepts, prompts = tuple(str(name) for name in task.forget), task.prompts
    forget = _forgotten(prompts.forget, "forget", concepts)
    held_out = _forgotten(prompts.held_out, "held_out", concepts)
    retain = _retained(prompts.retain, "retain", prompts)
    judged = _retained(prompts.held_out_retain, "held_out_retain", prompts) or retain
    _check_apart(forget, retain, held_out, judged)
    replacing = {override: _replacing(override, forget, concepts) for override in overrides}
    subjects: dict[str, str] = {}
    for prompt in (*retain, *forget, *(found for one in replacing.values() for found in one or ()), *held_out, *judged):
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
            judged=places(judged),
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
    """Prompts about each of the concepts, those of one together."""
    texts = _texts(source, key)
    found = [prompt for concept in concepts for text in texts for prompt in _about(text, concept)]
    for concept in concepts:
        if texts and not any(prompt.subject == concept for prompt in found):
            raise UserError(
                f"task.prompts.{key}: none of the prompts is about {concept!r}; write {CONCEPT} or its name into them"
            )
    for text in texts:
        if CONCEPT not in text and not any(list(_about(text, concept)) for concept in concepts):
            raise UserError(
                f"task.prompts.{key}: {text!r} names nothing that is forgotten, so nothing in it could be replaced; "
                f"write {CONCEPT} or {concepts[0]!r} into it, or move it to the retained ones"
            )
    return _distinct(found)


def _about(text: str, concept: str) -> Iterator[_Prompt]:
    """The prompt, if it has room for the concept or names it."""
    pattern = text if CONCEPT in text else _named(concept).sub(CONCEPT, text)
    if CONCEPT in pattern:
        yield _Prompt(pattern, concept)


def _named(concept: str) -> re.Pattern[str]:
    """A concept's name as words of a text."""
    return re.compile(rf"(?<!\w){re.escape(concept)}(?!\w)", re.IGNORECASE)


def _retained(source: str | tuple[str, ...] | None, key: str, prompts: Prompts) -> tuple[_Prompt, ...]:
    found: list[_Prompt] = []
    for text in _texts(source, key):
        if CONCEPT not in text:
            named = [other for other in prompts.others if _named(other).search(text)]
            found.append(_Prompt(text, named[0] if len(named) == 1 else ""))
        elif not prompts.others:
            raise UserError(f"task.prompts.{key}: {text!r} has {CONCEPT}, and task.prompts.others is empty; name some")
        else:
            found += [_Prompt(text, other) for other in prompts.others]
    return _distinct(found)


def _distinct(prompts: Iterable[_Prompt]) -> tuple[_Prompt, ...]:
    return tuple({prompt.text: prompt for prompt in prompts}.values())


def _check_apart(
    forget: Sequence[_Prompt], retain: Sequence[_Prompt], held_out: Sequence[_Prompt], judged: Sequence[_Prompt]
) -> None:
    """Whether what must differ does: what is forgotten from what is kept, what is seen from what is held out."""
    pairs = [
        (("forget", forget), ("retain", retain)),
        (("held_out", held_out), ("retain", retain)),
        (("held_out", held_out), ("forget", forget)),
    ]
    if judged is not retain:
        pairs += [(("held_out_retain", judged), ("retain", retain)), (("held_out_retain", judged), ("forget", forget))]
    for (key, prompts), (other, others) in pairs:
        texts = {prompt.text.casefold() for prompt in others}
        for prompt in prompts:
            if prompt.text.casefold() in texts:
                raise UserError(
                    f"task.prompts: {prompt.text!r} is among those of `{key}` and of `{other}`; remove it from one"
                )
    for prompt in (*retain, *judged):
        if any(_named(found.subject).search(prompt.text) for found in forget):
            raise UserError(f"task.prompts.retain: {prompt.text!r} names what is forgotten; remove it")


def _replacing(override: Override, forget: Sequence[_Prompt], concepts: tuple[str, ...]) -> list[_Prompt] | None:
    """What replaces each of the forgotten prompts; None where any retained one may."""
    if override == "random":
        return None
    if override == "classifier":
        raise UserError(
            "parameters.override: `classifier` is for classes; write words that replace the concept, or random"
        )
    words = override if isinstance(override, tuple) else (override,) * len(concepts)
    if len(words) != len(concepts):
        raise UserError(f"parameters.override: {len(words)} overrides for {len(concepts)} forgotten concepts")
    of = dict(zip(concepts, map(str, words), strict=True))
    for word in of.values():
        if any(_named(concept).search(word) for concept in concepts):
            raise UserError(f"parameters.override: {word!r} names what is forgotten; choose other words")
    return [_Prompt(prompt.about(of[prompt.subject]), of[prompt.subject]) for prompt in forget]
