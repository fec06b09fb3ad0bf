"""`daily_email` killed again and again, at every named point of the send path and at random instants.

By the books of the outbox and of the relay nobody is lost, nobody gets a mail twice, and what nobody can know is named.
"""

import json
import random
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import pytest

from tests.acceptance.conftest import HERE, Project, RelayBooks
from tests.acceptance.killing import BOOKS, POINTS

pytestmark = pytest.mark.slow

PEOPLE = [f"reader{number:02}@example.org" for number in range(24)]
CONNECTIONS = 4
KILLS_A_DAY = 9
ONCE_A_RUN = (
    "before the plan",
    "after the plan",
    "edition made, not stored",
    "edition stored",
    "before the run is closed",
    "before the reports",
    "reports in the spool",
)
FIRST = date(2026, 3, 2)
ITEM = "<item><title>News of {day}</title><link>https://site.example.org/{day}</link><guid>{day}</guid><pubDate>{at}</pubDate></item>"


@dataclass
class Killer:
    """Runs the command in forks that die; `kills` counts by the name of the point, random instants as "any".

    `most` is how many mails one kill has made ambiguous at most.
    """

    project: Project
    process: "subprocess.Popen[str]"
    kills: Counter[str] = field(default_factory=Counter)
    most: int = 0

    def run(self, day: str, **how: Any) -> int:
        """Run the slot of a day; returns the exit code, -9 when it was killed."""
        arguments = ["run", "daily_email", "--date", day, "--yes", "--quiet"]
        order = {"arguments": arguments, "cwd": str(self.project.root), "env": self.project.env} | how
        before = self._ambiguous()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        code = int(json.loads(self.process.stdout.readline())["code"])
        if code == -9:
            self.most = max(self.most, self._ambiguous() - before)
            self.kills[how.get("point", "any")] += 1
        return code

    def _ambiguous(self) -> int:
        """Mails of which nobody knows, or soon nobody will."""
        file = self.project.root / "var" / "overnight.db"
        if not file.exists():
            return 0
        with closing(sqlite3.connect(file)) as connection:
            query = "SELECT count(*) FROM effect WHERE state IN ('intent', 'unknown')"
            return int(connection.execute(query).fetchone()[0])


