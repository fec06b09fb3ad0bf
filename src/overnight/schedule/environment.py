"""Variables and secrets: `${VAR}` in values, `.env` beside the file, and what must never be printed.

Variables are replaced after parsing, in values only: whatever a variable holds, it cannot become YAML.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from overnight.schedule.problem import Problem, ScheduleErrors, did_you_mean
from overnight.schedule.source import Path_, Source, scalars

_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<how>[-?])(?P<word>[^{}]*))?\}|\$\{[^}]*\}?")
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|WEBHOOK|CREDENTIAL)S?(_|$)", re.IGNORECASE)
_SECRET_KEY = re.compile(r"(^|[_.-])(password|passwd|passphrase|token|secret|api_?key|private_?key)$", re.IGNORECASE)
_LITERALS = (
    (re.compile(r"\bsk-ant-[\w-]{8,}"), "an Anthropic key"),
    (re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"), "an API key"),
    (re.compile(r"\b(?:gh[pousr]_|github_pat_)\w{8,}"), "a GitHub token"),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{12,}"), "an AWS key"),
    (re.compile(r"\bxox[abeoprs]-[\w-]{8,}"), "a Slack token"),
    (re.compile(r"(?<=hooks\.slack\.com/services/)[\w/]{8,}"), "a Slack webhook"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"), "a private key"),
    (
        re.compile(r"(?<=://)(?:[^\s/@:\"'{}]|\$\{[^}]*\})*:(?!\$\{)(?P<secret>[^\s/@\"'{}]+)(?=@)"),
        "a password in a URL",
    ),
)
_SHORTEST = 6  # characters; replacing shorter values in all output would hide ordinary words


def environment(beside: Path, environ: Mapping[str, str] | None) -> dict[str, str]:
    """Return the variables: `.env` beside the schedule, overridden by `environ` (default: the process environment)."""
    from dotenv import dotenv_values  # noqa: PLC0415  30 ms that a missing .env need not cost

    file = beside / ".env"
    try:
        found = dotenv_values(file, interpolate=False) if file.is_file() else {}
    except UnicodeDecodeError:
        raise ScheduleErrors([Problem(str(file), 0, 0, "", "cannot be read as UTF-8 text")]) from None
    except OSError as error:
        denied = isinstance(error, PermissionError)
        hint = f"who runs overnight must be able to read it, here the user with the id {os.geteuid()}" if denied else ""
        raise ScheduleErrors([Problem(str(file), 0, 0, "", f"cannot be read: {error.strerror}", hint)]) from None
    values = {name: value for name, value in found.items() if value is not None}
    return {**values, **(os.environ if environ is None else environ)}


def secret_values(environ: Mapping[str, str]) -> frozenset[str]:
    """Return what the redactor must replace: values of variables named like secrets, and passwords in URLs."""
    found = {value for name, value in environ.items() if _SECRET_NAME.search(name)}
    found |= {value.strip().strip("\"'").strip() for value in found}  # as they are used
    found |= {password for value in environ.values() for password in _passwords(value)}
    return frozenset(value for value in found if len(value) >= _SHORTEST)


def _passwords(value: str) -> set[str]:
    """Return the password of a URL, as written and unquoted."""
    if "://" not in value or "@" not in value:
        return set()
    try:
        password = urlsplit(value).password or ""
    except ValueError:  # not a URL after all
        return set()
    return {password, unquote(password)}


def refuse_literal_secrets(source: Source) -> None:
    """Report secrets written into the file, comments included; they are replaced before anything is shown."""
    found = [(match, what) for pattern, what in _LITERALS for match in pattern.finditer(source.text)]
    named = [(path, value) for path, value in scalars(source) if _is_named_secret(path, value)]
    spans = [(source.at_offset(*_extent(match)), what) for match, what in found]
    # First learn all of them, then print: two may stand in one line.
    source.secrets |= {match[match.re.groups] for match, _ in found}
    source.secrets |= {value for _, value in named}
    hint = "write ${NAME} here and put the value into .env"
    for span, what in spans:
        source.refuse(span, (), f"{what} must not stand in this file", hint)
    taken = {span.line for span, _ in spans}
    for path, _ in named:
        if source.value_at(path).line not in taken:
            source.refuse(source.value_at(path), path, "a secret must not stand in this file", hint)


def _extent(match: re.Match[str]) -> tuple[int, int]:
    start, end = match.span(match.re.groups)
    return start, end - start


def _is_named_secret(path: Path_, value: str) -> bool:
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    return bool(value) and "${" not in value and bool(_SECRET_KEY.search(key))


def interpolate(source: Source, environ: Mapping[str, str]) -> None:
    """Replace the variables in all values; what is missing is reported at its place."""
    source.data = _replaced(source, source.data, (), environ)


def _replaced(source: Source, data: Any, path: Path_, environ: Mapping[str, str]) -> Any:
    if isinstance(data, str) and "$" in data:
        return _VARIABLE.sub(lambda match: _value(source, match, path, environ), data)
    if isinstance(data, dict):
        return {key: _replaced(source, value, (*path, key), environ) for key, value in data.items()}
    if isinstance(data, list):
        return [_replaced(source, value, (*path, index), environ) for index, value in enumerate(data)]
    return data


def _value(source: Source, match: re.Match[str], path: Path_, environ: Mapping[str, str]) -> str:
    """Return the text for one `${…}`, by the rules of the shell: `:-` and `:?` also apply to an empty variable."""
    whole, name, how, word = match[0], match["name"], match["how"], match["word"]
    if whole == "$$":
        return "$"
    place = source.within(path, whole)
    if name is None:
        source.spoil(place, path, "this is no variable", "write ${NAME}, ${NAME:-default} or ${NAME:?message}")
        return ""
    if environ.get(name) or (how is None and name in environ):
        return environ[name]
    if how == "-":
        return str(word)
    said = word if how == "?" and word else f"the variable {name} is not set"
    hint = did_you_mean(name, environ) or "set it in the environment or in .env beside the schedule"
    source.spoil(place, path, said if name in said else f"{name}: {said}", hint)
    return ""
