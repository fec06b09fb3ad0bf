"""Secrets stay out of every text that leaves us: logs, errors, CSV cells, alerts, pages.

Three layers, the surest first: values we know (exact match, in the encodings they travel in), names of keys, and
formats that secrets are issued in. Nothing here guesses by entropy: that eats commit hashes and trace ids.
What it cannot see: a token of an unknown vendor, bare in a sentence, that was never loaded as a secret.

This module imports nothing of ours.
"""

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

REDACTED = "[redacted]"
SHORTEST = 6  # a shorter known value would blot out ordinary words
DEEPEST = 32  # deeper values are replaced whole: a structure that contains itself never ends
KEYS_REMEMBERED = 4096

_SENSITIVE_KEY = re.compile(
    r"(?:^|_)(?:passw(?:or)?ds?|pwd|passphrase|secrets?|token|authorization|auth|cookies?|credentials?|jwt|bearer"
    r"|(?:api|private|access|secret|signing|encryption|ssh|master|session)_?key|session(?:_?id)?|dsn"
    r"|(?:passw(?:or)?d|secret|token)_(?:hash|value|b64))$"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Format(NamedTuple):
    """A shape that secrets are issued in; the pattern is tried only on texts that hold a trigger (lower case)."""

    triggers: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str] = REDACTED


def _is_prose(value: str, longest: int) -> bool:
    return len(value) <= longest and value.isalpha() and (value.islower() or value.istitle())


def _assignment(match: re.Match[str]) -> str:
    """Keep prose (`token: expected`) and references (`${VAR}`); hide any other value. A password is never prose."""
    quote, value = match["quote"] or "", match["quoted"] or match["bare"]
    prose = ":" in match["sign"] and not quote and match["name"][0] not in "pP" and _is_prose(value, 12)
    if prose or value.startswith(("${", "$(", REDACTED)) or value.lower() in {"true", "false", "none", "null"}:
        return match[0]
    return f"{match['name']}{match['sign']}{quote}{REDACTED}"


def _bearer(match: re.Match[str]) -> str:
    return match[0] if _is_prose(match["value"], 16) else f"{match['scheme']}{REDACTED}"


# Each pattern is linear: a fixed beginning, bounded or possessive repeats, and no two neighbours that match the same.
_TOKENS = (
    (("sk-",), r"(?<![A-Za-z0-9])sk-(?:(?:ant|proj|svcacct|admin|or|lf)-[\w-]{8,}+|[A-Za-z0-9]{20,}+)"),
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9_.-]{16,}+"),
    (("github_pat_",), r"github_pat_\w{16,}+"),
    (("glpat-",), r"glpat-[\w-]{16,}+"),
    (("akia", "asia"), r"(?<![A-Za-z0-9])A(?:KI|SI)A[A-Z0-9]{16}(?![A-Za-z0-9])"),
    (("eyj",), r"(?<![\w.-])eyJ[\w-]{8,}+(?:\.[\w=-]{4,}+){1,4}+"),
    (("xox", "xapp-"), r"(?<![A-Za-z0-9])(?:xox[abceoprs]|xapp)-[\w.-]{8,}+"),
    (("aiza",), r"(?<![A-Za-z0-9])AIza[\w-]{30,}+"),
    (("ya29.",), r"(?<![A-Za-z0-9])ya29\.[\w-]{16,}+"),
    (("gocspx-",), r"GOCSPX-[\w-]{16,}+"),
    (("whsec_",), r"whsec_[A-Za-z0-9+/=_-]{8,}+"),
    (("_live_", "_test_"), r"(?<![A-Za-z0-9])[spr]k_(?:live|test)_[A-Za-z0-9]{8,}+"),
    (("npm_",), r"(?<![A-Za-z0-9])npm_[A-Za-z0-9]{30,}+"),
    (("pypi-",), r"pypi-Ag[\w-]{30,}+"),
    (("hf_",), r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,}+"),
    (("sg.",), r"(?<![A-Za-z0-9])SG\.[\w-]{16,}+\.[\w-]{16,}+"),
    (("key-",), r"(?<![A-Za-z0-9-])key-[0-9a-f]{32}(?![0-9a-f])"),
    (("dop_v1_",), r"dop_v1_[0-9a-f]{32,}+"),
    (("hooks.slack.com/",), r"(?<=hooks\.slack\.com/)(?:services|workflows|triggers)/[\w/-]{8,}+"),
    (("/api/webhooks/",), r"(?<=/api/webhooks/)\d{1,32}+/[\w-]{16,}+"),
    (("begin ",), r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY[A-Z ]{0,8}-----(?s:.*?)(?:-----END [A-Z ]{0,48}-----|\Z)"),
)
_NAMES = (
    r"passw(?:or)?d|passphrase|pwd|secret|token|credentials?"
    r"|(?:api|private|access|secret|signing|encryption|account)[_-]?key"
)
_FORMATS = (
    *(Format(triggers, re.compile(pattern)) for triggers, pattern in _TOKENS),
    Format(("bearer",), re.compile(r"(?i)(?P<scheme>\bbearer\s{1,4})(?P<value>[\w.~+/=-]{8,}+)"), _bearer),
    Format(
        ("auth ",),
        re.compile(r"(?i)(\bauth (?:plain|login|xoauth2|oauthbearer|cram-md5) )[\w+/=-]{4,}+"),
        r"\1[redacted]",
    ),
    Format(
        ("authorization", "cookie"),
        re.compile(
            r"""(?i)(\b(?:authorization|(?:set-)?cookie)\\?["']?\s{0,4}[:=]\s{0,4}\\?["']?)[^"'\\\r\n]{4,4096}+"""
        ),
        r"\1[redacted]",
    ),
    Format(("://",), re.compile(r"""(?<=://)([^\s/@:?"'<>]{0,256}+:)[^\s/?"'<>]{1,1024}@"""), r"\1[redacted]@"),
    Format(("://",), re.compile(r"(?<=://)[\w-]{20,256}+@"), r"[redacted]@"),
    Format(
        ("sig", "x-amz-", "x-goog-", "token", "key", "auth", "secret", "passw", "awsaccesskeyid"),
        re.compile(
            r"(?i)([?&](?:x-(?:amz|goog)-(?:signature|credential|security-token)|signature|sig|awsaccesskeyid|auth|key"
            r"""|(?:[a-z]{1,16}+_)?(?:token|secret)|api_?key|password)=)[^&\s"'<>#]{4,}+"""
        ),
        r"\1[redacted]",
    ),
    Format(
        ("passw", "passphrase", "pwd", "secret", "token", "key", "credential"),
        re.compile(
            rf"(?i)(?P<name>{_NAMES})"
            r"""(?P<sign>\\?["']?\s{0,4}(?:=>|:=|==?|:)\s{0,4})"""
            r"""(?:(?P<quote>\\?["'])(?P<quoted>(?:[^"'\\\r\n]|\\[^"'\r\n]){4,1024}+)|(?P<bare>[^\s"',;&<>]{4,}+))"""
        ),
        _assignment,
    ),
)
_TRIGGERS = tuple(dict.fromkeys(trigger for format_ in _FORMATS for trigger in format_.triggers))


