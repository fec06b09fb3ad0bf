"""What is known of the models that schedule.yaml names: their price, their end, their limits.

The API itself is asked by `overnight doctor` only. What is deprecated is known without it: the SDK has a list, which is
read from its source, as importing the SDK takes a second.
"""

import ast
import calendar
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from overnight.model import Listed
from overnight.pricing import OwnPrice, Prices, Rates
from overnight.schedule import Finding, Schedule

SOON = timedelta(days=60)


def prices_of(schedule: Schedule) -> Prices:
    """What models cost: the price list, and `prices:` of schedule.yaml."""
    own = {}
    for model, said in schedule.prices.items():
        hour = said.cache_write if said.cache_write_1h is None else said.cache_write_1h
        own[model] = OwnPrice(Rates(said.input, said.output, said.cache_read, said.cache_write, hour), said.since)
    return Prices(own)


def unpriced(schedule: Schedule, now: datetime) -> Iterator[Finding]:
    """Find the models without a price, which no budget could hold; takes the price list, 0.14 s."""
    prices = prices_of(schedule)
    for role, place, model in _named(schedule):
        if not prices.known(model, at=now):
            message = f"no price is known for the model {model!r}, so no budget could hold it"
            yield ("roles", role, "model", place), message, "check its name, or add its price under `prices:`"


def ending(schedule: Schedule, today: date) -> Iterator[str]:
    """Say of each deprecated model when it ends, or has ended."""
    ends = deprecated()
    for role, _, model in _named(schedule):
        if model in ends:
            yield f"roles.{role}: the model {model} is deprecated: {_until(ends[model], today)}; choose another one"


def refused(schedule: Schedule, listed: Mapping[str, Listed | None]) -> Iterator[str]:
    """Say which roles the API will refuse; `listed` is what it says of each model, None: it knows none of that name."""
    for role, _, model in _named(schedule):
        info, wanted = listed[model], schedule.roles[role].max_tokens
        if info is None:
            yield f"roles.{role}: the API knows no model {model}; check its name"
        elif info.lifecycle == "retired":
            yield f"roles.{role}: the model {model} is retired; choose another one"
        elif info.max_tokens is not None and wanted > info.max_tokens:
            yield f"roles.{role}: max_tokens is {wanted}, and {model} gives at most {info.max_tokens}"


def retiring(schedule: Schedule, listed: Mapping[str, Listed | None], today: date) -> Iterator[str]:
    """Say which models still work and are to end, by the API's own word: deprecated ones, and all within 60 days."""
    for role, _, model in _named(schedule):
        info = listed[model]
        if info is None or info.lifecycle == "retired":
            continue
        ends = info.retires_at.date() if info.retires_at else None
        if info.lifecycle == "deprecated" or (ends is not None and ends - today < SOON):
            yield f"roles.{role}: the model {model} is deprecated: {_until(ends, today)}; choose another one"


def models_of(schedule: Schedule) -> list[str]:
    """The models of all roles, each once."""
    return list(dict.fromkeys(model for _, _, model in _named(schedule)))


@cache
def deprecated() -> dict[str, date | None]:
    """The models the SDK calls deprecated, with their last day; none when its list is not where we look for it."""
    package = find_spec("anthropic")
    if package is None or package.origin is None:
        return {}
    try:
        text = (Path(package.origin).parent / "resources" / "messages" / "messages.py").read_text(encoding="utf-8")
    except OSError:
        return {}
    found = re.search(r"^DEPRECATED_MODELS\b[^=]*= (\{.*?^\})", text, re.MULTILINE | re.DOTALL)
    return {model: _day(said) for model, said in ast.literal_eval(found[1]).items()} if found else {}


def _named(schedule: Schedule) -> Iterator[tuple[str, int, str]]:
    """Role, place in its route and name of each model."""
    for name, role in schedule.roles.items():
        for place, model in enumerate(role.model):
            yield name, place, model


def _day(said: str) -> date | None:
    """Read `November 30th, 2026`."""
    match = re.fullmatch(r"([A-Z][a-z]+) (\d{1,2})(?:st|nd|rd|th)?, (\d{4})", said)
    months = list(calendar.month_name)
    if match is None or match[1] not in months:
        return None
    return date(int(match[3]), months.index(match[1]), int(match[2]))


def _until(ends: date | None, today: date) -> str:
    if ends is None:
        return "its last day is not known"
    days = (ends - today).days
    return f"its last day is {ends}, in {days} days" if days >= 0 else f"its last day was {ends}, its calls fail"
