"""Mail an edition that a model has written; every fifth of a hundred readers wants to have it."""

from collections.abc import Iterator
from dataclasses import dataclass

from overnight import Run, Skip, job

EVERY = 5


@dataclass(frozen=True)
class Reader:
    """Somebody who gets the letter; the relay refuses every fortieth."""

    id: str
    email: str
    name: str = ""


@dataclass(frozen=True)
class Edition:
    """What the model writes."""

    subject: str
    text: str


def readers(run: Run) -> Iterator[Reader]:
    """The same readers every night."""
    return (Reader(f"s_{n:04}", f"reader{n}@example.org") for n in range(run.params.get("items", 100)))


async def edition(run: Run) -> Edition:
    """Written once per slot."""
    plain = Edition(f"The letter of {run.slot}", "Nothing is known.")
    return (await run.agent("editor", data={"night": run.slot}, output=Edition, fallback=plain)).value


@job(items=readers, key=lambda reader: reader.id)
async def letters(reader: Reader, run: Run) -> str:
    """One letter."""
    if int(reader.id[2:]) % EVERY:
        raise Skip("not asked for")
    return await run.mail.send(reader, "letter", edition=await run.once(edition))
