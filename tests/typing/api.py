"""What the type checker must know of the public API. Nobody runs this file: mypy reads it.

An unused `type: ignore` is an error, so each of them is a promise that the line above or beside it is refused.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import assert_type

from overnight import Answer, Job, Run, Subscriber, active_subscribers, job
from overnight.testing import BatchResult, Bench


@dataclass(frozen=True)
class Person:
    """An item."""

    name: str


@dataclass(frozen=True)
class Edition:
    """A value of a slot, and an answer of a model."""

    title: str


def people(run: Run) -> Iterator[Person]:
    """Items from a generator."""
    yield Person(run.slot)


async def strangers(run: Run) -> AsyncIterator[Person]:
    """Items from an asynchronous generator."""
    yield Person(run.slot)


async def edition(run: Run) -> Edition:
    """A value of the slot, from a model."""
    plain = Edition("plain")
    answer = await run.agent("editor", data={"day": run.slot}, output=Edition, fallback=plain)
    assert_type(answer, Answer[Edition])
    return assert_type(answer.value, Edition)


def longest(editions: Sequence[Edition]) -> Edition:
    """One value of several."""
    return max(editions, key=lambda edition: len(edition.title))


async def long_edition(run: Run) -> Edition:
    """A value whose question may be too long for one request."""
    titles = await run.agent("editor", data={"days": [run.slot]}, output=list[str], split="days")
    assert_type(titles.value, list[str])
    await run.agent("editor", data={"days": [run.slot]}, output=str, split="days", merge=longest)  # type: ignore[arg-type]
    answer = await run.agent("editor", data={"days": [run.slot]}, output=Edition, split="days", merge=longest)
    return assert_type(answer.value, Edition)


@job(items=people, key=lambda person: person.name, concurrency=4, item_timeout=3.5, attempts=2)
async def greet(person: Person, run: Run) -> str:
    """A job of items."""
    assert_type(await run.once(edition), Edition)
    assert_type(await run.seen("stories"), set[str])
    title: int = (await run.once(edition)).title  # type: ignore[assignment]
    return f"{person.name} {title}"


@job(items=strangers)
async def wave(person: Person, run: Run) -> int:
    """A job of asynchronous items."""
    return len(person.name + run.key)


@job
async def close_the_books(slot: str, run: Run) -> None:
    """A job of one item, the slot."""
    await run.clock.sleep(len(slot))


@job(items=active_subscribers, key=lambda subscriber: subscriber.id)
async def notify(subscriber: Subscriber, run: Run) -> str:
    """A job of subscribers."""
    await run.mail.send("ops@example.org", "notice", title="Rain")
    await run.mail.send(Person("Ann"), "notice", title="Rain")  # type: ignore[arg-type]
    return assert_type(await run.mail.send(subscriber, "notice", title="Rain"), str)


assert_type(greet, Job[Person, str])
assert_type(wave, Job[Person, int])
assert_type(close_the_books, Job[str, None])
assert_type(notify, Job[Subscriber, str])


@job(items=people)  # type: ignore[arg-type]
async def of_other_items(number: int, run: Run) -> str:
    """Refused: its items are persons."""
    return f"{number} {run.slot}"


@job(items=people)  # type: ignore[arg-type]
def not_asynchronous(person: Person, run: Run) -> str:
    """Refused: nothing to await."""
    return person.name + run.slot


@job(items=people)  # type: ignore[arg-type]
async def without_a_run(person: Person) -> str:
    """Refused: a job gets its run."""
    return person.name


@job  # type: ignore[arg-type]
async def of_a_slot_that_is_no_text(slot: int, run: Run) -> str:
    """Refused: a slot is a string."""
    return f"{slot} {run.key}"


@job(items=people, key=lambda person: person.nickname)  # type: ignore[attr-defined]
async def keyed_by_what_is_not_there(person: Person, run: Run) -> str:
    """Refused: a person has no nickname."""
    return person.name + run.key


@job(items=people, concurency=4)  # type: ignore[call-overload, untyped-decorator]
async def with_a_misspelt_option(person: Person, run: Run) -> str:
    """Refused: there is no such option."""
    return person.name + run.key


async def as_a_function(run: Run) -> None:
    """A job stays callable, with the types of its function."""
    assert_type(await greet(Person("Ann"), run), str)
    await greet("Ann", run)  # type: ignore[arg-type]


def as_a_test(bench: Bench) -> None:
    """The bench takes any job."""
    assert_type(bench.batch(greet, Person("Ann")), BatchResult)
    bench.batch(edition)  # type: ignore[arg-type]
