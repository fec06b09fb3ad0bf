"""A verdict from many checks: each by itself, within its limit, and the worst of them counts."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from overnight.clock import Clock, iso

Status = Literal["healthy", "degraded", "unhealthy"]
RANK: Mapping[Status, int] = {"healthy": 0, "degraded": 1, "unhealthy": 2}
VITAL = ("scheduler", "ledger")  # the rest of a report is no reason for a 503, also when it cannot be told
FRESH = 1.0  # seconds for which strangers get what was found before: their probes may come in floods
PATIENCE = 1.8  # seconds a check may take: a locked ledger is an answer, not a reason to hang
_WORDS: Mapping[Status, str] = {"healthy": "pass", "degraded": "warn", "unhealthy": "fail"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says; `value` is the figure behind it, in `unit`, where there is one."""

    status: Status
    output: str
    value: float | None = None
    unit: str = ""


Check = Callable[[], Awaitable[Finding]]


@dataclass(frozen=True, slots=True)
class Report:
    """All findings at a time; `dependencies` are the other sides that no run asks now."""

    at: datetime
    findings: Mapping[str, Finding]
    dependencies: list[dict[str, str]] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """The worst of the findings."""
        return max((one.status for one in self.findings.values()), key=RANK.__getitem__, default="healthy")

    @property
    def code(self) -> int:
        """The HTTP status: what is degraded still works, and nobody is to restart it."""
        return 503 if self.status == "unhealthy" else 200

    def document(self) -> dict[str, Any]:
        """`{status, timestamp, checks, dependencies}`."""
        checks = {name: {"status": one.status, "output": one.output} for name, one in self.findings.items()}
        at = iso(self.at)
        return {"status": self.status, "timestamp": at, "checks": checks, "dependencies": self.dependencies}

    def draft(self) -> dict[str, Any]:
        """The same in the form of `application/health+json`: pass, warn, fail."""
        return {
            "status": _WORDS[self.status],
            "checks": {f"{name}:state": [self._measured(one)] for name, one in self.findings.items()},
        }

    def _measured(self, one: Finding) -> dict[str, Any]:
        plain = {"status": _WORDS[one.status], "time": iso(self.at), "output": one.output}
        observed = {} if one.value is None else {"observedValue": one.value, "observedUnit": one.unit}
        return {"componentType": "component", **observed, **plain}


@dataclass(slots=True)
class Shared:
    """One examination for all who ask while it is made."""

    examine: Callable[[], Awaitable[Report]]
    clock: Clock
    _made: asyncio.Task[Report] | None = None
    _at: float = -math.inf

    async def report(self, max_age: float) -> Report:
        """What is found by who examines now, or was found within the last `max_age` seconds."""
        if self._made is None or (self._made.done() and self.clock.monotonic() - self._at >= max_age):
            self._made = asyncio.create_task(self._make())
        return await asyncio.shield(self._made)  # one who goes away takes it from nobody

    async def _make(self) -> Report:
        report = await self.examine()
        self._at = self.clock.monotonic()
        return report


async def examined(checks: Mapping[str, Check], vital: Collection[str]) -> dict[str, Finding]:
    """Make all checks at once; one of the `vital` that gives no answer is unhealthy, another one degraded."""
    worst: dict[bool, Status] = {True: "unhealthy", False: "degraded"}
    found = await asyncio.gather(*(_patiently(check, worst[name in vital]) for name, check in checks.items()))
    return dict(zip(checks, found, strict=True))


async def _patiently(check: Check, otherwise: Status) -> Finding:
    try:
        async with asyncio.timeout(PATIENCE):
            return await check()
    except TimeoutError:
        return Finding(otherwise, f"no answer within {PATIENCE:g} s")
    except Exception as error:  # noqa: BLE001  its text could name paths or addresses
        return Finding(otherwise, type(error).__name__)
