"""Names that secrets stand under, in keys of a structure and in running text, and which values look like one.

This module imports nothing of ours.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

REDACTED = "[redacted]"
KEYS_REMEMBERED = 4096
LONG = 256  # a longer value that is no secret is skipped, not searched for further names: or time would be quadratic

_QUALIFIER = (
    r"(?:api|app(?:lication)?|private|access|secret|signing|encryption|account|storage|licen[cs]e|admin|master|session"
    r"|auth|subscription|webhook|deploy|ssh|client|service|write|ingest|global|hmac|role|shared|store)"
)
_KEY = rf"{_QUALIFIER}[ _-]?key(?:[_-]?(?:data|b64))?"
_SENSITIVE_KEY = re.compile(
    r"(?:^|[_.])(?:[a-z]{0,8}passw(?:or)?[dt]s?|pass|pwd|[a-z]{0,8}pw|psk|passphrase|secrets?|token|authorization|auth"
    rf"|cookies?|credentials?|jwt|bearer|{_KEY}(?:_base)?|session(?:_?id)?|sid|dsn"
    r"|mot_de_passe|kennwort|contrase[nñ]a|senha|wachtwoord|(?:passw(?:or)?d|secret|token)_(?:hash|value|b64|confirmation|confirm|repeat))$"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# Names of keys that are no secrets, whatever they look like.
_PUBLIC_KEY = re.compile(
    r"(?:public|idempotency|cache|primary|foreign|sort|partition|range|item|object|dedup|row|group|unique|natural|lock"
    r"|map|dict|hash|routing|s3|host|order|lookup|context|metric|issue|project|job|run|task|event|config|feature)"
    r"[ _-]?$"
)


@lru_cache(maxsize=KEYS_REMEMBERED)
def is_sensitive(key: str) -> bool:
    """Whether the value under this key is a secret: `smtp_password`, `apiKey`, but not `input_tokens` or `task_id`."""
    return bool(_SENSITIVE_KEY.search(_snake(key)))


@lru_cache(maxsize=KEYS_REMEMBERED)
def is_doubtful(key: str) -> bool:
    """Whether the value decides: `AZURE_OPENAI_KEY` holds a secret, `winning_key` does not."""
    name = _snake(key)
    return name.endswith("_key") and not _PUBLIC_KEY.search(name[:-3])


def looks_like_key(value: object) -> bool:
    """Whether a value is an issued key, and neither a word nor made of words."""
    return isinstance(value, str) and len(value) >= 12 and looks_issued(value) and not _SLUG.search(value)


def _snake(key: str) -> str:
    return _CAMEL.sub("_", key).lower().replace("-", "_")


# In running text. Searched in lower case, each way beginning with a fixed letter: ten times faster than ignoring case.
_NAME = re.compile(
    r"pass(?:w(?:or)?[dt]|phrase)|passe(?<=mot[ _]de[ _]passe)|pass(?<=[_-]pass)|pass(?<![a-z0-9]pass)|pwd"
    r"|pw(?<=[a-z_-]pw)|psk|secret|token|credentials?|sess(?:ion)?[_-]?id|session(?<![a-z0-9]session)|sid(?<![a-z0-9]sid)"
    r"|auth(?<![a-z]auth)(?=\\?[\"']|\s?=)|signature(?:-256)?|key(?:[_-]?(?:data|b64))?"
    r"|kennwort|contrase(?:n|ñ)a|senha|wachtwoord"
)
_STRONG_KEY = re.compile(rf"{_QUALIFIER}[ _-]?$")
_SUFFIX = r"(?:[_-](?:confirmation|confirm|repeat|base|b64|hash|value))?"
_QUOTED = r"""(?P<quote>\\?["'])(?P<quoted>(?:[^"'\\\r\n]|\\[^"'\r\n]){4,}+)"""
_BARE = r"""(?P<bare>(?:[^\s"',;&<>\\]|[,;&]{1,3}(?=[^\s"',;&<>\\])(?![\w.-]{1,32}[=:])|\\(?=[^"'\\nrt])){4,}+)"""
_VALUE = rf"(?:{_QUOTED}|{_BARE})"
_ASSIGNED = re.compile(
    rf"""(?i){_SUFFIX}(?P<sign>\\?["']?\s{{0,4}}(?:=>|:=|==?|:)\s{{0,4}}b?(?=["'])|\\?["']?\s{{0,4}}(?:=>|:=|==?|:)\s{{0,4}})(?:sha\d+=)?{_VALUE}"""
)
_TAGGED = re.compile(rf"(?i){_SUFFIX}(?P<sign>>){_VALUE}")
_FLAGGED = re.compile(rf"""(?i){_SUFFIX}(?P<sign>["'],\s|\s{{1,4}}){_VALUE}""")
_PAIRED = re.compile(rf"""(?i){_SUFFIX}(?P<sign>\\?["'],\s?(?:\\?["']value\\?["']\s?:\s?)?b?(?=\\?["'])){_QUOTED}""")
_TOLD = re.compile(
    r"""(?i)(?P<sign>\s{1,4}(?:(?:is|was|provided|given|used|value|of|set\sto)\b)?[:=]?\s{0,4})"""
    r"""(?:(?P<quote>["'‘“])(?P<quoted>[^"'’”\s]{4,}+)|(?P<bare>[^\s"'<>=:]{6,}+))(?![=:])"""
)
_TAG = re.compile(r"<[\w:.-]{0,40}$")
_FLAG = re.compile(r"(?<![\w-])--[A-Za-z_.-]{0,40}$")
_WEAK = frozenset({"auth", "sid", "session", "signature", "credential", "credentials", "pass", "pw", "psk"})
_WORDS = frozenset(
    """
    must should may can cannot will has have had was were are not too and for only required missing invalid
    expected empty wrong incorrect expired changed unset null none true false option
    """.split()  # noqa: SIM905
)
_CALL = re.compile(r"[a-z_.]{3,}(?:\(\)|\[\w{0,24}\])\W{0,4}$")
_SLUG = re.compile(r"(?:^|[-_./:])[a-z]{4,}(?:$|[-_./:])")


def is_prose(value: str, longest: int) -> bool:
    """Whether the value is one ordinary word."""
    return len(value) <= longest and value.replace("-", "").isalpha() and (value.islower() or value.istitle())


def looks_issued(value: str) -> bool:
    """Whether letters and digits, or capitals and small letters, are mixed as no word and no date has them."""
    if len(value) < 8:
        return False
    if any(a.islower() and b.isupper() for a, b in pairwise(value)):
        return True
    letters = any(each.isalpha() for each in value)
    return (
        any(each.isdigit() for each in value) and not re.match(r"\d{4}-\d\d", value) and (letters or len(value) >= 24)
    )


def looks_random(value: str) -> bool:
    """Whether a run of 16 characters changes between capitals, small letters and digits as no name does."""
    run = max(re.split("[_-]", value[:LONG]), key=len)
    if len(run) < 16 or not re.search("[0-9]", run) or re.fullmatch("[0-9a-f]+", run):
        return False
    changes = sum(_sort(a) != _sort(b) for a, b in pairwise(run))
    return changes * 3 > len(run) if not run.islower() else len(run) >= 36 and changes * 5 > len(run)


def _sort(character: str) -> int:
    return character.isdigit() + 2 * character.isupper()


def hide_named(text: str) -> str:
    """Replace the values that stand behind the names of secrets."""
    lower = text.lower()
    if len(lower) != len(text):  # a capital such as İ becomes two characters
        lower = text.translate(_SMALL)
    return "".join(_pieces(text, lower))


_SMALL = {letter: letter + 32 for letter in range(ord("A"), ord("Z") + 1)}


def _pieces(text: str, lower: str) -> Iterator[str]:
    written = place = 0
    while found := _NAME.search(lower, place):
        place = found.end()
        value = _value_behind(text, lower, found)
        if value is None:
            continue
        start, end, hidden = value
        if hidden:
            yield text[written:start]
            yield REDACTED
            written = place = end
        elif end - start > LONG:
            place = end
    yield text[written:]


def _value_behind(text: str, lower: str, found: re.Match[str]) -> tuple[int, int, bool] | None:
    """Return where the value behind a name begins and ends and whether it is a secret; None without a value."""
    following = lower[found.end() : found.end() + 1]
    if following.isalnum():  # tokens, keyboard, passenger
        return None
    name, before = found[0], lower[max(0, found.start() - 44) : found.start()]
    weak = name in _WEAK
    if name.startswith("key"):
        weak = not _STRONG_KEY.search(before)
        if weak and (not before.endswith(("_", "-")) or _PUBLIC_KEY.search(before)):
            return None
    read = None
    for pattern, is_secret in _WAYS_BEFORE.get(following, _WAYS):
        if match := pattern.match(text, found.end()):
            start, end = match.span("quoted" if match["quote"] else "bare")
            if is_secret(name, before, match, weak):
                return start, end, True
            read = start, end, False
    return read


def _is_assigned(name: str, _before: str, match: re.Match[str], weak: bool) -> bool:
    """Keep prose (`token: expected`) and references (`${VAR}`); any other value is a secret."""
    value = match["quoted"] or match["bare"]
    if _is_reference(value) or (name == "pwd" and value[0] == "/"):
        return False
    if name.startswith("key") and weak:
        return looks_like_key(value)
    if weak:
        return looks_issued(value)
    return "=" in match["sign"] or bool(match["quote"]) or name[0] == "p" or not is_prose(value, 12)


def _is_flagged(name: str, before: str, match: re.Match[str], weak: bool) -> bool:
    return bool(_FLAG.search(before)) and _is_assigned(name, before, match, weak)


def _is_tagged(name: str, before: str, match: re.Match[str], weak: bool) -> bool:
    return bool(_TAG.search(before)) and _is_assigned(name, before, match, weak)


def _is_paired(_name: str, _before: str, match: re.Match[str], _weak: bool) -> bool:
    return looks_issued(match["quoted"]) and not _is_reference(match["quoted"])


def _is_told(name: str, _before: str, match: re.Match[str], weak: bool) -> bool:
    """Of a sentence, what is quoted behind `password` and what looks issued behind any of the names."""
    value = match["quoted"] or match["bare"]
    certain = match["quote"] and name[0] == "p" and not weak and not value.isupper()
    return not _is_reference(value) and (bool(certain) or (looks_issued(value) and not weak))


_WAYS = (
    (_ASSIGNED, _is_assigned),
    (_TAGGED, _is_tagged),
    (_PAIRED, _is_paired),
    (_FLAGGED, _is_flagged),
    (_TOLD, _is_told),
)
# By the character behind the name: most names in a log are words of a sentence, where two of the ways are possible.
_WAYS_BEFORE = {
    " ": (_WAYS[0], _WAYS[3], _WAYS[4]),
    ":": _WAYS[:1],
    "=": _WAYS[:1],
    ">": _WAYS[1:2],
    **dict.fromkeys(",.;!?)]}/|<&%+*#@", ()),
}


def _is_reference(value: str) -> bool:
    return (
        value.startswith(("${", "$(", "{{", REDACTED))
        or value.lower().rstrip(".)]}") in _WORDS
        or bool(_CALL.match(value[:64]))
    )
