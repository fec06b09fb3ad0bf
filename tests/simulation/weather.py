"""What goes wrong in a year, drawn from a seed: small faults at each step, outages, crashes, clocks, people."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.simulation.loop import current

HOUR, DAY = 3600.0, 86400.0
RATES = {  # how likely each fault of a step is, on a quiet night
    "model": {
        "500": 0.02, "529": 0.02, "429": 0.01, "connection": 0.01, "billed_lost": 0.01, "hang": 0.005, "invalid": 0.02,
        "truncated": 0.01, "refusal": 0.01, "400": 0.005, "401": 0.001,
    },
    "connect": {"refused": 0.01, "greeting": 0.01},
    "mail": {"lost": 0.005},
    "rcpt": {"450": 0.005, "421": 0.003, "lost": 0.002},
    "data": {"lost": 0.003, "ambiguous": 0.003, "451": 0.003, "554": 0.002},
    "commit": {"full": 0.001},
    "fsync": {"full": 0.0005},
    "link": {"full": 0.0005},
    "rename": {"full": 0.0005},
    "write": {"full": 0.0005},
    "put": {"down": 0.01, "late": 0.01},
}  # fmt: skip
DEATHS = {  # where in a step a process can die
    "model": ("die_sent", "die_billed"), "connect": ("die",), "mail": ("die",), "rcpt": ("die",),
    "data": ("die", "die_after"), "commit": ("die_before", "die_after"), "fsync": ("die",), "link": ("die",),
    "rename": ("die",), "write": ("die",), "put": ("die",),
}  # fmt: skip
OUTAGES = {  # what an outage does to which step
    "model": {"model": ("529", "500", "connection", "hang")},
    "relay": {"connect": ("refused",), "data": ("lost", "ambiguous", "451")},
    "bucket": {"put": ("down",)},
    "disk": {"commit": ("full",), "fsync": ("full",), "link": ("full",), "rename": ("full",), "write": ("full",)},
}


@dataclass(frozen=True, slots=True)
class Outage:
    """Something is out of order from one second of the world to another."""

    what: str
    begin: float
    end: float


@dataclass(slots=True)
class Weather:
    """The faults of a world; `time()` are its seconds."""

    seed: int
    time: Callable[[], float] = lambda: 0.0
    outages: list[Outage] = field(default_factory=list)
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(f"{self.seed} weather")

    def draw(self, step: str) -> str:
        """The fault of a step."""
        process = current()
        if process is not None and process.fuse is not None:
            process.fuse -= 1
            if process.fuse <= 0:
                return self.dice.choice(DEATHS[step])
        now = self.time()
        for outage in self.outages:
            if outage.begin <= now < outage.end and step in OUTAGES[outage.what]:
                return self.dice.choice(OUTAGES[outage.what][step])
        return self._chosen(RATES[step].items())

    def _chosen(self, rates: Iterable[tuple[str, float]]) -> str:
        chance = self.dice.random()
        for fault, rate in rates:
            chance -= rate
            if chance < 0:
                return fault
        return ""

    def fuse(self, name: str) -> int | None:
        """After how many steps a new process dies; None for most."""
        dies = self.dice.random() < (0.03 if name == "serve" else 0.12)
        return 1 + int(self.dice.random() ** 2 * 150) if dies else None

    def happens(self, rate: float) -> bool:
        """Whether something with this probability happens."""
        return self.dice.random() < rate

    def between(self, low: float, high: float) -> float:
        """Some number."""
        return low + (high - low) * self.dice.random()

    def plan(self, noon: float) -> None:
        """Draw the outages of the night after this noon (seconds of the world); the jobs are due 13 hours later."""
        self.outages = [outage for outage in self.outages if outage.end > noon]
        for what, rate, longest in (("model", 0.08, 2), ("relay", 0.08, 2), ("bucket", 0.04, 60), ("disk", 0.04, 0.2)):
            if self.happens(rate):
                begin = noon + self.between(12 * HOUR, 13.5 * HOUR)
                self.outages.append(Outage(what, begin, begin + self.between(0, longest * HOUR)))
