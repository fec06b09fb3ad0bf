"""Prices in whole nano-USD: exact, the same as the list's own, and never above the worst case."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_CEILING, Decimal
from typing import Any

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from overnight.catalogue import prices_of
from overnight.errors import Stop
from overnight.pricing import NANO, OwnPrice, Prices, Rates, Usage
from overnight.schedule import loads

NOW = datetime(2026, 11, 22, tzinfo=UTC)
LIST = Prices()
HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"
LISTED = [model.id for provider in get_snapshot().providers if provider.id == "anthropic" for model in provider.models]
COUNTS = st.one_of(st.integers(0, 300_000), st.sampled_from([0, 1, 99_999, 100_000, 100_001, 200_000, 200_001]))
DAYS = st.integers(0, 500 * 24).map(lambda hours: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours))


@st.composite
def usages(draw: st.DrawFn, *, of_ours: bool = False) -> Usage:
    """Any usage, or one that a request of ours can lead to."""
    write = draw(COUNTS)
    return Usage(
        input_tokens=draw(COUNTS),
        output_tokens=draw(COUNTS),
        cache_read_tokens=draw(COUNTS),
        cache_write_tokens=write,
        cache_write_1h_tokens=0 if of_ours else draw(st.integers(0, write)),
        web_searches=0 if of_ours else draw(st.integers(0, 9)),
        service_tier=draw(st.sampled_from(["standard", "priority", "batch"])),
        speed="standard" if of_ours else draw(st.sampled_from(["standard", "fast"])),
        inference_geo=draw(st.sampled_from(["", "us", "global", "not_available"])),
    )


@pytest.mark.parametrize(
    ("model", "usage", "nano"),
    [
        (HAIKU, Usage(1, 1), 100 + 500),
        (HAIKU, Usage(cache_read_tokens=1), 10),
        (HAIKU, Usage(cache_write_tokens=1), 125),
        (HAIKU, Usage(cache_write_tokens=3, cache_write_1h_tokens=2), 125 + 2 * 200),
        (HAIKU, Usage(cache_read_tokens=1, service_tier="batch"), 5),
        (HAIKU, Usage(cache_write_tokens=1, service_tier="batch"), 63),  # 62.5, rounded up
        (SONNET, Usage(1_000, 300), 2_000_000 + 3_000_000),
        (HAIKU, Usage(100_000, 300), 10_000_000 + 150_000),
        (HAIKU, Usage(100_001, 300), 50_000_500 + 750_000),  # a long prompt is dearer as a whole
        (HAIKU, Usage(1, 1, cache_read_tokens=100_000), 500 + 2_500 + 5_000_000),  # cached or not
        (SONNET, Usage(10, inference_geo="us"), 22_000),
        (SONNET, Usage(10, inference_geo="global"), 20_000),
        (SONNET, Usage(10, service_tier="priority"), 20_000),
        (OPUS, Usage(10, 10, speed="fast"), 80_000 + 400_000),
        (SONNET, Usage(1, web_searches=2, inference_geo="us"), 2_200 + 20_000_000),
        (SONNET, Usage(1, web_searches=2, service_tier="batch"), 1_000 + 20_000_000),
        (HAIKU, Usage(), 0),
    ],
)
def test_prices_are_exact(model: str, usage: Usage, nano: int) -> None:
    assert LIST.price(model, usage, at=NOW) == nano


# Dollars per million tokens as Anthropic published them: input, output, cache write for 5 minutes and 1 hour, cache
# read; read on 2026-11-22 from two sources that agree. Opus 4.6 and Sonnet 4.6 were dearer above 200,000 until March.
PUBLISHED = {
    "claude-fable-5-2": ("8", "40", "10", "16", "0.20"),
    "claude-mythos-5-2": ("8", "40", "10", "16", "0.20"),
    "claude-fable-5-1": ("10", "50", "12.5", "20", "0.25"),
    "claude-fable-5": ("10", "50", "12.5", "20", "1"),
    "claude-opus-5-5": ("4", "20", "5", "8", "0.20"),
    "claude-opus-5": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-8": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-7": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-6": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-5": ("5", "25", "6.25", "10", "0.50"),
    "claude-sonnet-5-5": ("2", "10", "2.5", "4", "0.10"),
    "claude-sonnet-5": ("2", "10", "2.5", "4", "0.20"),
    "claude-sonnet-4-6": ("3", "15", "3.75", "6", "0.30"),
    "claude-sonnet-4-5": ("3", "15", "3.75", "6", "0.30"),
    "claude-haiku-5-5": ("0.10", "0.50", "0.125", "0.20", "0.01"),
    "claude-haiku-4-5": ("1", "5", "1.25", "2", "0.10"),
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_list_says_what_was_published(model: str) -> None:
    one = 1_000  # tokens, so that cents per million are whole nano-USD
    usages = [
        Usage(input_tokens=one),
        Usage(output_tokens=one),
        Usage(cache_write_tokens=one),
        Usage(cache_write_tokens=one, cache_write_1h_tokens=one),
        Usage(cache_read_tokens=one),
    ]
    expected = [Decimal(price) * NANO / 1_000 for price in PUBLISHED[model]]
    assert [LIST.price(model, usage, at=NOW) for usage in usages] == expected


@pytest.mark.parametrize("model", PUBLISHED)
def test_a_batch_costs_half(model: str) -> None:
    full, batch = Usage(2_000, 2_000, 2_000, 4_000, 2_000), {"service_tier": "batch"}
    half = Usage(2_000, 2_000, 2_000, 4_000, 2_000, **batch)
    assert 2 * LIST.price(model, half, at=NOW) == LIST.price(model, full, at=NOW)


@given(usages(), st.sampled_from(LISTED), DAYS)
def test_our_integers_are_the_lists_own_prices_to_the_nano(usage: Usage, model: str, at: datetime) -> None:
    context = {"batch": {"processing": "batch"}}.get(usage.service_tier) or {"fast": {"speed": "fast"}}.get(usage.speed)

    def said(**counts: int) -> Decimal:
        tokens = genai_prices.Usage(**counts)
        found = genai_prices.calc_price(
            tokens, model, provider_id="anthropic", genai_request_timestamp=at, price_context=context or {}
        )
        return found.total_price

    tokens = said(
        input_tokens=usage.input_total,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
    )
    factor = Decimal("1.1") if usage.inference_geo == "us" else 1
    total = tokens * factor + said(input_tokens=0, web_searches=usage.web_searches)
    assert LIST.price(model, usage, at=at) == int((total * NANO).to_integral_value(ROUND_CEILING))


@given(usages(of_ours=True), st.sampled_from(LISTED), DAYS, st.integers(0, 50_000), st.integers(0, 50_000))
def test_the_worst_case_is_never_below_a_price(
    usage: Usage, model: str, at: datetime, more_in: int, more_out: int
) -> None:
    most = LIST.worst(model, usage.input_total + more_in, usage.output_tokens + more_out, at=at)
    assert LIST.price(model, usage, at=at) <= most


@pytest.mark.parametrize(("bound", "nano"), [(100_000, 100_000 * 125), (100_001, 100_001 * 625)])
def test_the_worst_case_knows_the_tiers(bound: int, nano: int) -> None:
    assert LIST.worst(HAIKU, bound, 0, at=NOW) == -(-nano * 11 // 10)


def test_prices_are_those_of_the_utc_day() -> None:
    before, after = datetime(2026, 10, 13, 23, tzinfo=UTC), datetime(2026, 10, 14, 0, tzinfo=UTC)
    batch = Usage(1_000, service_tier="batch")
    assert LIST.price(SONNET, batch, at=before) == 2 * LIST.price(SONNET, batch, at=after)
    east = timezone(timedelta(hours=2))
    assert LIST.price(SONNET, batch, at=before.astimezone(east)) == LIST.price(SONNET, batch, at=before)


def test_no_price_of_the_list_depends_on_the_hour() -> None:
    constraints = [
        constrained.constraint
        for provider in get_snapshot().providers
        if provider.id == "anthropic"
        for model in provider.models
        for constrained in (*_several(model.prices), *(model.price_variants or ()))
    ]
    assert {type(one).__name__ for one in constraints} <= {"NoneType", "StartDateConstraint"}


def _several(prices: Any) -> list[Any]:
    return prices if isinstance(prices, list) else []


@pytest.mark.parametrize("model", ["claude-nonesuch", "claude-mythos-5", ""])
def test_an_unknown_model_is_refused_with_a_remedy(model: str) -> None:
    with pytest.raises(Stop, match=rf"{model!r}.*check the name under `roles:`.*add its price") as caught:
        LIST.price(model, Usage(1, 1), at=NOW)
    assert caught.value.code == "unknown_model"
    with pytest.raises(Stop):
        LIST.worst(model, 1, 1, at=NOW)
    assert not LIST.known(model, at=NOW)
    assert LIST.known(SONNET, at=NOW)


OWN = Rates(input=10 * NANO, output=50 * NANO, cache_read=NANO, cache_write=12 * NANO, cache_write_1h=20 * NANO)


def test_a_price_of_the_operator_wins_over_the_list_and_makes_a_model_known() -> None:
    prices = Prices({"claude-mythos-5": OwnPrice(OWN), HAIKU: OwnPrice(OWN)})
    usage = Usage(1, 1, 1, 2, 1)
    assert prices.price("claude-mythos-5", usage, at=NOW) == (10 + 50 + 1 + 12 + 20) * 1_000
    assert prices.price(HAIKU, usage, at=NOW) == (10 + 50 + 1 + 12 + 20) * 1_000
    assert prices.price(SONNET, usage, at=NOW) == LIST.price(SONNET, usage, at=NOW)
    assert prices.known("claude-mythos-5", at=NOW)


def test_a_price_of_the_operator_counts_from_its_date_on() -> None:
    prices = Prices({HAIKU: OwnPrice(OWN, date(2026, 12, 1)), "claude-mythos-5": OwnPrice(OWN, date(2026, 12, 1))})
    day_before, day = datetime(2026, 11, 30, 23, 59, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    assert prices.price(HAIKU, Usage(1), at=day_before) == 100
    assert prices.price(HAIKU, Usage(1), at=day) == 10_000
    assert not prices.known("claude-mythos-5", at=day_before)
    assert prices.known("claude-mythos-5", at=day)


def test_a_reply_has_the_operators_price_of_what_was_asked_else_that_of_what_answered() -> None:
    dated = "claude-sonnet-4-5-20250929"
    prices = Prices({HAIKU: OwnPrice(OWN), SONNET: OwnPrice(OWN, date(2026, 12, 1))})
    assert prices.priced_as(HAIKU, dated, at=NOW) == HAIKU
    assert prices.priced_as(SONNET, dated, at=NOW) == dated
    assert prices.priced_as(SONNET, dated, at=datetime(2026, 12, 1, tzinfo=UTC)) == SONNET
    assert prices.priced_as(OPUS, "claude-nonesuch", at=NOW) == OPUS


@given(usages(of_ours=True))
def test_the_worst_case_holds_for_a_price_of_the_operator(usage: Usage) -> None:
    prices = Prices({HAIKU: OwnPrice(OWN)})
    assert prices.price(HAIKU, usage, at=NOW) <= prices.worst(HAIKU, usage.input_total, usage.output_tokens, at=NOW)


def test_prices_of_the_schedule_are_per_million_tokens() -> None:
    schedule = loads(
        "version: 1\njobs: { greet: { every: 1d } }\nprices:\n"
        "  claude-mythos-5: { input: $10, output: $50, cache_write: $12.50, cache_read: $1, from: 2026-11-22 }\n"
        "  other: { input: $0, output: $0, cache_write: $0, cache_write_1h: $0.000001, cache_read: $0 }\n",
        {},
    )
    prices = prices_of(schedule)
    assert prices.price("claude-mythos-5", Usage(1, 1, 1, 2, 1), at=NOW) == 10_000 + 50_000 + 1_000 + 12_500 + 12_500
    assert not prices.known("claude-mythos-5", at=NOW - timedelta(days=1))
    assert prices.price("other", Usage(10, 10, 10, 1_000, 1_000), at=NOW) == 1
