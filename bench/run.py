"""Print what the engine costs beside what the machine allows, measured in the same minutes; see README.md.

`--quick` leaves out the million items. Takes about fifteen minutes otherwise.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
OVERNIGHT = Path(sys.executable).parent / "overnight"
PROJECT = {
    "schedule.yaml": 'version: 1\njobs:\n  hello: { at: "07:00" }\n',
    "jobs/__init__.py": "",
    "jobs/hello.py": (
        '"""Say hello."""\n\nfrom overnight import Run, job\n\n\n'
        "@job\nasync def hello(slot: str, run: Run) -> str:\n    return f'hello {slot}'\n"
    ),
}


@dataclass(frozen=True)
class Row:
    """One line of the table; `goal` is a bound of `value`, which is the ratio where there is one. Some have none."""

    measure: str
    ours: str
    limit: str
    ratio: str
    value: float
    goal: str

    def cells(self) -> tuple[str, ...]:
        if not self.goal:
            return (self.measure, self.ours, self.limit, self.ratio, "none")
        sign, bound = self.goal.split()[:2]
        met = self.value >= float(bound) if sign == "≥" else self.value <= float(bound)
        return (self.measure, self.ours, self.limit, self.ratio, f"{self.goal} {'met' if met else 'MISSED'}")


def figures(program: str, *arguments: object) -> dict[str, float]:
    """Run one measured program in a process of its own."""
    command = [sys.executable, str(HERE / program), *map(str, arguments)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def seconds(program: str, *arguments: object) -> float:
    return figures(program, *arguments)["seconds"]


def wall(command: list[str], folder: Path) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def medians(rounds: int, measures: Iterable[Callable[[], float]]) -> list[float]:
    """Measure in turn, round by round: whatever disturbs the machine disturbs all of them."""
    each = list(measures)
    rows = [[measure() for measure in each] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def outcomes(count: int = 50_000, rounds: int = 5) -> list[Row]:
    ran = [
        (
            figures("ours.py", "outcomes", count),
            seconds("bare.py", "outcomes", count),
            seconds("bare.py", "single", 2_000),
        )
        for _ in range(rounds)
    ]
    ours, bare, single = (
        statistics.median(each) for each in zip(*((a["seconds"], b, c) for a, b, c in ran), strict=True)
    )
    p99 = statistics.median(each[0]["p99_ms"] for each in ran)
    rate, alone = count / ours, 2_000 / single
    shown = (f"{rate:,.0f}/s", f"{count / bare:,.0f}/s", f"{bare / ours:.2f}")
    return [
        Row(f"durable outcomes, 100 waiting workers ({count:,})", *shown, bare / ours, "≥ 0.35"),
        Row(
            "the same, against a commit for each row",
            shown[0],
            f"{alone:,.0f}/s",
            f"{rate / alone:.1f}",
            rate / alone,
            "≥ 5",
        ),
        Row("until an outcome is durable, p99", f"{p99:.1f} ms", f"{single / 2:.2f} ms", "", p99, ""),
    ]


def resumed(count: int = 100_000, rounds: int = 3) -> list[Row]:
    [took] = medians(rounds, [lambda: seconds("ours.py", "resume", count)])
    return [Row(f"first item of a killed run of {count:,}", f"{took:.2f} s", "", "", took, "≤ 2 s")]


def bookkeeping(count: int = 100_000, rounds: int = 3) -> list[Row]:
    quiet, logged, bare = medians(
        rounds,
        [
            lambda: seconds("ours.py", "whole", count, "warning"),
            lambda: seconds("ours.py", "whole", count, "info"),
            lambda: seconds("bare.py", "whole", count),
        ],
    )
    named = [("no log", quiet, "≤ 6"), ("two log lines each", logged, "≤ 14")]
    return [
        Row(
            f"one no-op item of {count:,}, {name}",
            f"{took / count * 1e6:.1f} us",
            f"{bare / count * 1e6:.1f} us",
            f"{took / bare:.1f}",
            took / bare,
            goal,
        )
        for name, took, goal in named
    ]


def memory(large: int, rounds: int = 3) -> list[Row]:
    def peak(count: int) -> float:
        return figures("ours.py", "whole", count)["peak_mib"]

    [small] = medians(rounds, [lambda: peak(10_000)])
    big = peak(large)
    shown = (f"{big:.1f} MiB", f"{small:.1f} MiB", f"{big / small:.2f}")
    return [Row(f"peak memory of {large:,} items, against 10,000", *shown, big - small, "≤ 10 MiB more")]


def reports(large: int, rounds: int = 3) -> list[Row]:
    """The day is recorded once; both have to come to the same numbers."""
    with tempfile.TemporaryDirectory() as folder:
        figures("day.py", "fill", folder, large)
        ran = [[figures("day.py", who, folder) for who in ("ours", "pandas")] for _ in range(rounds)]
    assert all(ours[name] == plain[name] for ours, plain in ran for name in ("failed", "cost_nano"))
    took, rows = (statistics.median(each[n]["seconds"] for each in ran) for n in (0, 1))
    peak, large_peak = (statistics.median(each[n]["peak_mib"] for each in ran) for n in (0, 1))
    shown = (f"{took:.2f} s", f"{rows:.2f} s", f"{rows / took:.1f}")
    mib = (f"{peak:.0f} MiB", f"{large_peak:.0f} MiB", f"{large_peak / peak:.1f}")
    return [
        Row(f"reports of a day of {large:,} items", *shown, rows / took, "≥ 10"),
        Row("their peak memory, that of all items included", *mib, peak, "≤ 200 MiB"),
    ]


def events(rounds: int = 5) -> list[Row]:
    kinds = {"quiet": "≤ 3", "telling": "≤ 8", "mixed": "≤ 3.5"}
    measures = [
        lambda who=who, kind=kind: seconds("redaction.py", who, kind) for kind in kinds for who in ("ours", "plain")
    ]
    took = medians(rounds, measures)
    return [
        Row(
            f"a log event, {kind}",
            f"{ours * 1e6:.1f} us",
            f"{bare * 1e6:.1f} us",
            f"{ours / bare:.1f}",
            ours / bare,
            goal,
        )
        for (kind, goal), ours, bare in zip(kinds.items(), took[::2], took[1::2], strict=True)
    ]


@contextmanager
def model_server() -> Iterator[str]:
    command = [sys.executable, str(HERE / "calls.py"), "server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def calls(rounds: int = 5) -> list[Row]:
    """CPU at 50 at a time: of one, most is spent on waking up; of 500, on what the machine's caches do not hold."""
    rows = []
    with model_server() as url:
        for concurrency, count, goal in ((1, 500, ""), (50, 3_000, "≥ 1.2"), (500, 3_000, "≥ 1.2")):
            ran = [
                [figures("calls.py", client, url, count, concurrency) for client in ("sdk", "model", "agent")]
                for _ in range(rounds)
            ]
            default, ours = (statistics.median(each[n]["rate"] for each in ran) for n in (0, 2))
            shown = (f"{ours:,.0f}/s", f"{default:,.0f}/s", f"{ours / default:.2f}")
            rows.append(Row(f"model calls, {concurrency} at a time", *shown, ours / default, goal))
            if concurrency == 50:
                least, all_of = (statistics.median(each[n]["cpu_ms"] for each in ran) for n in (1, 2))
                shown = (f"{all_of:.2f} ms", f"{least:.2f} ms", f"{all_of / least:.2f}")
                rows.append(Row("CPU of a model call, all included", *shown, all_of - least, "≤ 0.4 ms more"))
    return rows


