"""Prices of model calls in whole nano-USD, from the price list of genai-prices or from `prices:` in schedule.yaml.

The list is told what a reply says about its processing (batch, fast), because it takes full price for granted; what it
does not know is added here: a request that was bound to the US costs 1.1 times as much (Anthropic's price list, as of
2026-11-22). The priority tier, which is paid for by contract, is charged as the standard one.

The list takes 110 us for a price. Here its rates are read once per model, day and kind of processing, as integers:
nano-USD per million, so that sums are exact and only their end is rounded, up.

An unknown model has no price and is refused: a call that cannot be priced cannot be kept within a budget.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import Any, TypeGuard

from overnight.errors import Stop

NANO = 1_000_000_000  # nano-USD in a dollar
MILLION = 1_000_000

Processing = tuple[tuple[str, str], ...]  # a price context of genai-prices
STANDARD: Processing = ()
BATCH: Processing = (("processing", "batch"),)
FAST: Processing = (("speed", "fast"),)

MOST_TOKENS = 10_000_000  # of a kind in one usage; ten times a window of a million tokens
MOST_SEARCHES = 1_000  # in one usage; our requests ask for none

_SEARCHES = 10_000 * NANO  # nano-USD per million web searches, the same with all models of the list


def plausible(count: object, most: int) -> TypeGuard[int]:
    """Tell whether a count may be what was used: what cannot be would empty the day's budget, or break the books."""
    return type(count) is int and 0 <= count <= most  # a bool is no count


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, as billed. `input_tokens` are the uncached ones; cached ones are counted beside them.

    `cache_write_1h_tokens` are those of `cache_write_tokens` that are kept for an hour, which costs more than five
    minutes. `service_tier`, `speed` and `inference_geo` stand in the reply as here, and decide about the price.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_searches: int = 0
    service_tier: str = "standard"
    speed: str = "standard"
    inference_geo: str = ""

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.input_total + self.output_tokens

    @property
    def input_total(self) -> int:
        """All that was read, cached or not: its length decides which tier of prices holds."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def processing(self) -> Processing:
        """How it was processed, in the words of the price list."""
        return BATCH if self.service_tier == "batch" else FAST if self.speed == "fast" else STANDARD


@dataclass(frozen=True, slots=True)
class Rates:
    """Nano-USD per million tokens, and per million web searches."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    searches: int = _SEARCHES

    @property
    def dearest_input(self) -> int:
        """The most that reading a token costs when nobody asks to keep it for an hour."""
        return max(self.input, self.cache_read, self.cache_write)


