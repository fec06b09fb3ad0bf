"""Building the daily mail of 20 stories for each of many readers, ours and the plain way in turn.

`python bench/letters.py COUNT ROUNDS` prints one JSON document: microseconds of processor time for one message. Ours is
`Mailer.letter`: address check, links, return path and headers of each reader, filled into the form of the edition. The
plain way is the program one would write without it: Jinja2, css-inline and EmailMessage for each reader, with the same
templates and the same headers.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from css_inline import CSSInliner
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from overnight import Subscriber, project
from overnight.clock import SystemClock
from overnight.effects import Effects
from overnight.ledger import Ledger
from overnight.mail import Mailer, MailSettings
from overnight.mail.message import mailto, message_id
from overnight.mail.templates import day, one_line, safe_url
from overnight.mail.verp import leaving_subject, return_path
from overnight.outcome import Scope
from overnight.tokens import Tokens

ROOT = Path(__file__).parents[1]
SECRET = b"the secret of a bench"
SLOT = "2026-11-22"
PUBLIC = "https://news.example.org"


def edition() -> Any:
    """Twenty stories as the feeds of a town give them."""
    project.attach(ROOT)
    from jobs.daily_email import Edition, Story  # noqa: PLC0415  of the project

    why = "The night lines leave the station every fifteen minutes from December on, which is twice as often as today."
    stories = [
        Story(
            id=f"story-{n}",
            title=f"Night buses run every {n} minutes, and the “owl” returns",
            url=f"https://site.example.org/city/night-buses-{n}?from=mail&n={n}",
            why=why,
            topic="city",
            feed="The Site: City",
            published="2026-11-21T18:30:00.000Z",
        )
        for n in range(20)
    ]
    return Edition("Night buses, a comet and eighteen more", "Twenty stories this morning.", stories, "model")


def readers(count: int) -> list[Subscriber]:
    names = ("Ada Brandt", "Béla Kovács", "", "李雷", "O'Neill, Jo")
    return [Subscriber(f"s_{n:016x}", f"reader{n}@mail{n % 50}.example.com", names[n % 5]) for n in range(count)]


def ours(folder: Path) -> Callable[[Subscriber], bytes]:
    clock = SystemClock()
    ledger = Ledger.open("sqlite:///bench.db", root=folder, clock=clock)
    mailer = Mailer.open(
        MailSettings(
            "outbox:outbox", "The Site <news@example.org>", "unsubscribe@example.org", PUBLIC,
            bounces_to="bounces@example.org",
        ),
        root=ROOT, secret=SECRET, effects=Effects(ledger, clock), ledger=ledger, clock=clock, zone=UTC,
    )  # fmt: skip
    made = edition()

    def build(to: Subscriber) -> bytes:
        return mailer.letter(Scope("daily_email", SLOT, to.id, "r_1"), to, "daily_email", {"edition": made}).data

    return build


def plain() -> Callable[[Subscriber], bytes]:
    environment = Environment(
        loader=FileSystemLoader(ROOT / "templates"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),  # noqa: S701
    )  # fmt: skip
    environment.filters.update(safe_url=safe_url, one_line=one_line, day=day)
    subject, text, html = (environment.get_template(f"daily_email.{kind}.j2") for kind in ("subject", "txt", "html"))
    inliner = CSSInliner(keep_style_tags=False, keep_at_rules=True)
    tokens = Tokens(SECRET, SystemClock())
    made = edition()

    def build(to: Subscriber) -> bytes:
        page = tokens.unsubscribe_url(PUBLIC, to.id)
        leave = mailto("unsubscribe@example.org", leaving_subject(SECRET, to.id))
        context = {
            "edition": made, "to": to, "slot": SLOT, "site": "The Site", "public_url": PUBLIC, "archive_url": "",
            "unsubscribe_url": page, "unsubscribe_mailto": leave,
        }  # fmt: skip
        message = EmailMessage(policy=SMTP)
        message["From"] = "The Site <news@example.org>"
        message["To"] = f'"{to.name}" <{to.email}>' if to.name else to.email
        message["Subject"] = subject.render(context)
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = message_id(SECRET, Scope("daily_email", SLOT, to.id, "r_1"), "d", to.id, "example.org")
        message["List-Id"] = "<daily-email.example.org>"
        message["List-Unsubscribe"] = f"<{page}>, <{leave}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        message["Precedence"] = "bulk"
        message["X-Return-Path"] = return_path(SECRET, "bounces@example.org", to.id)
        message.set_content(text.render(context))
        message.add_alternative(inliner.inline(html.render(context)), subtype="html")
        return message.as_bytes()

    return build


def microseconds(build: Callable[[Subscriber], bytes], people: list[Subscriber]) -> float:
    started = time.process_time()
    size = sum(len(build(one)) for one in people)
    took = time.process_time() - started
    assert size > 20_000 * len(people), "a message of this size was asked for"
    return took / len(people) * 1e6


def main(count: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        fast, slow = ours(Path(folder)), plain()
        many, few = readers(count), readers(max(20, count // 20))
        rows = [(microseconds(fast, many), microseconds(slow, few)) for _ in range(rounds)]
    mine, theirs = (statistics.median(column) for column in zip(*rows, strict=True))
    ratio = statistics.median(slow / fast for fast, slow in rows)
    print(json.dumps({"ours_us": round(mine, 1), "plain_us": round(theirs, 1), "ratio": round(ratio, 1)}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4_000, int(sys.argv[2]) if len(sys.argv) > 2 else 5)
