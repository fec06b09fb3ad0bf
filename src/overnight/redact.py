"""Secrets stay out of every text that leaves us: logs, errors, CSV cells, alerts, pages.

Three layers, the surest first: values we know (exact match, in the encodings they travel in), names of keys
(`names`), and formats that secrets are issued in (`formats`). Nothing here guesses by entropy: that eats commit hashes
and trace ids. What it cannot see: a token of an unknown vendor, short or without a prefix, bare in a sentence, that was
never loaded as a secret.
"""

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

from overnight.formats import Found, search
from overnight.names import REDACTED, is_doubtful, is_sensitive, looks_like_key

__all__ = ["REDACTED", "Redactor", "is_sensitive", "without_addresses"]

SHORTEST = 6  # a shorter known value would blot out ordinary words, and no format is shorter
DEEPEST = 32  # deeper values are replaced whole: a structure that contains itself never ends
REMEMBERED = 4096  # clean keys, and clean values
HARMLESS = frozenset({int, float, bool, type(None)})
MEMORABLE = 80  # characters; models, roles, runs and messages come back in every event, error texts do not

_ADDRESS = re.compile(r"""(?:"[^"]{1,64}"|[^\s<>"'(),:;@]{1,128})(?:@|%40)[^\s<>"'(),:;@]{1,255}""")


def without_addresses(text: str) -> str:
    """Return the text with `[address]` for whatever looks like a mail address: for files that leave this machine."""
    return _ADDRESS.sub("[address]", text)


class Suspects(NamedTuple):
    """Known values and triggers that occur in a text: what its parts need to be searched for."""

    forms: tuple[str, ...]
    found: Found

    def any(self) -> bool:
        """Whether there is anything to search for."""
        return bool(self.forms) or any(self.found)


