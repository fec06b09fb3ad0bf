"""What an agent gets to read of many documents: the passages that resemble the question most, within so many tokens.

BM25 over passages of some lines, names of files included. It finds words, not meanings; what it leaves out it names.
The only importer of bm25s, and a late one.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from overnight import jail
from overnight.errors import Denied

LINES = 30  # of a passage
LARGEST = 1_000_000  # bytes of a file that are read
MOST_FILES = 5_000
OURS = "var"  # the folder of the project that is no document
DEEPEST = 20  # folders inside each other
MOST_OF_ONE = 3  # passages of one document, as long as others have any
LONGEST_LINE = 2_000  # characters; what is longer is no text that anybody reads

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
_ENDINGS = ("ations", "ation", "ings", "ing", "ies", "ed", "es", "er", "s", "e")


@dataclass(frozen=True, slots=True)
class Passage:
    """Some lines of a document; `line` is the number of the first, from 1."""

    name: str
    line: int
    text: str

    @property
    def tokens(self) -> int:
        """About how many tokens it costs, its place included."""
        return tokens_of(self.text) + tokens_of(self.name) + 8


@dataclass(frozen=True, slots=True)
class Context:
    """What was chosen, in the order of the documents, and what was not.

    `tokens` is what it costs, `tokens_in_all` what all documents would have cost; `left_out` names the documents of
    which nothing was chosen.
    """

    passages: tuple[Passage, ...]
    tokens: int
    tokens_in_all: int
    left_out: tuple[str, ...]

    def data(self) -> dict[str, Any]:
        """For the data of a question: passages with their places, and what is missing."""
        chosen = [{"document": each.name, "line": each.line, "text": each.text} for each in self.passages]
        return {
            "passages": chosen,
            "documents_left_out": len(self.left_out),
            "names_left_out": list(self.left_out[:50]),
        }


def tokens_of(text: str) -> int:
    """About how many tokens a text costs: three bytes each, which is on the safe side for English and for code."""
    return len(text.encode(errors="replace")) // 3 + 1


def select(query: str, documents: Mapping[str, str], max_tokens: int) -> Context:
    """Choose the passages of `documents` (texts by name) that resemble `query` most, of `max_tokens` at most."""
    passages = [passage for name, text in documents.items() for passage in _passages(name, text)]
    in_all = sum(tokens_of(text) + tokens_of(name) + 8 for name, text in documents.items())
    chosen = sorted(_chosen(_ranked(query, passages), max_tokens), key=lambda at: at)
    found = tuple(passages[at] for at in chosen)
    names = {passage.name for passage in found}
    left_out = tuple(name for name in documents if name not in names)
    return Context(found, sum(each.tokens for each in found), in_all, left_out)


def gathered(root: Path, paths: Iterable[str]) -> dict[str, str]:
    """The texts of files, and of all files in folders, below `root`. Raises Permanent for a path that is not there."""
    found: dict[str, str] = {}
    for path in paths:
        for name in _files(root, path):
            if len(found) == MOST_FILES:
                return found
            data, _ = jail.read(root, name, LARGEST)
            if b"\0" not in data:
                found[name] = data.decode(errors="replace")
    return found


def look_for(root: Path, paths: Iterable[str]) -> None:
    """Raise Permanent for what `gathered` would not find, or not be given: files are opened, and not read."""
    for path in paths:
        for name in islice(_files(root, path), MOST_FILES):
            jail.read(root, name, 0)


def _files(root: Path, path: str) -> Iterator[str]:
    return _inside(root, path.removesuffix("/").removeprefix("./"), 0)


def _inside(root: Path, path: str, depth: int) -> Iterator[str]:
    if path.partition("/")[0] == OURS:
        if depth:
            return
        raise Denied(f"{path}: {OURS}/ holds secrets and the ledger, and is given to nobody", code="path")
    try:
        inside = jail.names(root, path, MOST_FILES)
    except Denied:  # no folder, hence a file, or nothing that may be read
        yield path
        return
    for name in inside if depth < DEEPEST else ():
        whole = name if path == "." else f"{path}/{name}"
        if name.endswith("/"):
            yield from _inside(root, whole.removesuffix("/"), depth + 1)
        else:
            yield whole


def _ranked(query: str, passages: Sequence[Passage]) -> list[tuple[int, Passage]]:
    """Passages with their places, the likeliest first; those that share no word with the query are left out."""
    wanted = _words(query)
    if not passages or not wanted:
        return []
    import bm25s  # noqa: PLC0415  late: numpy is behind it

    corpus = [_words(f"{each.name} {each.name} {each.text}") or [""] for each in passages]
    known = {word for words in corpus for word in words}
    asked = [word for word in wanted if word in known]
    if not asked:
        return []
    index = bm25s.BM25()
    index.index(corpus, show_progress=False)
    scores = index.get_scores(asked)
    best: dict[str, float] = {}
    for passage, score in zip(passages, scores, strict=True):
        best[passage.name] = max(best.get(passage.name, 0.0), float(score))
    # A passage of a document that resembles the question elsewhere, too, is likelier than one that stands alone.
    rated = [
        (float(score) + best[each.name], at) for at, (each, score) in enumerate(zip(passages, scores, strict=True))
    ]
    order = sorted((-rate, at) for rate, at in rated if scores[at] > 0)
    return [(at, passages[at]) for _, at in order]


def _chosen(ranked: Sequence[tuple[int, Passage]], max_tokens: int) -> Iterator[int]:
    """Places of passages that fit, few of each document first, then what room is left for."""
    left, taken, used = max_tokens, set(), Counter[str]()
    for most in (1, MOST_OF_ONE, len(ranked)):
        for at, passage in ranked:
            if at not in taken and used[passage.name] < most and passage.tokens <= left:
                taken.add(at)
                used[passage.name] += 1
                left -= passage.tokens
                yield at


def _passages(name: str, text: str) -> Iterator[Passage]:
    lines = text.splitlines()
    for first in range(0, len(lines), LINES):
        part = "\n".join(line[:LONGEST_LINE] for line in lines[first : first + LINES])
        if part.strip():
            yield Passage(name, first + 1, part)


def _words(text: str) -> list[str]:
    """Words in lower case, also those inside of names in code, without their commonest endings."""
    return [_stem(word.lower()) for word in _WORD.findall(text)]


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word
