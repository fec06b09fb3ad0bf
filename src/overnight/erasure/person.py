"""Who is to be forgotten, how the address is written here and there, and what was erased."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from html import escape
from urllib.parse import quote

# What may stand before an address though it ends in a letter or a digit: an escaped character, as in JSON's \n and
# \u003c, a link's %3D, a mail's =3D. Of %XX and =XX only separators count: %2B is a plus, hence a part of the address.
_ESCAPED = r"(?<=\\[nrtbf])|(?<=\\u00[0-7][0-9a-f])|(?<=[%=](?:0[9AD]|2[026789CF]|3[ABCDEF]))"
_BEFORE = rf"(?:(?<![A-Za-z0-9._%+-])|{_ESCAPED})"
_AFTER = r"(?![A-Za-z0-9-]|\.[A-Za-z0-9])"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody to be forgotten: an id, and every address by which the ledger knows that person."""

    id: str
    addresses: tuple[str, ...]
    name: str = ""


@dataclass(slots=True)
class Erased:
    """What was erased where: rows by table, files with what was done, and what could not be reached."""

    id: str
    rows: Counter[str] = field(default_factory=Counter)
    files: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def pattern_of(person: Person) -> str:
    """The address in every form in which it is written somewhere, and nobody's of which it is only a part."""
    forms = sorted(spelled(person), key=len, reverse=True)
    return f"{_BEFORE}(?:{'|'.join(map(re.escape, forms)) or '(?!)'}){_AFTER}"


def spelled(person: Person) -> set[str]:
    """As it is, in a link, in JSON, in HTML (of two libraries), in quoted-printable."""
    return {
        form
        for each in person.addresses
        for form in (
            each,
            quote(each),
            json.dumps(each)[1:-1],
            escape(each),
            escape(each).replace("&#x27;", "&#39;"),
            each.replace("=", "=3D"),
        )
    }