class Redactor:
    """Replaces secrets by `[redacted]`; known values are matched plain, base64, URL-, HTML- and JSON-encoded."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: tuple[str, ...] = ()
        self._clean_keys: set[str] = set()
        self._clean_texts: set[str] = set()
        self.learn(*secrets)

    def learn(self, *secrets: str) -> None:
        """Know these values from now on; those under 6 characters are ignored."""
        forms = {form for secret in secrets for form in _forms_of(secret.strip())}
        self._forms = tuple(sorted(forms.union(self._forms), key=len, reverse=True))
        self._clean_keys, self._clean_texts = set(), set()

    def text(self, text: str) -> str:
        """Return the text without its secrets."""
        return self._cleaned(text, self._search(text))

    def value(self, value: Any) -> Any:
        """Return the same structure (dict, list, tuple, str, bytes) without its secrets; other types pass unchanged.

        A value without a secret is returned as it is, not copied.
        """
        texts: list[str] = []
        asked = self._gather(value, texts, 0)
        suspects = self._search("\0".join(texts))
        if asked or suspects.any():
            return self._walk(value, suspects, 0)
        self._remember(texts)
        return value

    def known(self, value: Any, depth: int = 0) -> Any:
        """The same structure without the values it was told of, and nothing else changed: it goes on being worked with.

        What lies deeper than anything honest does is replaced as a whole.
        """
        if isinstance(value, str):
            for form in self._forms:
                value = value.replace(form, REDACTED)
            return value
        if isinstance(value, (dict, list)) and depth > DEEPEST:
            return REDACTED
        if isinstance(value, dict):
            return {self.known(key): self.known(each, depth + 1) for key, each in value.items()}
        return [self.known(each, depth + 1) for each in value] if isinstance(value, list) else value

    def _search(self, text: str) -> Suspects:
        return Suspects(tuple([form for form in self._forms if form in text]), search(text))

    def _cleaned(self, text: str, suspects: Suspects) -> str:
        if len(text) < SHORTEST or text in self._clean_texts:
            return text
        clean = text
        for form in suspects.forms:
            if form in clean:
                clean = clean.replace(form, REDACTED)
        clean = suspects.found.clean(clean)
        if clean == text:
            self._remember([text])
        return clean

    def _remember(self, texts: list[str]) -> None:
        if len(self._clean_texts) > REMEMBERED:
            self._clean_texts.clear()
        self._clean_texts.update([text for text in texts if len(text) <= MEMORABLE])

    def _gather(self, value: Any, texts: list[str], depth: int) -> bool:
        """Collect the strings to look at; true when a key or the shape asks for the full walk whatever they hold."""
        kind = type(value)
        if kind in HARMLESS:
            return False
        if isinstance(value, str):
            if len(value) >= SHORTEST and value not in self._clean_texts:
                texts.append(value)
            return False
        if kind is dict or isinstance(value, Mapping):
            asked = depth > DEEPEST or self._gather_all(value.values(), texts, depth)
            return asked or not self._are_clean(value)
        if isinstance(value, (list, tuple)):
            asked = depth > DEEPEST or self._gather_all(value, texts, depth)
            return asked or _is_header(value)
        return isinstance(value, (bytes, bytearray))

    def _gather_all(self, values: Iterable[Any], texts: list[str], depth: int) -> bool:
        asked = False
        for each in values:
            asked = self._gather(each, texts, depth + 1) or asked
        return asked

    def _are_clean(self, keys: Mapping[Any, Any]) -> bool:
        return self._clean_keys.issuperset(keys) or all(self._is_clean(key) for key in keys)

    def _is_clean(self, key: Any) -> bool:
        if key in self._clean_keys or not isinstance(key, str):
            return True
        if is_sensitive(key) or is_doubtful(key) or self.text(key) != key:
            return False
        if len(self._clean_keys) < REMEMBERED:
            self._clean_keys.add(key)
        return True

    def _walk(self, value: Any, suspects: Suspects, depth: int) -> Any:
        if type(value) in HARMLESS:
            return value
        if isinstance(value, str):
            return self._cleaned(value, suspects)
        return REDACTED if depth > DEEPEST else self._inside(value, suspects, depth)

    def _inside(self, value: Any, suspects: Suspects, depth: int) -> Any:
        if isinstance(value, (bytes, bytearray)):
            return self._bytes(bytes(value))
        if isinstance(value, Mapping):
            return {self._key(key): self._under(key, each, suspects, depth) for key, each in value.items()}
        return self._sequence(value, suspects, depth) if isinstance(value, (list, tuple)) else value

    def _key(self, key: Any) -> Any:
        return self.text(key) if isinstance(key, str) and key not in self._clean_keys else key

    def _under(self, key: Any, value: Any, suspects: Suspects, depth: int) -> Any:
        if key not in self._clean_keys and isinstance(key, str) and _is_secret(key, value):
            return REDACTED
        return self._walk(value, suspects, depth + 1)

    def _sequence(self, value: list[Any] | tuple[Any, ...], suspects: Suspects, depth: int) -> Any:
        if _is_header(value):
            return type(value)((value[0], REDACTED))
        items = [self._walk(each, suspects, depth + 1) for each in value]
        if isinstance(value, list):
            return items
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)

    def _bytes(self, value: bytes) -> bytes | str:
        """Bytes that hold a secret come back as text: nobody parses them any more."""
        text = value.decode("utf-8", "backslashreplace")
        clean = self.text(text)
        return value if clean == text else clean


def _is_secret(key: str, value: Any) -> bool:
    if is_sensitive(key):
        return value is not None and not isinstance(value, bool)
    return is_doubtful(key) and looks_like_key(value)


def _is_header(pair: list[Any] | tuple[Any, ...]) -> bool:
    """Recognise `("Authorization", "…")`: headers are often pairs, not mappings."""
    return (
        len(pair) == 2
        and not hasattr(pair, "_fields")
        and isinstance(pair[0], str)
        and isinstance(pair[1], (str, bytes))
        and is_sensitive(pair[0])
    )


def _forms_of(secret: str) -> Iterator[str]:
    """Yield the forms a value travels in; of a value of several lines (a key file) each long line as well."""
    if len(secret) < SHORTEST:
        return
    raw = secret.encode("utf-8", "surrogatepass")
    spellings = {
        secret,
        quote(raw, safe=""),
        quote(raw),
        quote_plus(raw),
        html.escape(secret),
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        *(line.strip() for line in secret.splitlines() if len(line.strip()) >= 16),
        *_base64_forms(raw),
    }
    yield from (form for form in spellings if len(form) >= SHORTEST and form not in REDACTED)


def _base64_forms(raw: bytes) -> Iterator[str]:
    """Base64 of the value inside longer data, at each of its three alignments, without the characters it shares.

    `AUTH PLAIN` and `Authorization: Basic` encode user and password together, so the plain encoding never occurs.
    """
    for encode in (b64encode, urlsafe_b64encode):
        for before, shared in ((0, 0), (1, 2), (2, 3)):
            padded = b"\0" * before + raw
            text = encode(padded).decode().rstrip("=")
            yield text[shared:] if len(padded) % 3 == 0 else text[shared:-1]
