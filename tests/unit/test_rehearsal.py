"""A rehearsal: who plays whom."""

from collections.abc import Mapping
from typing import Any, cast

from overnight.jobs import Job
from overnight.mail import Diverted, Mailer
from overnight.outcome import Scope
from overnight.rehearsal import cast as cast_job
from overnight.run import Run
from overnight.subscribers import Subscriber

SCOPE = Scope("daily", "2026-11-22~a", "s_1", "r_1")
ADA = Subscriber("s_1", "ada@example.org", "Ada")


class Postman:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def send(self, _scope: Scope, to: Any, _template: str, _context: Mapping[str, Any], **_options: bool) -> str:
        self.sent.append(to)
        return "<id>"


async def test_whatever_a_job_mails_goes_to_who_rehearses() -> None:
    postman = Postman()
    diverted = Diverted(cast("Mailer", postman), ("me@example.net", "you@example.net"))
    for to in (ADA, "ops@example.org", "you@example.net"):
        await diverted.send(SCOPE, to, "daily", {})
    first, *rest = postman.sent
    assert (first.email, first.id, first.name) == ("me@example.net", "rehearsal", "Ada")
    assert rest == ["me@example.net", "you@example.net"]


def test_subscribers_are_played_by_stand_ins_and_other_items_are_themselves() -> None:
    async def mailing(_who: Subscriber, _run: Run) -> None:
        """Mail."""

    async def other(_task: str, _run: Run) -> None:
        """Do something else."""

    job = Job("mailing", mailing, lambda _run: [ADA], lambda who: who.id)
    assert cast_job(job, ()) is job
    items = cast_job(job, ("me@example.net", "you@example.net")).items
    assert items is not None
    played = cast("list[Subscriber]", items(cast("Run", None)))
    assert [(who.id, who.email, who.topics) for who in played] == [
        ("rehearsal-1", "me@example.net", ()),
        ("rehearsal-2", "you@example.net", ()),
    ]
    others = Job("other", other, None, str)
    assert cast_job(others, ("me@example.net",)) is others
