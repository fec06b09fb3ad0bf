"""What `/api/health` says: is somebody needed, and why."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import update

from overnight.alerts import firing
from overnight.clock import Clock, iso
from overnight.ledger import Ledger
from overnight.ledger.flow import Held, held
from overnight.ledger.runs import held_leases
from overnight.ledger.tables import meta

Status = Literal["healthy", "degraded", "unhealthy"]
RANK: Mapping[Status, int] = {"healthy": 0, "degraded": 1, "unhealthy": 2}
PATIENCE = 2.0  # seconds a check may take: a locked ledger is an answer, not a reason to hang
HEARTBEAT = timedelta(minutes=3)  # three rounds of the dispatcher
RECENT = timedelta(hours=1)  # a run that fell silent earlier has an alert of its own by now
LOW_DISK = 200 * 1024 * 1024  # bytes

Check = Callable[[], Awaitable[tuple[Status, str]]]


async def health(
    ledger: Ledger,
    clock: Clock,
    root: Path,
    looked_at: Callable[[], datetime | None],
    problem: Callable[[], str | None],
) -> dict[str, Any]:
    """`{status, timestamp, checks, dependencies}`; the status is the worst of the checks. Takes two seconds at most.

    `dependencies` are those that no run asks now: `{name, state, until}`, named by their hosts.
    """
    left_alone: list[Held] = []

    async def heartbeat() -> tuple[Status, str]:
        last = looked_at()
        if last is None:
            return "healthy", "first round is under way"
        age = clock.now() - last
        seen = f"looked {age.total_seconds():.0f} s ago"
        return ("healthy" if age < HEARTBEAT else "unhealthy"), seen

    async def writable() -> tuple[Status, str]:
        await ledger.write(
            lambda connection: connection.execute(update(meta).where(meta.c.name == "-").values(value=""))
        )
        return "healthy", "can be written"

    async def disk() -> tuple[Status, str]:
        free = shutil.disk_usage(root).free
        return ("healthy" if free > LOW_DISK else "degraded"), f"{free // 1024**2} MB free"

    async def alarms() -> tuple[Status, str]:
        rows = await ledger.read(firing)
        return ("degraded" if rows else "healthy"), ", ".join(row["key"] for row in rows) or "none"

    async def others() -> tuple[Status, str]:
        left_alone.extend(await ledger.read(held, clock.now()))
        down = any(one.down for one in left_alone)
        return ("degraded" if down else "healthy"), ", ".join(map(str, left_alone)) or "none is left alone"

    async def schedule() -> tuple[Status, str]:
        return ("degraded" if problem() else "healthy"), problem() or "in force"

    checks: dict[str, Check] = {
        "scheduler": heartbeat,
        "schedule": schedule,
        "ledger": writable,
        "disk": disk,
        "alerts": alarms,
        "dependencies": others,
        "runs": partial(_runs, ledger, clock),
    }
    told = dict(zip(checks, await asyncio.gather(*(_patiently(check) for check in checks.values())), strict=True))
    worst = max((status for status, _ in told.values()), key=RANK.__getitem__)
    return {
        "status": worst,
        "timestamp": iso(clock.now()),
        "checks": {name: {"status": status, "output": output} for name, (status, output) in told.items()},
        "dependencies": [{"name": one.name, "state": one.state, "until": iso(one.until)} for one in left_alone],
    }


async def _runs(ledger: Ledger, clock: Clock) -> tuple[Status, str]:
    now, rows = clock.now(), await ledger.read(held_leases)
    silent = [f"{row['job']} {row['slot']}" for row in rows if now - RECENT < row["until"] <= now]
    return ("degraded", f"died or blocked: {', '.join(silent)}") if silent else ("healthy", f"{len(rows)} going on")


async def _patiently(check: Check) -> tuple[Status, str]:
    try:
        async with asyncio.timeout(PATIENCE):
            return await check()
    except TimeoutError:
        return "unhealthy", f"no answer within {PATIENCE:g} s"
    except Exception as error:  # noqa: BLE001  its text could name paths or addresses
        return "unhealthy", type(error).__name__
