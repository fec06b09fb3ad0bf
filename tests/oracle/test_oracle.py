"""The oracle: whatever goes wrong, the bill of the other side stays below the cap and agrees with our books.

Each seed makes a mix of faults; 64 callers in two processes ask under one budget. A normal run tries some seeds;
`OVERNIGHT_ORACLE_SEEDS=200 pytest tests/oracle` tries 200, and `pytest tests/oracle -k 'mix[17]'` one again.
Set OVERNIGHT_ORACLE_FIGURES to a file to have the figures of each seed appended to it.
"""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.conftest import JOBS, Books, Rig, write_project

pytestmark = pytest.mark.slow

SEEDS = int(os.environ.get("OVERNIGHT_ORACLE_SEEDS", "40"))
CALLERS = 32  # in each process
NANO = 1_000_000_000
PLENTY = 500  # questions in each process: more than any cap here allows

LONG = 70  # seconds; for such a Retry-After nobody waits, everybody comes back later

# What is known to have cost nothing, or is answered and billed.
CERTAIN: tuple[Mapping[str, Any], ...] = (
    {"kind": "status", "code": 500},
    {"kind": "status", "code": 503},
    {"kind": "status", "code": 529},
    {"kind": "status", "code": 429, "retry_after": 0.01},
    {"kind": "status", "code": 429, "retry_after": LONG},
    {"kind": "schema_violation"},
    {"kind": "refusal"},
    {"kind": "max_tokens"},
)
# What may have been billed, for all we can know.
UNCERTAIN: tuple[Mapping[str, Any], ...] = (
    {"kind": "drop_before_accept"},
    {"kind": "drop_after_accept"},
    {"kind": "drop_body"},
    {"kind": "bad_json"},
    {"kind": "html"},
    {"kind": "wrong_schema"},
    {"kind": "sse_overload"},
    {"kind": "status", "code": 504},
    {"kind": "hang", "seconds": 0.8},
    {"kind": "hang_body", "seconds": 0.8},
)
DEADLINE = 0.5  # seconds of real time; shorter than a hang


@dataclass(frozen=True)
class Mix:
    """What one seed is about: the faults, the money, and how the callers behave."""

    faults: list[dict[str, Any]]
    certain: bool
    cap: str
    models: str = "claude-haiku-5-5"
    per_run: str = ""
    hurried: int | None = None

    @classmethod
    def of(cls, seed: int) -> "Mix":
        """Every second mix has known outcomes only; a third of these has a cap of more than a hundred worst cases."""
        dice = random.Random(seed)  # noqa: S311  a seed that can be replayed
        certain = seed % 2 == 0
        kinds = dice.sample(CERTAIN if certain else CERTAIN + UNCERTAIN, dice.randint(1, 4))
        if not certain:
            kinds.append(dice.choice(UNCERTAIN))
        faults = [
            {"match": {"path": "/v1/messages", "prob": round(dice.uniform(0.01, 0.12), 3), "seed": seed}, "fault": kind}
            | ({"times": 2} if kind.get("retry_after") == LONG else {})
            for kind in kinds
        ]
        if certain:
            return cls(faults, certain, cap="$0.03" if seed % 6 else "$0.17" if _repaired(kinds) else "$0.10")
        return cls(
            faults,
            certain,
            cap=dice.choice(("$0.03", "$0.06", "$5")),
            models=dice.choice(("claude-haiku-5-5", "claude-haiku-5-5, claude-sonnet-5-5")),
            per_run=dice.choice(("", "$0.02")),
            hurried=dice.choice((None, seed)),
        )

    @property
    def cap_nano(self) -> int:
        """The day's cap in nano-USD."""
        return round(float(self.cap[1:]) * NANO)

    @property
    def demand(self) -> int:
        """Questions of each process."""
        return PLENTY if self.cap_nano < NANO else 60


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_mix(seed: int, rig: Rig, tmp_path: Path) -> None:
    """Ask under a mix of faults, then compare the bill with the books, then ask again."""
    mix = Mix.of(seed)
    began = time.monotonic()
    root = write_project(tmp_path / "project", mix.cap, models=mix.models, per_run=mix.per_run)
    books = Books(root / "ledger.db")
    rig.server.start(mix.faults)
    said = _worked(rig, mix, root)
    billed, booked, unknown = rig.server.billed(), books.booked(), books.unknown()
    figures = {
        "seed": seed,
        "certain": mix.certain,
        "cap": mix.cap_nano,
        "billed": billed,
        "booked": booked,
        "calls": books.number("SELECT count(*) FROM call"),
        "unknown": unknown,
        "used": round(booked / mix.cap_nano, 4),
        "ends": sum((Counter(each["ends"]) for each in said), Counter()),
        "faults": [rule["fault"] for rule in mix.faults],
    }
    try:
        assert billed <= mix.cap_nano
        assert billed <= booked <= mix.cap_nano
        assert books.reserved() == 0
        if unknown == 0:
            assert booked == billed
        if mix.hurried is None:
            assert sum(each["believed"] for each in said) == booked
        if mix.certain:
            assert unknown == 0
            largest = max(each["largest"] for each in said)
            assert booked > mix.cap_nano - largest, "a call was refused that would have fitted"
            assert seed % 6 or (largest <= mix.cap_nano / 100 and booked >= mix.cap_nano * 97 / 100)
            assert sum(each["warnings"] for each in said) == 1
        _ask_again(rig, root, said)
        assert rig.server.billed() == billed
        assert books.booked() == booked
    except AssertionError as error:
        error.add_note(f"replay it: pytest tests/oracle -k 'test_a_mix[{seed}]'; {json.dumps(figures)}")
        raise
    finally:
        _keep(figures | {"seconds": round(time.monotonic() - began, 2)})


def _repaired(kinds: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there are second turns, which bring the first answer along and so may cost almost twice as much."""
    return any(kind["kind"] == "schema_violation" for kind in kinds)


def _worked(rig: Rig, mix: Mix, root: Path) -> list[dict[str, Any]]:
    workers = rig.workers()
    # ports of both jobs at the same instant, hence one budget day
    opened = {"root": str(root), "job": JOBS, "epoch": time.time(), "deadline": None if mix.certain else DEADLINE}
    rig.together(workers, "open", **opened)
    keys = [str(number) for number in range(mix.demand)]
    said = rig.together(workers, "work", keys=keys, callers=CALLERS, hurried=mix.hurried)
    rig.together(workers, "close")
    return said


def _ask_again(rig: Rig, root: Path, said: list[dict[str, Any]]) -> None:
    """Fresh agents of a new run ask every answered question once more: all is in the journal."""
    workers = rig.workers()
    rig.together(workers, "open", root=str(root), job=JOBS, epoch=time.time())
    keys = tuple(each["answered"] for each in said)
    for before, after in zip(said, rig.together(workers, "work", keys=keys, callers=4), strict=True):
        assert after["ends"].get("replayed", 0) == len(before["answered"])
        assert set(after["ends"]) <= {"replayed", "then_replayed"}
    rig.together(workers, "close")


def _keep(figures: Mapping[str, Any]) -> None:
    file = os.environ.get("OVERNIGHT_ORACLE_FIGURES")
    if file:
        with Path(file).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(figures) + "\n")
