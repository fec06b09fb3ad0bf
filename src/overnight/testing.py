"""The pytest plugin: a job is tested in ten lines, on the real batch, retry and ledger.

    def test_one_bounce_does_not_cancel_the_mailing(bench):
        bench.bouncing = {BOB.email}
        batch = bench.batch(daily_email, ANN, BOB)
        assert batch.states == {"s_ann": "ok", "s_bob": "failed"}

Mail goes into an outbox, questions to a script, waiting takes no time, and the slot is always the same. A bug of the
job is raised again, so that the test shows it. Relays and models on the network refuse to work.
"""

import asyncio
import email
import email.policy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from overnight.jobs import Job
    from overnight.model import ModelReply, ModelRequest
    from overnight.outcome import Outcome, State

SLOT = "2026-11-22"
NOW = datetime(2026, 11, 22, 7, 0, tzinfo=UTC)


class BenchClock:
    """A clock that stands still until somebody sleeps: then it jumps."""

    def __init__(self) -> None:
        self._now, self._elapsed = NOW, 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        """Wall clock of the bench, UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds slept so far."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Jump, and let others run."""
        self.slept.append(seconds)
        self._elapsed += max(seconds, 0)
        self._now += timedelta(seconds=max(seconds, 0))
        await asyncio.sleep(0)  # noqa: TID251  takes no time

    def random(self) -> float:
        """Always the middle."""
        return 0.5


@dataclass(frozen=True, slots=True)
class Sent:
    """A mail in the bench's outbox."""

    to: str
    subject: str
    text: str
    html: str


@dataclass(slots=True)
class Script:
    """The model of the bench: gives `answers` in turn, raises those that are exceptions, keeps what it was asked.

    An answer is a value of the asked type; with none left a question is refused, so that its fallback has its turn.
    """

    answers: list[Any] = field(default_factory=list)
    calls: "list[ModelRequest]" = field(default_factory=list)

    def check(self) -> None:
        """A script needs no key."""

    async def create(self, request: "ModelRequest") -> "ModelReply":
        """Answer in place of a model."""
        from pydantic_core import to_json  # noqa: PLC0415  a plugin is imported by every pytest of the machine

        from overnight.errors import Permanent  # noqa: PLC0415
        from overnight.model import ModelReply  # noqa: PLC0415
        from overnight.pricing import Usage  # noqa: PLC0415

        self.calls.append(request)
        if not self.answers:
            raise Permanent("the bench's script has no answer left: set bench.script.answers", code="script")
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        plain = json.loads(to_json(answer))
        value = plain if isinstance(plain, dict) else {"value": plain}
        usage = Usage(input_tokens=request.input_estimate, output_tokens=50)
        return ModelReply(json.dumps(value), "end_turn", usage, request.model, f"req_{len(self.calls)}")

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a batch came to, by the keys of its items."""

    outcomes: "dict[str, Outcome]"

    @property
    def states(self) -> "dict[str, State]":
        """`ok`, `failed`, … of each item."""
        return {key: outcome.state for key, outcome in self.outcomes.items()}

    @property
    def results(self) -> dict[str, Any]:
        """What the items returned, as plain JSON values."""
        return {key: json.loads(o.result) for key, o in self.outcomes.items() if o.result is not None}

    @property
    def errors(self) -> dict[str, str]:
        """The messages of those that did not succeed."""
        return {key: o.error or o.reason or "" for key, o in self.outcomes.items() if o.state != "ok"}


@dataclass(slots=True)
class Bench:
    """A place to run a job's items; `folder` is its project folder, with the templates of the real one."""

    folder: Path
    slot: str = SLOT  # that of the run
    bouncing: set[str] = field(default_factory=set)  # addresses that refuse
    script: Script = field(default_factory=Script)  # gives `bench.script.answers` in turn; `calls` has what was asked
    clock: BenchClock = field(default_factory=BenchClock)  # stands still; waiting takes no time; `slept` says how long

    @property
    def outbox(self) -> list[Sent]:
        """The mails sent so far, by recipient."""
        paths = (self.folder / "var" / "outbox").rglob("*.eml")
        return sorted((_sent(path) for path in paths), key=lambda mail: mail.to)

    def feed(self, *titles: str, name: str = "feed.xml") -> str:
        """Write a feed with stories `story-0`, `story-1`, … an hour before the slot; returns its path for `params`."""
        at = self.clock.now() - timedelta(hours=1)
        entries = "".join(
            f"<entry><id>story-{n}</id><title>{title}</title><link href='https://example.org/{n}'/>"
            f"<updated>{at:%Y-%m-%dT%H:%M:%SZ}</updated><summary>{title}, told in full.</summary></entry>"
            for n, title in enumerate(titles)
        )
        head = "<?xml version='1.0'?><feed xmlns='http://www.w3.org/2005/Atom'><title>Bench</title>"
        (self.folder / name).write_text(f"{head}{entries}</feed>", encoding="utf-8")
        return name

    def batch(self, job: "Job[Any, Any]", *items: Any, params: Mapping[str, Any] | None = None) -> BatchResult:
        """Run these items of a job, or those of its own `items=`; what a bug raised is raised here."""
        return asyncio.run(self._batch(job, items, params or {}))

    async def _batch(self, job: "Job[Any, Any]", items: Sequence[Any], params: Mapping[str, Any]) -> BatchResult:
        from overnight.workbench import run_batch  # noqa: PLC0415  everything heavy is behind it

        return BatchResult(await run_batch(self, job, items, params))


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A place to run a job's items, in a project of its own for each test."""
    from overnight import mail, model, project  # noqa: PLC0415

    root = request.config.rootpath
    project.attach(root)
    (tmp_path / "templates").symlink_to(root / "templates")
    with model.forbid_real(), mail.forbid_real():
        yield Bench(tmp_path)


def pytest_configure(config: pytest.Config) -> None:
    """Make `jobs` and `reports` of the project under test importable."""
    if (config.rootpath / "schedule.yaml").is_file():
        from overnight import project  # noqa: PLC0415

        project.attach(config.rootpath)


def _sent(path: Path) -> Sent:
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    parts = {kind: message.get_body((kind,)) for kind in ("plain", "html")}
    text, html = (part.get_content() if part is not None else "" for part in parts.values())
    addresses = message["To"].addresses if message["To"] else ()
    return Sent(addresses[0].addr_spec if addresses else "", str(message["Subject"]), text, html)