@dataclass(frozen=True, slots=True)
class Tier:
    """The rates of a whole call whose input is longer than `above` tokens."""

    above: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class OwnPrice:
    """What the operator says a model costs, from a UTC date on (None: always), however it is processed."""

    rates: Rates
    since: date | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """The price list, and the operator's own prices by model, which win over it."""

    own: Mapping[str, OwnPrice] = field(default_factory=dict)

    def price(self, model: str, usage: Usage, *, at: datetime) -> int:
        """Return what `usage` costs in nano-USD, rounded up, by the prices of `at`.

        Raises Stop for a model without a price.
        """
        length = usage.input_total
        tiers = self._tiers(model, at, usage.processing)
        rates = next(tier.rates for tier in reversed(tiers) if length > tier.above)
        tokens = (
            usage.input_tokens * rates.input
            + usage.output_tokens * rates.output
            + usage.cache_read_tokens * rates.cache_read
            + (usage.cache_write_tokens - usage.cache_write_1h_tokens) * rates.cache_write
            + usage.cache_write_1h_tokens * rates.cache_write_1h
        )
        searches = usage.web_searches * rates.searches
        return _up(tokens * 11 + searches * 10 if usage.inference_geo == "us" else (tokens + searches) * 10)

    def naive(self, models: Iterable[str], usage: Usage, *, at: datetime) -> int:
        """Return what an answer would have cost from the dearest of these models, with nothing cached or discounted.

        That is who asks the strong model at once: the comparison of the reports. Nano-USD; 0 when none has a price.
        """
        plain = Usage(usage.input_total, usage.output_tokens, inference_geo=usage.inference_geo)
        return max((self.price(model, plain, at=at) for model in models if self.known(model, at=at)), default=0)

    def worst(self, model: str, input_bound: int, max_tokens: int, *, at: datetime) -> int:
        """Return the most that a call of ours can cost in nano-USD, wherever it is processed.

        `input_bound` is a number of tokens the input cannot exceed. What our requests never ask for is not in it: fast
        processing, cache entries of an hour, web searches. Raises Stop for a model without a price.
        """
        possible = [tier.rates for tier in self._tiers(model, at, STANDARD) if input_bound > tier.above]
        return _up(11 * max(input_bound * rates.dearest_input + max_tokens * rates.output for rates in possible))

    def known(self, model: str, *, at: datetime) -> bool:
        """Tell whether `model` has a price."""
        try:
            self._tiers(model, at, STANDARD)
        except Stop:
            return False
        return True

    def priced_as(self, asked: str, answered: str, *, at: datetime) -> str:
        """Return the name whose price a reply has: what has answered, by the name that the reply gives.

        That name is often a dated one (`claude-sonnet-4-5-20250929`) of which the operator knows nothing: an own price
        of what was asked wins. It stands, too, for a name without a price.
        """
        return asked if self._own(asked, at) or not self.known(answered, at=at) else answered

    def _tiers(self, model: str, at: datetime, processing: Processing) -> tuple[Tier, ...]:
        own = self._own(model, at)
        return (Tier(-1, own.rates),) if own else _listed(model, at.astimezone(UTC).date(), processing)

    def _own(self, model: str, at: datetime) -> OwnPrice | None:
        own = self.own.get(model)
        return own if own and (own.since is None or own.since <= at.astimezone(UTC).date()) else None


def _up(tenths: int) -> int:
    """Tenths of a millionth of a nano-USD as nano-USD, rounded up."""
    return -(-tenths // (10 * MILLION))


@lru_cache(maxsize=1024)
def _listed(model: str, day: date, processing: Processing) -> tuple[Tier, ...]:
    """Read the rates of a UTC day from the list, the lowest tier first; no model there has prices by the hour.

    Raises Stop.
    """
    import genai_prices  # noqa: PLC0415  0.14 s that a job without a model need not pay

    nothing, when = genai_prices.Usage(input_tokens=0), datetime.combine(day, time(), UTC)
    try:
        found = genai_prices.calc_price(
            nothing, model, provider_id="anthropic", genai_request_timestamp=when, price_context=dict(processing)
        ).model_price
    except LookupError as error:
        raise Stop(
            f"no price is known for the model {model!r}, so no budget could hold it: check the name under `roles:` in "
            "schedule.yaml, add its price under `prices:`, or update the package genai-prices",
            code="unknown_model",
        ) from error
    starts = {tier.start for price in vars(found).values() for tier in getattr(price, "tiers", ())}
    return tuple(Tier(above, _rates(found, above)) for above in (-1, *sorted(starts)))


def _rates(found: Any, above: int) -> Rates:
    """The rates of a call longer than `above`; cached tokens without a price of their own cost what plain ones do."""
    plain = _rate(found.input_mtok, above) or 0
    write = _rate(found.cache_write_mtok, above)
    write = plain if write is None else write
    long, read = _rate(found.cache_write_1h_mtok, above), _rate(found.cache_read_mtok, above)
    return Rates(
        input=plain,
        output=_rate(found.output_mtok, above) or 0,
        cache_read=plain if read is None else read,
        cache_write=write,
        cache_write_1h=write if long is None else long,
        searches=1_000 * (_rate(found.web_searches_kcount, above) or 0),
    )


def _rate(price: Any, above: int) -> int | None:
    """One price of the list, dollars per million, as nano-USD per million."""
    if price is None:
        return None
    base = getattr(price, "base", price)
    passed = [tier.price for tier in getattr(price, "tiers", ()) if tier.start <= above]
    return int((Decimal([base, *passed][-1]) * NANO).to_integral_value(ROUND_CEILING))
