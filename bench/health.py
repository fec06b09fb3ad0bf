"""How fast `/api/health` answers while a batch runs at full speed on the same ledger.

Starts `overnight serve` in a small project, then `overnight run` over many no-op items, and asks until the run is over:
one question at a time, as a load balancer does. Prints p50 and p99 in ms, the worst, and how often it asked, as JSON.
"""

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

OVERNIGHT = str(Path(sys.executable).parent / "overnight")
SCHEDULE = 'version: 1\njobs: { many: { at: "02:30" } }\n'
JOB = """from overnight import Run, job


@job(items=lambda _run: [str(n) for n in range(COUNT)], concurrency=100)
async def many(name: str, run: Run) -> None:
    return None
"""


def main(count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "jobs").mkdir()
        (root / "schedule.yaml").write_text(SCHEDULE)
        (root / "jobs" / "many.py").write_text(JOB.replace("COUNT", str(count)))
        quiet = {"cwd": root, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([OVERNIGHT, "serve", "--port", "0"], **quiet) as serve:  # type: ignore[call-overload]
            url = served(root)
            asked(url)  # imports and caches
            with subprocess.Popen([OVERNIGHT, "-q", "run", "many"], **quiet) as run:  # type: ignore[call-overload]
                took = []
                while run.poll() is None:
                    took.append(asked(url))
            serve.terminate()
    took.sort()
    return {
        "p50_ms": took[len(took) // 2],
        "p99_ms": took[int(len(took) * 0.99)],
        "worst_ms": took[-1],
        "asked": len(took),
    }


def served(root: Path) -> str:
    log = root / "var" / "log" / "overnight.jsonl"
    while True:
        for line in log.read_text().splitlines() if log.exists() else []:
            if '"serving"' in line:
                return str(json.loads(line)["url"])
        time.sleep(0.1)


def asked(url: str) -> float:
    """Milliseconds until the answer is read."""
    started = time.perf_counter()
    with urllib.request.urlopen(f"{url}/api/health", timeout=30) as answer:  # noqa: S310
        answer.read()
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