def letters(rounds: int = 5) -> list[Row]:
    found = figures("letters.py", 4_000, rounds)
    shown = (f"{found['ours_us']:.0f} us", f"{found['plain_us']:,.0f} us", f"{found['ratio']:.0f}")
    return [Row("a letter of 20 stories, built", *shown, found["ratio"], "≥ 20")]


def mailing(large: int, count: int = 1_500, rounds: int = 3) -> list[Row]:
    """Beside `smtp-sink`, which takes everything; without Postfix's programs there is nothing to measure against."""
    sink = next(
        (path for path in map(Path, ("/usr/sbin/smtp-sink", "/usr/lib/postfix/sbin/smtp-sink")) if path.exists()), None
    )
    if sink is None:
        print("no smtp-sink (Debian: postfix): the mailing is not measured", file=sys.stderr)
        return []
    with relay(sink) as port:
        ran = [
            tuple(figures("mailing.py", what, count, port) for what in ("ours", "plain", "source"))
            for _ in range(rounds)
        ]
        few, many = (figures("mailing.py", "many", readers, port)["peak_mib"] for readers in (10_000, large))
    ours, plain, source = (count / statistics.median(each[n]["seconds"] for each in ran) for n in range(3))
    return [
        Row(
            f"mails of 20 kB to a relay ({count:,})", f"{ours:,.0f}/s", f"{plain:,.0f}/s", f"{ours / plain:.1f}",
            ours / plain, "≥ 2",
        ),
        Row("the same, against smtp-source", f"{ours:,.0f}/s", f"{source:,.0f}/s", f"{ours / source:.2f}", 0.0, ""),
        Row(
            f"its peak memory with {large:,} subscribers, against 10,000", f"{many:.1f} MiB", f"{few:.1f} MiB",
            f"{many / few:.2f}", many - few, "≤ 10 MiB more",
        ),
    ]  # fmt: skip