@contextmanager
def killing(project: Project) -> Iterator[Killer]:
    process = subprocess.Popen(
        [sys.executable, str(HERE / "killing.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=project.env,
    )
    try:
        yield Killer(project, process)
    finally:
        process.kill()
        process.communicate()


def newspaper(project: Project, days: int, first: date = FIRST) -> list[str]:
    """A feed with one entry for each day; returns the days."""
    dates = [first + timedelta(days=number) for number in range(days)]
    items = "".join(ITEM.format(day=each.isoformat(), at=each.strftime("%a, %d %b %Y 01:00:00 GMT")) for each in dates)
    feed = f'<rss version="2.0"><channel><title>The Site</title><link>https://site.example.org</link>{items}</channel></rss>'
    (project.root / "content" / "feed.xml").write_text(feed, encoding="utf-8")
    project.schedule("concurrency: 20", f"concurrency: {CONNECTIONS}")
    project.schedule("window: 3d", "window: 1d")
    project.schedule("        science: [content/science.xml]\n", "")
    project.schedule("        culture: [content/culture.xml]\n", "")
    project.subscribe(*PEOPLE)
    return [each.isoformat() for each in dates]


def torment(killer: Killer, transport: str, day: str, chance: random.Random) -> None:
    """Kill the run of a day at the points that have had least of it, in the order of the path, and now and then at any.

    The last of them ends the day: a run that is over cannot be killed.
    """
    points = list(POINTS[transport])
    least = sorted(points, key=lambda name: (killer.kills[name], chance.random()))[:KILLS_A_DAY]
    for name in sorted(least, key=points.index):
        if chance.random() < 0.3 and killer.run(day, delay=chance.uniform(0.1, 0.4)) != -9:
            return
        if killer.run(day, point=name, nth=1 if name in ONCE_A_RUN else chance.randint(1, 3)) != -9:
            return


def states(project: Project, day: str) -> dict[str, str]:
    """What the ledger says of each subscriber on that day."""
    addresses = {who["id"]: who["email"] for who in project.json("subscribers", "list")}
    [run] = [run for run in project.json("runs", "-n", "1000") if run["slot"] == day][:1]
    return {addresses[item["key"]]: item["state"] for item in project.json("show", run["id"], "--all")["items"]}


def test_the_outbox_has_every_mail_exactly_once_after_a_hundred_kills(project: Project) -> None:
    days = newspaper(project, 40)
    chance = random.Random(20261122)  # noqa: S311  which instants, not which secrets
    with killing(project) as killer:
        for day in days:
            torment(killer, "outbox", day, chance)
            assert killer.run(day) == 0
            if killer.kills.total() >= 130 and set(POINTS["outbox"]) <= set(killer.kills):
                break
    done = days[: days.index(day) + 1]
    assert killer.kills.total() >= 130
    assert set(POINTS["outbox"]) | {"any"} <= set(killer.kills), "every window of the send path had its kill"

    created, rendered = Counter[str](), defaultdict[str, set[str]](set)
    for line in (project.root / BOOKS).read_text(encoding="utf-8").splitlines():
        what, name, *digest = line.split()
        if what == "created":
            created[name] += 1
        else:
            rendered[name].update(digest)
    files = {path.stem: path for path in (project.root / "var" / "outbox" / "daily_email").rglob("*.eml")}
    assert len(files) == len(done) * len(PEOPLE)
    assert set(created) <= set(files)
    assert max(created.values()) == 1, "a file is created once, not once more after somebody removed it"
    assert {len(digests) for digests in rendered.values()} == {1}, "all attempts at a mail say the same"
    for day in done:
        got = Counter(str(mail["To"]).rpartition("<")[2].rstrip(">") for mail in project.outbox(f"daily_email/{day}"))
        assert got == dict.fromkeys(PEOPLE, 1)
    assert set(states(project, done[-1]).values()) == {"ok"}


def test_over_smtp_nobody_is_lost_or_doubled_and_every_ambiguous_mail_is_named(
    project: Project, smtp: RelayBooks
) -> None:
    project.env["MAIL_URL"] = smtp.url
    project.schedule("smtp: { messages: 20/s }", "smtp: { messages: 10000/s }")
    days = newspaper(project, 40)
    chance = random.Random(11222026)  # noqa: S311
    unknown: dict[str, set[str]] = {}
    with killing(project) as killer:
        for day in days:
            torment(killer, "smtp", day, chance)
            assert killer.run(day) in (0, 3)
            found = states(project, day)
            assert set(found) == set(PEOPLE)
            assert set(found.values()) <= {"ok", "unknown"}
            unknown[day] = {who for who, state in found.items() if state == "unknown"}
            if killer.kills.total() >= 70 and set(POINTS["smtp"]) <= set(killer.kills):
                break
    assert killer.kills.total() >= 70
    assert 0 < killer.most <= CONNECTIONS, "no more are ambiguous by a kill than there were connections"
    assert set(POINTS["smtp"]) | {"any"} <= set(killer.kills)

    mails = [mail for mail in smtp.mails() if mail["X-Recipient"] in PEOPLE]
    assert max(Counter(str(mail["Message-ID"]) for mail in mails).values()) == 1, "nothing is doubled"
    got = defaultdict[str, set[str]](set)
    for mail in mails:
        got[str(mail["Subject"])].add(str(mail["X-Recipient"]))
    assert len(got) == len(unknown), "one edition a day"
    for (subject, people), (day, parked) in zip(
        sorted(got.items(), key=lambda pair: pair[0]), unknown.items(), strict=True
    ):
        assert day in subject
        assert set(PEOPLE) - people <= parked, f"who has nothing of {day} is named"
