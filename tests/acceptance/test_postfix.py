"""A mailing through a real mail server: who cannot be reached is known, at once or by what comes back."""

import os

import pytest

from tests.acceptance.conftest import Project, wait_until
from tests.acceptance.postfix import PROGRAM, postfix

pytestmark = pytest.mark.slow

KNOWN = [f"reader{number}@readers.example" for number in range(900)]
UNKNOWN = [f"nobody{number}@readers.example" for number in range(50)]  # refused at once
GONE = [f"gone{number}@gone.example" for number in range(30)]  # taken, and returned
FULL = [f"full{number}@full.example" for number in range(20)]
JOB = '''
"""A letter to everybody."""

from overnight import Run, Subscriber, active_subscribers, job


@job(items=active_subscribers, key=lambda subscriber: subscriber.id, concurrency=20)
async def letter(subscriber: Subscriber, run: Run) -> str:
    return await run.mail.send(subscriber, "letter")
'''


def prepared(project: Project, url: str) -> None:
    project.env["MAIL_URL"] = f"{url}?connections=10"
    project.schedule("# bounces_to: bounces@example.org", "bounces_to: bounces@example.org")
    project.schedule("smtp: { messages: 20/s }", "smtp: { messages: 10000/s }")
    project.schedule("jobs: #", 'jobs:\n  letter: { at: "07:00" }\n  #')
    (project.root / "jobs" / "letter.py").write_text(JOB, encoding="utf-8")
    (project.root / "templates" / "letter.subject.j2").write_text("Your letter of {{ slot }}", encoding="utf-8")
    (project.root / "templates" / "letter.txt.j2").write_text(
        "Good morning.\n{{ unsubscribe_url }}\n", encoding="utf-8"
    )
    project.subscribe(*KNOWN, *UNKNOWN, *GONE, *FULL)


@pytest.mark.skipif(not PROGRAM, reason="Debian's package postfix is not installed")
@pytest.mark.skipif(os.getuid() != 0, reason="Postfix is started by root only")
def test_a_thousand_mails_and_who_cannot_be_reached_is_left_alone_the_next_day(project: Project) -> None:
    with postfix(KNOWN) as relay:
        prepared(project, relay.url)
        day = project.json("run", "letter", "--date", "2026-11-22", "--yes", code=3)
        assert day["items"] == {"total": 1000, "ok": 950, "failed": 50, "retry": 0, "skipped": 0, "unknown": 0}
        assert {error["error_code"] for error in day["errors"]} == {"smtp_550"}
        wait_until(lambda: len(relay.delivered()) == len(KNOWN), "the mails to be delivered")
        wait_until(lambda: len(list(relay.bounces.glob("new/*"))) == len(GONE + FULL), "the others to come back")
        (relay.bounces / "new" / "1.greeting.test").write_text("Subject: Re: hello\n\nI am away.\n", encoding="utf-8")

        said = project.json("bounces", str(relay.bounces))
        counts = {kind: said[kind] for kind in ("read", "hard", "soft", "unclear", "again")}
        assert counts == {"read": 51, "hard": len(GONE), "soft": len(FULL), "unclear": 1, "again": 0}
        assert [path.name for path in relay.bounces.glob(".Unclear/cur/*")] == ["1.greeting.test"]
        assert project.json("bounces", str(relay.bounces))["read"] == 0, "what was counted is out of the way"
        people = {who["email"]: who for who in project.json("subscribers", "list")}
        assert {email for email, who in people.items() if who["status"] == "suppressed"} == {*UNKNOWN, *GONE}
        assert {people[email]["reason"] for email in (*UNKNOWN, *GONE)} == {"bounced 5.1.1"}
        assert {who["id"] for email, who in people.items() if email in GONE} == set(said["suppressed"])

        following = project.json("run", "letter", "--date", "2026-11-23", "--yes")
        assert following["items"]["total"] == following["items"]["ok"] == len(KNOWN + FULL)
        wait_until(lambda: len(relay.delivered()) == 2 * len(KNOWN), "the second day's mails")
        log = (relay.home / "log").read_text(encoding="utf-8")
        assert log.count("@gone.example>, relay=127.0.0.1") == len(GONE), "nobody is tried there again"
        assert log.count("User unknown") == len(UNKNOWN)
