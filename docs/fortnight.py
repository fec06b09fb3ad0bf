"""Fill the ledger of a new project with thirteen made-up nights, for the pictures: fortnight.py FOLDER."""

import sys
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, insert

from overnight.clock import SystemClock
from overnight.histogram import bucket_of
from overnight.ledger import Ledger
from overnight.ledger.controls import budget
from overnight.ledger.rollups import spend, trouble
from overnight.ledger.tables import histogram, run, slot

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
NIGHTS = (41, 44, 39, 52, 47, 20, 22, 48, 55, 61, 58, 24, 30)  # cents, the oldest first
DEAREST = 10**9  # nano-USD a day


def night(connection: Connection, at: datetime, cents: int, code: str) -> None:
    day = at.date().isoformat()
    for job, items, share, what in (("daily_email", 1204, 3, "smtp_550"), ("nightly_agents", 57, 7, code)):
        failed = cents % 7 + (code == "http_404" and job == "nightly_agents")
        id_ = f"r_{day}_{job}"
        counts = {"ok": items - failed, "failed": failed}
        common = {"job": job, "slot": day, "day": day, "scheduled_for": at}
        connection.execute(insert(slot).values(**common, **counts, created_at=at, planned_at=at))
        ended = at + timedelta(minutes=share * 4)
        row = {"id": id_, "kind": "scheduled", "status": "partial", "started_at": at, "ended_at": ended, "items": items}
        made = {"worker_id": "sample", "code_version": "sample", "config_hash": "sample"}
        nano = cents * share * 10**6
        connection.execute(insert(run).values(**common, **row, **made, **counts, cost_nano=nano))
        for model, part in ((HAIKU, nano // 4), (SONNET, nano - nano // 4)):
            sums = {"calls": 9, "input_tokens": 400_000, "cache_read_tokens": 900_000, "cost_nano": part}
            where = {"run_id": id_, "budget_day": day, "role": "editor", "model": model, "job": job, "slot": day}
            connection.execute(insert(spend).values(**where, **sums, naive_nano=4 * part, wasted_nano=part // 40))
        connection.execute(insert(histogram).values(run_id=id_, bucket=bucket_of(900 * share), n=items))
        bounced = {"error_class": "permanent", "error_code": what, "n": failed, "first_at": at, "last_at": at}
        connection.execute(insert(trouble).values(job=job, slot=day, **bounced))
    connection.execute(insert(budget).values(scope=f"day:{day}", cap_nano=DEAREST, settled_nano=cents * 10**7))


def main(folder: Path) -> None:
    ledger = Ledger.open("sqlite:///var/overnight.db", root=folder)
    last = SystemClock().now() - timedelta(days=1)  # the night of today is run
    for back, cents in enumerate(reversed(NIGHTS)):
        at, code = last - timedelta(days=back), "refusal" if back else "http_404"
        ledger.writing(lambda c, at=at, cents=cents, code=code: night(c, at, cents, code))
    ledger.close()


main(Path(sys.argv[1]))
