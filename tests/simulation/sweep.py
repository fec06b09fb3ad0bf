"""The sweep: the N-th thing that can go wrong in a run of `daily_email` does, for every N; then it is run again.

A step is a commit, a write of a file, fsync, a link, a rename, a model request, a command to the relay, or an upload.
It fails as it can fail worst, or the process dies in it.
"""

import asyncio
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, text

from overnight.runner import Request
from overnight.schedule import Schedule
from overnight.subscribers import add
from tests.simulation.loop import current
from tests.simulation.weather import DEATHS, HOUR
from tests.simulation.world import START, World
from tests.simulation.year import quietly

ROOT = Path(__file__).parents[2]
SUBSCRIBERS = 20  # five times as many as there are connections
SLOT = "2026-06-01"
WORST = {
    "commit": "full", "write": "full", "fsync": "full", "link": "full", "rename": "full", "model": "billed_lost",
    "connect": "refused", "mail": "lost", "rcpt": "lost", "data": "ambiguous", "put": "late",
}  # fmt: skip
FEED = f"""<?xml version='1.0'?><feed xmlns='http://www.w3.org/2005/Atom'><title>Sweep</title>
<entry><id>story</id><title>A story</title><link href='https://example.org/1'/><updated>{START:%Y-%m-%dT00:00:00Z}</updated>
<summary>Told in full.</summary></entry></feed>"""

Way = Literal["fails", "dies"]


@dataclass(slots=True)
class Nth:
    """Faults: one at the `nth` of all steps, in this way; `step` is which one that was, `steps` counts each kind."""

    nth: int
    way: Way
    steps: Counter[str] = field(default_factory=Counter)
    step: str = ""

    def draw(self, step: str) -> str:
        """The fault, when it is its turn."""
        if current() is None:
            return ""
        self.steps[step] += 1
        if self.steps.total() != self.nth:
            return ""
        self.step = step
        return WORST[step] if self.way == "fails" else DEATHS[step][-1]


@dataclass(slots=True)
class Swept:
    """What three runs with one fault have come to; `mails` are counted by Message-ID where they arrived.

    `ends` has for each run its exit code, and how many of the slot's items were not ok then.
    """

    fault: Nth
    ends: list[tuple[int, int]] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    mails: Counter[str] = field(default_factory=Counter)
    unknown: set[str] = field(default_factory=set)
    requests: int = 0
    billed: int = 0
    booked: int = 0
    reported: bool = False
    troubles: list[str] = field(default_factory=list)


def sweep(nth: int, way: Way, mail: str) -> Swept:
    """Run with a fault at the N-th step, then again without one."""
    found = Swept(Nth(nth, way))
    with quietly(), tempfile.TemporaryDirectory(dir=_memory()) as folder:
        root = Path(folder)
        _project(root)
        environ = {"MAIL_URL": mail, "REPORTS_TO": "s3://books/swept"}
        world = World(root, 1, found.fault, environ=environ, schedule=_schedules.get(mail))

        async def main() -> None:
            for n in range(SUBSCRIBERS):
                add(world.ledger, world.clock, f"reader{n}@example.org")
            for _ in range(3):  # a crash, what was deferred by it, and what that has deferred
                code = await asyncio.shield(world.start("run", lambda: world.ran(Request("daily_email", SLOT))).exited)
                found.ends.append((code, SUBSCRIBERS - world.ledger.reading(_ok)))
                await asyncio.sleep(HOUR)
            await _told(world, found)

        world.run(main)
        _schedules[mail] = world.schedule
    return found


_schedules: dict[str, Schedule | None] = {}  # read once: nothing in one says where the project is


def _memory() -> Path | None:
    memory = Path("/dev/shm")  # noqa: S108
    return memory if memory.is_dir() else None


def _project(root: Path) -> None:
    """The project's own job, templates and schedule, with a feed of one story and the simulation's small report."""
    for name in ("jobs", "templates"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copytree(Path(__file__).parent / "project" / "reports", root / "reports")
    schedule = (ROOT / "schedule.yaml").read_text(encoding="utf-8")
    (root / "schedule.yaml").write_text(schedule.replace("feeds: []", "feeds: [feed.xml]"), encoding="utf-8")
    for topic in ("feed", "science", "culture"):
        (root / "content").mkdir(exist_ok=True)
        (root / "content" / f"{topic}.xml").write_text(FEED, encoding="utf-8")
    (root / "feed.xml").write_text(FEED, encoding="utf-8")


def _ok(connection: Connection) -> int:
    return int(connection.execute(text("SELECT coalesce(sum(ok), 0) FROM slot")).scalar_one())


async def _told(world: World, found: Swept) -> None:
    """Read all books."""
    with world.ledger.engine.connect() as connection:
        rows = connection.execute(text("SELECT item.state, item.key FROM item WHERE job = 'daily_email'")).all()
        found.states.update(row.state for row in rows)
        effects = connection.execute(text("SELECT ref FROM effect WHERE state IN ('unknown', 'intent')"))
        found.unknown = set(effects.scalars())
        found.booked = connection.execute(text("SELECT coalesce(sum(cost_nano), 0) FROM call")).scalar_one()
    outbox = world.root / "var" / "outbox" / "daily_email"
    found.mails = Counter({f"<{path.stem}>": 1 for path in outbox.rglob("*.eml")}) + world.relay.spool
    found.requests, found.billed = len(world.model.asked_at), sum(b.cost_nano for b in world.model.bill)
    reports = [content for key, content in world.bucket.files.items() if key.startswith("report=nights")]
    found.reported = any(f",daily_email,{SLOT},{SUBSCRIBERS},{found.states['ok']},".encode() in r for r in reports)
    found.troubles = world.troubles


def steps_of(mail: str) -> Counter[str]:
    """How many steps of each kind there are without faults."""
    return sweep(0, "fails", mail).fault.steps
