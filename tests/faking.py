"""The fake model, and the SDK's own client of it."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from anthropic import AsyncAnthropic, DefaultAioHttpClient

from overnight.fake_model import FakeModel, serve


@asynccontextmanager
async def fake_and_client(**options: Any) -> AsyncIterator[tuple[FakeModel, AsyncAnthropic]]:
    """A server with these options, and a client that repeats nothing."""
    async with (
        serve(**options) as fake,
        AsyncAnthropic(base_url=fake.url, api_key="sham", max_retries=0, http_client=DefaultAioHttpClient()) as client,
    ):
        yield fake, client


def faulty(*rules: dict[str, Any]) -> AbstractAsyncContextManager[tuple[FakeModel, AsyncAnthropic]]:
    """The same with faults."""
    return fake_and_client(faults=rules)
