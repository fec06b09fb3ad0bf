"""Checks on what a model has answered: it may point only to where its material points.

An instruction hidden in the material can make a model carry away what it was told, in the address of a link or of an
image that a mail program fetches by itself. So an address nobody gave it is refused, and images always.

This module imports nothing of ours but the errors.
"""

import html
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from overnight.errors import Invalid

_END = r"[^\s<>\"'`]*"
_WEB = re.compile(  # a browser takes `http:host`, `\\host` and `/\host` for addresses, too
    r"(?i)\b(?:https?|ftps?|wss?)(?:\s?:\s?[/\\]{1,4}|:(?=[^\s/\\]))[^\s<>\"'`{}|]+"
    r"|(?<![\w@.:/\\-])[/\\]{2,}(?=[^\s/\\])" + _END
)
_USER = re.compile(r"((?:(?<=:)|(?<![\w@./\\-])[/\\])[/\\]+)?([^\s/\\?#<>@]++)(@[^\s/\\?#<>]*+)?")
_SCHEME = re.compile(r"(?i)\b(?:https?|ftps?|wss?):")
_SIGN = re.compile(r"[\"'`{}|]")  # ends an address in the patterns above
_START = re.compile(r"(?i)(?:(https?|ftps?|wss?)\s?:)?\s?(/*)")
_HOSTLIKE = re.compile(r"[.\u3002%]|(?:^|@)(?:\[|0x|\d{6})")  # no shorter number leads anywhere: 80 is 0.0.0.80
_BARE = re.compile(
    r"(?i)(?<![\w@./:-])(?:www\.[\w-]|[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}\.[a-z]{2,24}(?::\d{1,5})?[/?#][\w%?#])" + _END
)
_MAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_IMAGE = re.compile(r"!\[[^\]]{0,1000}\]\s?[(\[]|<img\b", re.IGNORECASE)
_SCRIPT = re.compile(
    r"\b(?:javascript|vbscript)\s?:(?=\S)|\bfile\s?:\s?/|\bdata\s?:(?=[\w.+-]+/[\w.+-]+[;,]|;|,)"
    r"|(?:\]\s?\(|\bhref\s?=\s?[\"']?)\s*(?:javascript|vbscript|data)\s*:",
    re.IGNORECASE,
)
_CANDIDATE = re.compile(r"[:/\\@?#<\[]|www\.", re.IGNORECASE)  # one of these is in whatever the patterns above match
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u00ad\u200b-\u200f\u2060-\u2064\ufeff\U000e0000-\U000e007f]")
_TAIL = ".,;:!?…*_~\u201c\u201d\u2019»"
_PAIRS = {")": "(", "]": "[", "}": "{"}
_PORTS = {"http": 80, "https": 443, "ftp": 21, "ftps": 990, "ws": 80, "wss": 443}


class UnexpectedLinks(Invalid):
    """An answer points to where nothing in its material points."""

    def __init__(self, found: list[str]) -> None:
        listed = "; ".join(f"{each:.120}" for each in found[:5])
        super().__init__(f"the answer holds links that its material does not have: {listed}", code="links")
        self.found = tuple(found)


def check_links(value: Any, material: Any) -> list[str]:
    """Say what is wrong with the links of an answer; empty when all is well.

    `value` is the validated answer, `material` what the model was given: any nesting of mappings, lists, dataclasses
    and pydantic models. Every web or e-mail address in a text of `value` must occur in a text of `material`: compared
    is all that can carry something away, whatever the spelling; an address may come without its fragment. Markdown
    images and script addresses are always refused.
    """
    wrong: list[str] = []
    allowed: set[str] | None = None
    for text in _texts(value):
        readable = _readable(text)
        if not _CANDIDATE.search(readable):
            continue
        wrong += [f"an image: {readable[m.start() : m.start() + 80]}" for m in _IMAGE.finditer(readable)]
        wrong += [f"a script: {readable[m.start() : m.start() + 80]}" for m in _SCRIPT.finditer(readable)]
        found = _addresses(text)
        if found and allowed is None:  # the material is large, and most answers hold no address
            known = {address for each in _texts(material) for address in _addresses(each).values()}
            allowed = known | {address.partition("#")[0] for address in known}
        wrong += [shown for shown, address in found.items() if address not in (allowed or ())]
    return list(dict.fromkeys(wrong))


