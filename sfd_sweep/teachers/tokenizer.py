"""A tokenizer like CLIP's that knows a few words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from transformers import CLIPTokenizer

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
LETTERS = re.compile(r"[^\W\d_]+")


def word_tokenizer(texts: Iterable[str], tokens: int) -> CLIPTokenizer:
    """One that reads the words of these texts whole, and any other text byte by byte.

    Its vocabulary is laid out as CLIP's: 256 bytes, the same at the end of a word, merges, begin and end.

    Args:
        texts: whose words are read whole.
        tokens: of a prompt, begin and end included; longer ones do not fit the text encoder.
    """
    letters = list(byte_letters().values())
    merges = dict.fromkeys(merge for word in sorted(set(_words(texts))) for merge in _merges_of(word))
    vocabulary = [*letters, *(letter + END_OF_WORD for letter in letters), *map("".join, merges), BEGIN, END]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(dict.fromkeys(vocabulary))},
        merges=list(merges),
        model_max_length=tokens,
    )


def byte_letters() -> dict[int, str]:
    """The character that stands for each byte: printable ones for themselves, as in GPT-2 and CLIP."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}


def _words(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from LETTERS.findall(text.lower())


def _merges_of(word: str) -> Iterator[tuple[str, str]]:
    """The merges that make one token of a word, from its beginning on."""
    letters = byte_letters()
    parts = [letters[byte] for byte in word.encode()]
    parts[-1] += END_OF_WORD
    begun = parts[0]
    for part in parts[1:]:
        yield begun, part
        begun += part
