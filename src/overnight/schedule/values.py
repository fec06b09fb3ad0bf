"""The small languages of schedule.yaml: `90s`, `$0.50`, `80%`, `50/min`, zones; each a type for the models.

Every type refuses what it does not understand with a sentence that shows the right form. In the JSON Schema each also
accepts a value with `${VAR}`, which nobody can check before the variables are known.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from overnight.schedule.problem import did_you_mean, shown
from overnight.triggers import compact

NANO = 1_000_000_000  # nano-USD in a dollar
_VARIABLE = r".*\$\{.*"
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PERIODS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}
_FACTORS = {"": 1, "k": 1_000, "M": 1_000_000}
_LONGEST = timedelta(days=3_650)

_DURATION = r"(?=\d)(\d{1,4}d)?(\d{1,5}h)?(\d{1,6}m)?(\d{1,8}s)?"
_MONEY = r"\$(\d{1,7})(?:\.(\d{1,9}))?"
_DAY = r"(\d{4})-(\d{2})-(\d{2})"
_PERCENT = r"(\d{1,3}(?:\.\d{1,4})?)%"
_RATE = r"(\d{1,9}(?:\.\d{1,3})?)([kM]?)/(s|min|h|d)"
_FACTOR = r"(\d{1,4}(?:\.\d{1,3})?)x"
_MEDIAN = r"(\d{1,3})d_median"


@dataclass(frozen=True, slots=True)
class Rate:
    """So many per so many seconds."""

    count: int
    per: int

    def __str__(self) -> str:
        unit = next((name for name, size in _PERIODS.items() if size == self.per), f"{self.per}s")
        return f"{self.count}/{unit}"


def _text(pattern: str, value: object, forms: str) -> re.Match[str]:
    match = re.fullmatch(pattern, value, re.ASCII) if isinstance(value, str) else None
    if not match:
        raise ValueError(f"{shown(value)} is not {forms}")
    return match


def duration(value: object) -> timedelta:
    """Read `90s`, `5m`, `1h30m`, `2d`; zero included."""
    match = _text(_DURATION, value, "a duration; write 90s, 5m, 1h30m or 2d")
    counts = (int(group[:-1]) if group else 0 for group in match.groups())
    length = timedelta(seconds=sum(count * size for count, size in zip(counts, _UNITS.values(), strict=True)))
    if length > _LONGEST:
        raise ValueError(f"{value!r} is longer than ten years")
    return length


def positive(length: timedelta) -> timedelta:
    """Refuse a length of zero."""
    if not length:
        raise ValueError("the duration must be longer than zero")
    return length


def money(value: object) -> int:
    """Read `$10` and `$0.50` as nano-USD."""
    if isinstance(value, str) and re.match(r"\s*(-\s*\$|\$\s*-)", value):
        raise ValueError(f"{value!r}: an amount cannot be negative")
    match = _text(_MONEY, value, "an amount in dollars; write $10 or $0.50")
    return int(match[1]) * NANO + int((match[2] or "").ljust(9, "0"))


def day(value: object) -> date:
    """Read `2026-12-01`."""
    match = _text(_DAY, value, "a date; write 2026-12-01")
    try:
        return date(*map(int, match.groups()))
    except ValueError:
        raise ValueError(f"{value!r} is no day of the calendar") from None


def percent(value: object) -> Decimal:
    """Read `80%` as the fraction 0.8."""
    fraction = Decimal(_text(_PERCENT, value, "a percentage; write 80% or 99.5%")[1]) / 100
    if fraction > 1:
        raise ValueError(f"{value!r} is more than 100%")
    return fraction


def rate(value: object) -> Rate:
    """Read `50/min`, `40k/min`, `5000/h`, `20/s`."""
    match = _text(_RATE, value, "a rate; write 50/min, 40k/min, 5000/h or 20/s")
    count = Decimal(match[1]) * _FACTORS[match[2]]
    if count != count.to_integral_value() or not count:
        raise ValueError(f"{value!r} is not a whole number above zero per {match[3]}")
    return Rate(int(count), _PERIODS[match[3]])


def factor_or_share(value: object) -> Decimal:
    """Read `1.5x`, or `80%` as 0.8."""
    if isinstance(value, str) and value.endswith("%"):
        return percent(value)
    return Decimal(_text(_FACTOR, value, "a factor; write 1.5x, or a share such as 80%")[1])


def reference(value: object) -> int:
    """Read `7d_median` as 7, and `budget` as 0."""
    if value == "budget":
        return 0
    days = int(_text(_MEDIAN, value, "a reference; write 7d_median or budget")[1])
    if not days:
        raise ValueError("a median needs a day; write 7d_median")
    return days


def zone(value: object) -> ZoneInfo:
    """Read an IANA time zone."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a time zone; write one such as Europe/Paris or UTC")  # noqa: TRY004  pydantic
    try:
        return ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        hint = did_you_mean(value, available_timezones())
        raise ValueError(f"unknown time zone {shown(value)}" + (f"; {hint}" if hint else "")) from None