@contextmanager
def relay(sink: Path) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    who = ["-u", "nobody"] if os.getuid() == 0 else []
    process = subprocess.Popen([str(sink), *who, f"127.0.0.1:{port}", "200"])
    try:
        time.sleep(0.5)
        yield port
    finally:
        process.terminate()
        process.wait()


def start_up(rounds: int = 7) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, text in PROJECT.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        commands = {
            "overnight --help": "≤ 150 ms",
            "overnight validate": "≤ 1000 ms",
            "overnight run hello": "≤ 2000 ms",
        }
        lines = [[sys.executable, "-c", "pass"], *([str(OVERNIGHT), *each.split()[1:]] for each in commands)]
        bare, *ours = medians(rounds, [lambda line=line: wall(line, folder) for line in lines])
    return [
        Row(name, f"{took * 1000:.0f} ms", f"{bare * 1000:.0f} ms", f"{took / bare:.1f}", took * 1000, goal)
        for (name, goal), took in zip(commands.items(), ours, strict=True)
    ]


def desk(rounds: int = 2) -> list[Row]:
    """What it costs to wait, and how fast health answers while a run in another process writes."""
    waits = [[figures("idle.py", "measure", kind, 60) for kind in ("serve", "bare")] for _ in range(rounds)]
    asked = [figures("health.py", 20_000) for _ in range(rounds)]
    ours, bare = (statistics.median(each[n]["mib"] for each in waits) for n in (0, 1))
    busy, idle = (statistics.median(each[n]["cpu_s_per_hour"] for each in waits) for n in (0, 1))
    p50, p99 = (statistics.median(each[name] for each in asked) for name in ("p50_ms", "p99_ms"))
    shown = (f"{ours:.0f} MiB", f"{bare:.0f} MiB", f"{ours / bare:.1f}")
    return [
        Row("memory of an idle serve", *shown, ours, "≤ 100 MiB"),
        Row("CPU of an idle serve, an hour", f"{busy:.0f} s", f"{idle:.0f} s", "", busy, "≤ 10 s"),
        Row("/api/health while a batch runs at full speed, p99", f"{p99:.0f} ms", f"{p50:.0f} ms", "", p99, "≤ 250 ms"),
    ]


def year() -> list[Row]:
    """Nights of three jobs of 100 items, on virtual time, with faults; "limit" is what one of them costs."""
    took = figures("year.py", 365)["seconds"]
    return [Row("CPU of a simulated year", f"{took:.0f} s", f"{took / 365 * 1000:.0f} ms", "365", took, "≤ 60 s")]


def table(rows: list[Row]) -> str:
    cells = [("measure", "ours", "limit", "ratio", "goal"), *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if 0 < n < 4 else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]
    return "\n".join(line.rstrip() for line in [lines[0], "-" * len(lines[0]), *lines[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 thousand items in place of the million")
    large = 100_000 if parser.parse_args().quick else 1_000_000
    rows = []
    for name, measured in (
        ("start-up", start_up),
        ("outcomes", outcomes),
        ("resuming", resumed),
        ("bookkeeping", bookkeeping),
        ("memory", lambda: memory(large)),
        ("reports", lambda: reports(large)),
        ("log events", events),
        ("model calls", calls),
        ("letters", letters),
        ("mailing", lambda: mailing(large)),
        ("the desk", desk),
        ("a simulated year", year),
    ):
        print(f"measuring {name} …", file=sys.stderr)
        rows += measured()
    print(table(rows))


if __name__ == "__main__":
    main()