@lru_cache(maxsize=KEYS_REMEMBERED)
def is_sensitive(key: str) -> bool:
    """Whether the value under this key is a secret: `smtp_password`, `apiKey`, but not `input_tokens` or `task_id`."""
    return bool(_SENSITIVE_KEY.search(_CAMEL.sub("_", key).lower().replace("-", "_")))


class Redactor:
    """Replaces secrets by `[redacted]`; known values are matched plain, base64, URL-, HTML- and JSON-encoded."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: tuple[str, ...] = ()
        self._clean_keys: set[str] = set()
        self.learn(*secrets)

    def learn(self, *secrets: str) -> None:
        """Know these values from now on; those under 6 characters are ignored."""
        forms = {form for secret in secrets for form in _forms_of(secret.strip())}
        self._forms = tuple(sorted(forms.union(self._forms), key=len, reverse=True))
        self._clean_keys = set()

    def text(self, text: str) -> str:
        """Return the text without its secrets."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, REDACTED)
        lower = text.lower()
        for triggers, pattern, replacement in _FORMATS:
            if any(trigger in lower for trigger in triggers):
                text = pattern.sub(replacement, text)
        return text

    def value(self, value: Any) -> Any:
        """Return the same structure (dict, list, tuple, str, bytes) without its secrets; other types pass unchanged.

        A value without a secret is returned as it is, not copied.
        """
        texts: list[str] = []
        if not self._gather(value, texts, 0) and not self._suspects("\0".join(texts)):
            return value
        return self._walk(value, 0)

    def _suspects(self, text: str) -> bool:
        """Cheap and never wrong in the safe direction: substring searches only."""
        for form in self._forms:
            if form in text:
                return True
        lower = text.lower()
        for trigger in _TRIGGERS:  # noqa: SIM110  a generator costs twice as much, and this runs for every log line
            if trigger in lower:
                return True
        return False

    def _gather(self, value: Any, texts: list[str], depth: int) -> bool:
        """Collect the strings to look at; true when a key or the shape already asks for the full walk."""
        if isinstance(value, str):
            texts.append(value)
            return False
        if isinstance(value, Mapping):
            return (
                depth > DEEPEST
                or not all(self._is_clean(key) for key in value)
                or any(self._gather(each, texts, depth + 1) for each in value.values())
            )
        if isinstance(value, (list, tuple)):
            return depth > DEEPEST or _is_header(value) or any(self._gather(each, texts, depth + 1) for each in value)
        return isinstance(value, (bytes, bytearray))

    def _is_clean(self, key: Any) -> bool:
        if key in self._clean_keys or not isinstance(key, str):
            return True
        if is_sensitive(key) or self.text(key) != key:
            return False
        if len(self._clean_keys) < KEYS_REMEMBERED:
            self._clean_keys.add(key)
        return True

    def _walk(self, value: Any, depth: int) -> Any:
        if depth > DEEPEST:
            return REDACTED
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (bytes, bytearray)):
            return self._bytes(bytes(value))
        if isinstance(value, Mapping):
            return {self._key(key): self._under(key, each, depth) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return self._sequence(value, depth)
        return value

    def _key(self, key: Any) -> Any:
        return self.text(key) if isinstance(key, str) else key

    def _under(self, key: Any, value: Any, depth: int) -> Any:
        if isinstance(key, str) and is_sensitive(key) and value is not None and not isinstance(value, bool):
            return REDACTED
        return self._walk(value, depth + 1)

    def _sequence(self, value: list[Any] | tuple[Any, ...], depth: int) -> Any:
        if _is_header(value):
            return type(value)((value[0], REDACTED))
        items = [self._walk(each, depth + 1) for each in value]
        if isinstance(value, list):
            return items
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)

    def _bytes(self, value: bytes) -> bytes | str:
        """Bytes that hold a secret come back as text: nobody parses them any more."""
        text = value.decode("utf-8", "backslashreplace")
        clean = self.text(text)
        return value if clean == text else clean


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
