"""A process that only waits: the bare APScheduler with one job, or what `overnight serve` costs beside it.

`idle.py bare SECONDS` is that process; `idle.py measure KIND SECONDS` starts one (bare, serve), lets it settle, and
prints its memory and processor time per hour as JSON.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTLE = 70.0  # seconds after the start that are not measured: the first rounds import what they need
SCHEDULE = 'version: 1\njobs: { nightly: { at: "02:30" } }\n'
JOB = "from overnight import Run, job\n\n\n@job\nasync def nightly(slot: str, run: Run) -> None:\n    return None\n"


async def bare(seconds: float) -> None:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler  # noqa: PLC0415

    scheduler = AsyncIOScheduler()
    scheduler.add_job(print, "cron", hour=2, minute=30)
    scheduler.start()
    await asyncio.sleep(seconds)


def cpu(pid: int) -> float:
    """Seconds of processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def measured(kind: str, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "jobs").mkdir()
        (root / "schedule.yaml").write_text(SCHEDULE)
        (root / "jobs" / "nightly.py").write_text(JOB)
        serve = [str(Path(sys.executable).parent / "overnight"), "serve", "--port", "0"]
        alone = [sys.executable, __file__, "bare", str(seconds + 2 * SETTLE)]
        with subprocess.Popen(
            serve if kind == "serve" else alone, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            time.sleep(SETTLE)
            before = cpu(process.pid)
            time.sleep(seconds)
            used = cpu(process.pid) - before
            rss = int(Path(f"/proc/{process.pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024
            process.terminate()
    return {"mib": rss, "cpu_s_per_hour": used / seconds * 3600}


if __name__ == "__main__":
    if sys.argv[1] == "bare":
        asyncio.run(bare(float(sys.argv[2])))
    else:
        print(json.dumps(measured(sys.argv[2], float(sys.argv[3]))))
