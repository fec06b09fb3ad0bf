"""A feed of the real world, read on three days in a row: each edition brings what none has brought before."""

import os
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project, RelayBooks, text_of

pytestmark = pytest.mark.slow

DATA = Path(os.environ.get("OVERNIGHT_SHARED_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data")
FEED = DATA / "feeds" / "defined-misbehaviour.atom.xml"

PEOPLE = [f"{name}@example.org" for name in ("ada", "bela", "chiara", "dmitri")]
TITLES = {  # of all entries; the newest was published at 07:00:00 UTC of its day
    "jetbrains": "JetBrains IDE Remote Code Execution and Local File Disclosure",
    "clipboard": "Leaking Clipboard Contents With Flash: Let's Explore User-Initiated Actions!",
    "yahoo again": "Seizing Control of Yahoo! Mail Cross-Origin... Again",
    "reddit": "Spooky Sanitization Stories: Analyzing the XSS Flaw in Reddit Enhancement Suite",
    "pets": "Yahoo's Pet Show of Horrors: Leaking a User's Emails Crossdomain",
    "smell": "What's That Smell? Sniffing Cross-origin Frame Content in Firefox Using Timing Attacks",
    "jar": "Bypassing RequestPolicy's Whitelist Using the Jar: URI Scheme",
    "noscript": "Abusing NoScript's Global Whitelist Rules to Reveal Trusted Sites (the Easy Way)",
}


def _brought(text: str) -> set[str]:
    words = " ".join(text.split())
    return {name for name, title in TITLES.items() if title in words}


@pytest.mark.skipif(not FEED.exists(), reason=f"the feed is not at {FEED}; name its folder in OVERNIGHT_SHARED_DATA")
def test_three_days_of_a_real_feed(project: Project, smtp: RelayBooks) -> None:
    project.env["MAIL_URL"] = smtp.url
    project.schedule("timezone: Europe/Paris", "timezone: UTC")
    project.schedule("feeds: []", f'feeds: ["{FEED.resolve()}"]')
    project.schedule("window: 3d", "window: 400d")
    project.schedule("        city: [content/feed.xml]\n", "")
    project.schedule("        science: [content/science.xml]\n", "")
    project.schedule("      topics: #", "      topics: {} #")
    project.schedule("        culture: [content/culture.xml]\n", "")
    project.subscribe(*PEOPLE)
    smtp.rules(refuse={PEOPLE[0]: "552 5.2.2 Mailbox full"})  # a 5.1.1 would take it off the list

    first = project.json("run", "daily_email", "--date", "2016-08-15", "--yes", code=3)
    assert first["items"] == {"total": 4, "ok": 3, "failed": 1, "retry": 0, "skipped": 0, "unknown": 0}
    smtp.rules()
    second = project.json("run", "daily_email", "--date", "2016-08-16", "--yes")
    assert second["items"] == {"total": 4, "ok": 4, "failed": 0, "retry": 0, "skipped": 0, "unknown": 0}
    third = project.json("run", "daily_email", "--date", "2016-08-17", "--yes")
    assert third["items"] == {"total": 4, "ok": 0, "failed": 0, "retry": 0, "skipped": 4, "unknown": 0}
    assert {item["reason"] for item in project.states("daily_email").values()} == {"no news"}

    editions = _editions(smtp)
    assert editions == {who: [{"clipboard"}, {"jetbrains"}] for who in PEOPLE[1:]} | {PEOPLE[0]: [{"jetbrains"}]}

    count = smtp.count()
    for slot in ("2016-08-15", "2016-08-16", "2016-08-17"):
        said = project.run("run", "daily_email", "--date", slot, "--yes")
        assert (said.code, "nothing to do" in said.out) == (0, True), said.text
    assert smtp.count() == count

    assert project.json("retry", first["run_id"], "--yes")["items"]["total"] == 1
    assert _editions(smtp)[PEOPLE[0]] == [{"jetbrains"}, {"clipboard"}], "the edition of the 15th, which it had missed"
    assert sum(len(editions) for editions in _editions(smtp).values()) == 2 * len(PEOPLE)


def _editions(smtp: RelayBooks) -> dict[str, list[set[str]]]:
    """What each subscriber has read, by titles in the delivered bytes."""
    found: dict[str, list[set[str]]] = {}
    for mail in smtp.mails():
        if mail["X-Recipient"] in PEOPLE:
            found.setdefault(str(mail["X-Recipient"]), []).append(_brought(text_of(mail)))
    return found