def refuse_links(value: Any, material: Any) -> None:
    """Raise UnexpectedLinks when `check_links` finds anything."""
    wrong = check_links(value, material)
    if wrong:
        raise UnexpectedLinks(wrong)


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value, the names of its fields left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts(key)
            yield from _texts(each)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            yield from _texts(each)
    elif hasattr(value, "__dict__") or hasattr(value, "__dataclass_fields__"):
        names = getattr(value, "__dataclass_fields__", None) or vars(value)
        for name in names:
            yield from _texts(getattr(value, name, None))


def _readable(text: str) -> str:
    """The text as whoever shows it would read it: entities decoded, nothing invisible, one form of each letter."""
    return _INVISIBLE.sub("", unicodedata.normalize("NFKC", html.unescape(text)))


def _addresses(text: str) -> dict[str, str]:
    """The addresses in a text as they stand there, with the form in which they are compared."""
    readable = _readable(text)
    found: dict[str, str] = {}
    for shown in _guises(readable):
        if address := _normal(shown):
            found[shown] = address
    rest = list(readable)
    for pattern in (_WEB, _BARE):
        for match in pattern.finditer("".join(rest)):
            shown = _trimmed(match[0])
            address = _normal(shown)
            if address:
                found[shown] = address
                rest[match.start() : match.start() + len(shown)] = " " * len(shown)
    for match in _MAIL.finditer("".join(rest)):
        found[match[0]] = _mail(match[0])
    return found


def _guises(text: str) -> Iterator[str]:
    """What browsers read on in, up to the @ before a host, though the name of the user holds a quote or the like.

    Each sign of the text is looked at once, whatever others have written.
    """
    for match in _USER.finditer(text):
        slashes, user, host = match.groups()
        if host and _SIGN.search(user):
            if slashes:
                yield _trimmed(match[0])
            elif scheme := _SCHEME.search(user):
                yield _trimmed(user[scheme.start() :] + host)


def _trimmed(address: str) -> str:
    """Without the end of the sentence, and without a bracket that was opened before the address."""
    while address:
        last = address[-1]
        unopened = last in _PAIRS and address.count(last) > address.count(_PAIRS[last])
        if last not in _TAIL and not unopened:
            break
        address = address[:-1]
    return address


def _normal(address: str) -> str | None:
    """User, host, path, query and fragment, each of which the host's owner or script can read; None for no address."""
    _, scheme, slashes, rest = _START.split(address.replace("\\", "/"), maxsplit=1)
    if not (scheme and slashes) and not _HOSTLIKE.search(re.split("[/?#]", rest, maxsplit=1)[0]):
        return None
    try:
        parts = urlsplit(f"{scheme or 'https'}://{rest}")
        port = parts.port
    except ValueError:
        return f"unreadable:{address}"
    host = _host(parts)
    if not host:
        return None
    where = f"{host}:{port}" if port and port != _PORTS.get(parts.scheme.lower()) else host
    user, at, _ = parts.netloc.rpartition("@")
    path = _unquoted(parts.path).rstrip("/")
    query, fragment = (
        f"{sign}{_unquoted(each)}" if each else "" for sign, each in (("?", parts.query), ("#", parts.fragment))
    )
    return f"{_unquoted(user)}{at}{where}{path}{query}{fragment}"


def _host(parts: SplitResult) -> str:
    """The host in the letters that go to the name server: a look-alike letter makes it another host."""
    host = unquote(parts.hostname or "").rstrip(".").lower()
    try:
        return host.encode("idna").decode().removeprefix("www.")
    except UnicodeError:
        return host.removeprefix("www.")


def _unquoted(text: str) -> str:
    return unquote(text).replace("+", " ")


def _mail(address: str) -> str:
    local, _, host = address.rpartition("@")
    return f"mailto:{local.lower()}@{host.lower().rstrip('.')}"
