"""The deadline of an item: it counts work, and stands still while the item waits its turn."""

import asyncio
from contextlib import suppress

import pytest

from overnight.deadline import deadline, off_the_clock

SHORT = 0.03


async def test_work_beyond_the_deadline_is_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        async with deadline(SHORT):
            await asyncio.sleep(10)


async def test_waiting_off_the_clock_does_not_count() -> None:
    async with deadline(SHORT):
        async with off_the_clock():
            await asyncio.sleep(3 * SHORT)
        await asyncio.sleep(0)


async def test_after_waiting_only_what_was_left_remains() -> None:
    async def item() -> None:
        async with deadline(SHORT):
            async with off_the_clock():
                await asyncio.sleep(SHORT)
            await asyncio.sleep(10)

    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(TimeoutError):
        await item()
    assert SHORT * 2 <= loop.time() - started < 5


async def test_waits_within_waits_count_once() -> None:
    async with deadline(SHORT):
        async with off_the_clock():
            async with off_the_clock():
                await asyncio.sleep(SHORT)
            await asyncio.sleep(2 * SHORT)
        await asyncio.sleep(0)


async def test_without_a_deadline_there_is_nothing_to_stop() -> None:
    async with off_the_clock():
        await asyncio.sleep(0)


async def test_each_item_has_a_deadline_of_its_own() -> None:
    async def waits() -> str:
        async with deadline(SHORT), off_the_clock():
            await asyncio.sleep(3 * SHORT)
        return "done"

    async def works() -> str:
        async with deadline(SHORT):
            await asyncio.sleep(10)
        return "never"

    first, second = await asyncio.gather(waits(), works(), return_exceptions=True)
    assert first == "done"
    assert isinstance(second, TimeoutError)


async def test_a_wait_that_fails_lets_the_deadline_go_on() -> None:
    async def item() -> None:
        async with deadline(SHORT):
            with suppress(ConnectionError):
                async with off_the_clock():
                    raise ConnectionError
            await asyncio.sleep(10)

    with pytest.raises(TimeoutError):
        await item()
