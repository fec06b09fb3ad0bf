"""Greet three people: the smallest job there is. Try `overnight run hello`, then copy this file."""

from collections.abc import Iterator
from dataclasses import dataclass

from overnight import Run, job


@dataclass(frozen=True)
class Person:
    """One item; its fields travel through the ledger as JSON."""

    name: str


def people(run: Run) -> Iterator[Person]:
    """Who is greeted: `params: { people: [...] }` in schedule.yaml, or three of our own."""
    return map(Person, run.params.get("people", ["Ada", "Grace", "Edsger"]))


@job(items=people, key=lambda person: person.name)
async def hello(person: Person, run: Run) -> str:
    """Return the greeting; a second run of the same day has nothing left to do."""
    return f"Good morning {person.name}, today is {run.slot}."
