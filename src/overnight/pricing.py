"""Prices of model calls in whole nano-USD, from the price list of genai-prices.

An unknown model has no price and is refused: a call that cannot be priced cannot be kept within a budget.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

from overnight.errors import Stop

NANO = 1_000_000_000  # nano-USD in a dollar


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, as billed. `input_tokens` are the uncached ones; cached ones are counted beside them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens


def price(model: str, usage: Usage, *, at: datetime | None = None) -> int:
    """Return what `usage` costs in nano-USD, rounded up; by the prices of `at` (default: now).

    Raises Stop for a model without a price.
    """
    import genai_prices  # noqa: PLC0415  0.14 s that a job without a model need not pay

    tokens = genai_prices.Usage(
        input_tokens=usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    try:
        found = genai_prices.calc_price(tokens, model, provider_id="anthropic", genai_request_timestamp=at)
    except LookupError as error:
        raise Stop(
            f"no price is known for the model {model!r}, so no budget could hold it: check the name under `roles:` in "
            "schedule.yaml, or update the package genai-prices",
            code="unknown_model",
        ) from error
    return int((Decimal(found.total_price) * NANO).to_integral_value(ROUND_CEILING))


def worst(model: str, input_bound: int, max_tokens: int, *, at: datetime | None = None) -> int:
    """Return the most a call can cost in nano-USD: all input at the dearest input rate, all output tokens used.

    `input_bound` is a number of tokens the input cannot exceed. Raises Stop for a model without a price.
    """
    plain = Usage(input_tokens=input_bound, output_tokens=max_tokens)
    cached = Usage(cache_write_tokens=input_bound, output_tokens=max_tokens)
    return max(price(model, plain, at=at), price(model, cached, at=at))


@lru_cache(maxsize=256)
def known(model: str) -> bool:
    """Tell whether `model` has a price."""
    try:
        price(model, Usage(input_tokens=1))
    except Stop:
        return False
    return True
