"""A mailing from the subscribers in the ledger to a relay that takes everything, beside what a user would write.

`python bench/mailing.py ours|plain|source COUNT PORT` sends COUNT mails of 20 kB over ten connections to `smtp-sink` on
PORT and prints one JSON document. `ours` is the job `daily_email` of a new project with its edition given: planned,
checked against the list, set, an intent before and a result after each mail, recorded and reported. `plain` renders the
same templates with Jinja2, builds an EmailMessage, sends it with aiosmtplib over ten kept connections, and commits
a row for each mail; it does nothing about crashes, bounces or limits. `source` is smtp-source of Postfix, in C.
"""

import asyncio
import csv
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiosmtplib
from figures import told
from jinja2 import Environment, FileSystemLoader

from overnight.mail.templates import day, one_line, safe_url

ROOT = Path(__file__).parents[1]
OVERNIGHT = Path(sys.executable).with_name("overnight")
CONNECTIONS, WORKERS = 10, 40
DAY = "2026-11-22"
JOB = '''
"""The digest with its edition given: what is measured is the mailing."""

import json
from pathlib import Path

from overnight import Run, Subscriber, active_subscribers, job

from jobs.daily_email import Edition, Story


async def edition(run: Run) -> Edition:
    given = json.loads((run.root / "edition.json").read_text())
    return Edition(**given | {"stories": [Story(**story) for story in given["stories"]]})


@job(items=active_subscribers, key=lambda subscriber: subscriber.id, concurrency=WORKERS)
async def mailing(subscriber: Subscriber, run: Run) -> str:
    return await run.mail.send(subscriber, "daily_email", edition=await run.once(edition))
'''


@dataclass(frozen=True)
class Story:
    """One story of the edition."""

    id: str
    title: str
    url: str
    why: str
    topic: str
    feed: str
    published: str


def edition() -> dict[str, Any]:
    """Fifteen stories: about 20 kB a mail."""
    why = "The council pays for it with the parking fees of the old town; the new timetable hangs at every stop. " * 2
    stories = [
        Story(f"s{n}", f"Night buses run every {n} minutes from December", f"https://site.example.org/city/{n}", why,
              "city", "The Site", "2026-11-21T18:30:00Z")
        for n in range(15)
    ]  # fmt: skip
    return {"subject": "Night buses, and 14 more", "intro": "15 new stories.", "source": "model",
            "stories": [asdict(story) for story in stories]}  # fmt: skip


def project(folder: Path, count: int, port: int) -> None:
    """A new project with so many subscribers that mails through the relay on this port."""
    call(folder.parent, "init", str(folder))
    text = (folder / "schedule.yaml").read_text(encoding="utf-8")
    text = text.replace("smtp: { messages: 20/s }", "smtp: { messages: 1000000/s }")
    text = text.replace("jobs: #", "jobs:\n  mailing: { at: '07:00', timeout: 12h }\n  #")
    (folder / "schedule.yaml").write_text(text, encoding="utf-8")
    (folder / "jobs" / "mailing.py").write_text(JOB.replace("WORKERS", str(WORKERS)).lstrip(), encoding="utf-8")
    (folder / "edition.json").write_text(json.dumps(edition()), encoding="utf-8")
    (folder / ".env").write_text(f"MAIL_URL=smtp://127.0.0.1:{port}?connections={CONNECTIONS}\n", encoding="utf-8")
    with (folder / "people.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["email", "name"])
        rows.writerows([f"reader{n}@example.org", f"Reader {n}"] for n in range(count))
    call(folder, "subscribers", "import", "people.csv")


def call(folder: Path, *arguments: str) -> Any:
    """Call the command; its document."""
    command = [str(OVERNIGHT), "--quiet", "--json", *arguments]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return json.loads(done.stdout) if done.stdout.strip() else {}


def ours(folder: Path, count: int, port: int) -> tuple[float, dict[str, float]]:
    project(folder / "site", count, port)
    before = cpu(resource.RUSAGE_CHILDREN)
    document = call(folder / "site", "run", "mailing", "--date", DAY, "--yes")
    assert document["items"]["ok"] == count, document
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return float(document["duration_s"]), {"peak_mib": peak, "cpu": cpu(resource.RUSAGE_CHILDREN) - before}


def cpu(whose: int) -> float:
    """Seconds of processor time."""
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


async def send_plainly(folder: Path, count: int, port: int) -> None:
    environment = Environment(loader=FileSystemLoader(ROOT / "templates"), autoescape=True, auto_reload=False)
    environment.filters.update(day=day, one_line=one_line, safe_url=safe_url)
    parts = [environment.get_template(f"daily_email.{kind}.j2") for kind in ("subject", "txt", "html")]
    ledger = sqlite3.connect(folder / "plain.db")
    ledger.execute("pragma journal_mode=wal")
    ledger.execute("pragma synchronous=full")
    ledger.execute("create table sent (id text primary key, message_id text, at real)")
    content, numbers = edition(), iter(range(count))

    async def worker() -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False) as relay:
            for n in numbers:
                mail = message(parts, content, n)
                await relay.send_message(mail)
                ledger.execute("insert into sent values (?, ?, ?)", (f"s{n}", mail["Message-ID"], time.time()))
                ledger.commit()

    await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
    assert ledger.execute("select count(*) from sent").fetchone() == (count,)
    ledger.close()


def message(parts: list[Any], content: dict[str, Any], n: int) -> EmailMessage:
    """One mail, as the documentation of the standard library builds it."""
    to = {"id": f"s{n}", "name": f"Reader {n}", "email": f"reader{n}@example.org"}
    unsubscribe = f"mailto:unsubscribe@example.org?subject=unsubscribe%20s{n}"
    context = {
        "edition": content, "to": to, "site": "The Site", "slot": DAY, "public_url": "http://127.0.0.1:8650",
        "unsubscribe_mailto": unsubscribe, "unsubscribe_url": "", "unsubscribe": unsubscribe, "archive_url": "",
    }  # fmt: skip
    subject, text, html = (part.render(context) for part in parts)
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "The Site <news@example.org>", to["email"], subject.strip()
    mail["Message-ID"] = f"<{n}.{os.getpid()}@example.org>"
    mail["List-Unsubscribe"] = f"<{unsubscribe}>"
    mail.set_content(text)
    mail.add_alternative(html, subtype="html")
    return mail


def plain(folder: Path, count: int, port: int) -> tuple[float, dict[str, float]]:
    started = time.perf_counter()
    asyncio.run(send_plainly(folder, count, port))
    return time.perf_counter() - started, {"cpu": cpu(resource.RUSAGE_SELF)}


def source(folder: Path, count: int, port: int) -> tuple[float, dict[str, float]]:
    del folder
    program = shutil.which("smtp-source", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/postfix/sbin")
    assert program, "smtp-source is part of Debian's package postfix"
    started = time.perf_counter()
    command = [program, "-d", "-s", str(CONNECTIONS), "-m", str(count), "-l", "20000", "-t", "a@example.org"]
    subprocess.run([*command, f"127.0.0.1:{port}"], check=True)
    return time.perf_counter() - started, {}


def main(what: str, count: int, port: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        seconds, more = {"ours": ours, "plain": plain, "source": source}[what](Path(name), count, port)
    told(seconds, **more)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
