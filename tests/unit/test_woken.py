"""A process stopped for longer than its lease wakes and tells what became of its effects: the item follows."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from overnight import closing
from overnight.alerts.rules import unknown
from overnight.closing import settle_item
from overnight.effects import Effect, Effects
from overnight.errors import ConfigError, Refused
from overnight.ledger import Ledger
from overnight.ledger.items import Recorded, page, plan, planned, record
from overnight.ledger.rollups import trouble
from overnight.ledger.runs import close_run, latest_run, owed_reports, reports_made
from overnight.ledger.tables import effect, item, slot
from overnight.outcome import Outcome, Scope
from overnight.recount import rebuild
from overnight.schedule import loads
from tests.slots import NOW, SLOT, begin, rows

WHY = "the process ended before the relay answered"


@dataclass
class Night:
    """A run that was stopped with a mail on its way, and its heir, which has ended."""

    ledger: Ledger
    effects: Effects
    stopped: Scope
    heir: Scope

    async def parked(self, *names: str) -> list[Effect]:
        """The mails of `a` as the stopped process holds them; the heir has parked each, and the item."""
        mine = [await self.effects.begin(replace(self.stopped, key="a"), "mail", n, "t", f"<{n}>") for n in names]
        self.heir = begin(self.ledger)
        for known in mine:
            await self.effects.unknown(known, WHY)
        self.end(Outcome("a", "unknown", error_code="smtp_unknown", error=WHY, reason=WHY))
        return mine

    def end(self, outcome: Outcome) -> None:
        write, heir = self.ledger.writing, self.heir
        write(lambda connection: record(connection, [Recorded(heir, "pending", outcome, NOW)]))
        write(lambda connection: close_run(connection, heir, "partial", None, NOW))
        write(lambda connection: reports_made(connection, owed_reports(connection)))

    def settle(self, answer: Any) -> list[str]:
        of = self.ledger.reading(latest_run, "greet", SLOT)
        return self.ledger.writing(lambda connection: settle_item(connection, of, "a", answer, NOW))

    def books(self) -> tuple[str, dict[str, int]]:
        [row] = rows(self.ledger, slot)
        counts = {name: row[name] for name in ("pending", "ok", "retry", "unknown") if row[name]}
        return rows(self.ledger, item)[0]["state"], counts

    def alarms(self) -> list[str]:
        schedule = loads("version: 1\njobs: { greet: { every: 1h } }\n", {})
        found = self.ledger.reading(lambda connection: list(unknown(connection, schedule, NOW)))
        return [alarm.message for alarm in found if alarm.firing]

    def agree(self) -> None:
        """All counts are those of the rows."""
        assert rebuild(self.ledger) == []


@pytest.fixture
def night(ledger: Ledger) -> Night:
    scope = begin(ledger)
    ledger.writing(lambda connection: plan(connection, scope, [(0, "a", "1")]))
    ledger.writing(lambda connection: planned(connection, scope, NOW))
    return Night(ledger, Effects(ledger, ledger.clock), scope, scope)


@pytest.mark.parametrize("happened", [True, False])
async def test_a_parked_item_is_taken_up_again_once_its_mail_is_known(night: Night, happened: bool) -> None:
    [mail] = await night.parked("letter")
    assert night.books() == ("unknown", {"unknown": 1})
    await (night.effects.done(mail) if happened else night.effects.failed(mail, "451 later"))
    assert night.books() == ("retry", {"retry": 1})
    assert list(night.ledger.reading(owed_reports)) == [SLOT]
    assert [row["n"] for row in rows(night.ledger, trouble, error_code="smtp_unknown")] == [0]
    night.agree()
    sweep = begin(night.ledger, kind="sweep")
    [taken] = night.ledger.reading(lambda connection: page(connection, sweep, -1, selection="deferred", now=NOW))
    assert (taken.key, taken.expires_at is None) == ("a", happened), "what was sent is no failure, however late"
    again = await night.effects.begin(replace(sweep, key="a"), "mail", "letter", "t", "<letter>")
    assert (again.state, again.fresh) == (("done", False) if happened else ("intent", True))


async def test_an_item_waits_until_the_last_of_its_mails_is_known(night: Night) -> None:
    first, second = await night.parked("letter", "receipt")
    await night.effects.done(first)
    assert night.books() == ("unknown", {"unknown": 1})
    await night.effects.done(second)
    assert night.books() == ("retry", {"retry": 1})
    night.agree()


async def test_what_the_heir_has_finished_is_not_taken_up_again(night: Night) -> None:
    mail = await night.effects.begin(replace(night.stopped, key="a"), "mail", "letter", "t", "<letter>")
    night.heir = begin(night.ledger)
    await night.effects.unknown(mail, WHY)
    night.end(Outcome("a", "ok"))
    await night.effects.done(mail)
    assert night.books() == ("ok", {"ok": 1})


async def test_what_has_happened_is_not_unknown_again_because_the_heir_had_looked_before(night: Night) -> None:
    mail = await night.effects.begin(replace(night.stopped, key="a"), "mail", "letter", "t", "<letter>")
    night.heir = begin(night.ledger)
    await night.effects.done(mail)
    await night.effects.unknown(mail, WHY)
    assert [row["state"] for row in rows(night.ledger, effect)] == ["done"]


async def test_a_run_that_begins_while_a_person_settles_is_left_to_learn_it(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await night.effects.begin(replace(night.stopped, key="a"), "mail", "letter", "t", "<letter>")
    of = night.ledger.reading(latest_run, "greet", SLOT)
    night.ledger.clock.move(3600)  # type: ignore[attr-defined]
    now = night.ledger.clock.now()
    judged = closing.has_died

    def meanwhile(*given: Any) -> bool:
        dead = judged(*given)
        begin(night.ledger, kind="sweep")
        return dead

    monkeypatch.setattr(closing, "has_died", meanwhile)
    with pytest.raises(Refused, match="is running and may yet learn it"):
        closing.settle(night.ledger, tmp_path, of, "a", "sent", now)
    assert [row["state"] for row in rows(night.ledger, effect)] == ["intent"]


@pytest.mark.parametrize(("answer", "state"), [("sent", "ok"), ("unsent", "retry")])
async def test_a_person_can_close_an_item_of_unknown_fate_whatever_its_effects_are(
    night: Night, answer: str, state: str
) -> None:
    mail = await night.effects.begin(replace(night.stopped, key="a"), "mail", "letter", "t", "<letter>")
    await night.effects.done(mail)  # between the heir's look at the mail and its word on the item
    night.heir = begin(night.ledger)
    night.end(Outcome("a", "unknown", error_code="smtp_unknown", error=WHY, reason=WHY))
    [message] = night.alarms()
    assert message.startswith("greet: nobody knows what became of 1 mail or step")
    night.settle(answer)
    assert night.books() == (state, {state: 1})
    assert night.alarms() == []
    with pytest.raises(ConfigError, match="nothing of greet/2026-11-22/a is unknown"):
        night.settle(answer)
    night.agree()