def whole(value: object) -> int:
    """Read a whole number, also from a variable's text; `true` is not 1."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(_text(r"\d{1,9}", value, "a whole number")[0])


def flag(value: object) -> bool:
    """Read true and false, and the words YAML 1.2 leaves as text."""
    if isinstance(value, bool):
        return value
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError(f"{shown(value)} is neither true nor false")


def words(value: object) -> object:
    """Accept one text where a list of texts is meant."""
    return [value] if isinstance(value, str) else value


def _schema(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^({pattern}|{_VARIABLE})$", "examples": list(examples)})


def _or_variable(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [schema, {"type": "string", "pattern": f"^{_VARIABLE}$"}]})


def _written(write: Callable[[Any], str]) -> PlainSerializer:
    """Write the value in JSON as it stands in the file, so that editors show defaults that can be copied."""
    return PlainSerializer(write, return_type=str, when_used="json-unless-none")


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def _before(read: Callable[[object], object]) -> BeforeValidator:
    return BeforeValidator(read)


_WORD = {"type": "string"}

_DURATION_FORM = (
    _schema(_DURATION, "90s", "5m", "1h30m", "2d"),
    _written(lambda one: compact(int(one.total_seconds()))),
)
_MONEY_FORM = (_schema(_MONEY, "$10", "$0.50"), _written(lambda one: f"${_plain(Decimal(one) / NANO)}"))
_DAY_FORM = (_schema(_DAY, "2026-12-01"), _written(lambda one: one.isoformat()))
_PERCENT_FORM = (_schema(_PERCENT, "80%", "99.5%"), _written(lambda one: f"{_plain(one * 100)}%"))
_FACTOR_FORM = (_schema(f"{_FACTOR}|{_PERCENT}", "1.5x", "80%"), _written(lambda one: f"{_plain(one)}x"))
_REFERENCE_FORM = (
    _schema(f"{_MEDIAN}|budget", "7d_median", "budget"),
    _written(lambda one: f"{one}d_median" if one else "budget"),
)
_RATE_FORM = (_schema(_RATE, "50/min", "40k/min", "5000/h", "20/s"), _written(str))

Duration = Annotated[timedelta, _before(duration), *_DURATION_FORM]
Length = Annotated[timedelta, _before(lambda value: positive(duration(value))), *_DURATION_FORM]
Money = Annotated[int, _before(money), *_MONEY_FORM]
Cap = Annotated[int | None, _before(money), *_MONEY_FORM]  # None: not set; a key without a value is a mistake
Since = Annotated[date | None, _before(day), *_DAY_FORM]
Percent = Annotated[Decimal, _before(percent), *_PERCENT_FORM]
FactorOrShare = Annotated[Decimal, _before(factor_or_share), *_FACTOR_FORM]
Reference = Annotated[int, _before(reference), *_REFERENCE_FORM]
RateValue = Annotated[Rate, _before(rate), *_RATE_FORM]
Zone = Annotated[
    ZoneInfo,
    _before(zone),
    PlainSerializer(lambda one: one.key, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["Europe/Paris", "UTC"]}),
]
Count = Annotated[int, _before(whole), Field(ge=1), _or_variable({"type": "integer", "minimum": 1})]
Flag = Annotated[bool, _before(flag), _or_variable({"type": "boolean"})]
WORDS_FORM = (_before(words), WithJsonSchema({"anyOf": [_WORD, {"type": "array", "items": _WORD}]}))
Words = Annotated[list[str], *WORDS_FORM]
