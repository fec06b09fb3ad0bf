"""How fast mail goes out, and when it stops: by recipient domain, and by refusals that are all alike."""

import asyncio
import dataclasses
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from overnight.effects import Effects
from overnight.errors import Deferred, OvernightError, Permanent, Stop
from overnight.ledger import Ledger
from overnight.ledger.tables import subscriber
from overnight.mail import Mailer, MailSettings, Pace
from overnight.mail.pace import KNOWN, SLOW_FOR, Slow
from overnight.mail.replies import Throttled, classify
from overnight.mail.streak import EQUAL, Streak
from overnight.mail.transport import Intent, Letter
from overnight.outcome import Scope
from overnight.subscribers import Subscriber, active_subscribers, add
from tests.slots import ManualClock, open_ledger, rows


async def mails(pace: Pace, clock: ManualClock, domain: str, count: int) -> float:
    """Seconds that so many mails in a row take."""
    started = clock.monotonic()
    for _ in range(count):
        async with pace.turn(domain):
            pass
    return clock.monotonic() - started


async def throttle(pace: Pace, domain: str) -> None:
    with pytest.raises(Throttled):
        async with pace.turn(domain):
            raise classify("recipient", 421, "4.7.0 too many")


async def test_each_domain_has_its_rate_and_no_other_waits_for_it() -> None:
    clock = ManualClock()
    pace = Pace(Slow(1, count=2), clock)
    assert await mails(pace, clock, "big.example", 60) > 25
    assert await mails(pace, clock, "small.example", 1) == 0
    free = Pace(None, clock)
    assert await mails(free, clock, "big.example", 500) == 0


async def test_a_421_slows_its_domain_each_time_by_half_and_for_ten_minutes() -> None:
    clock = ManualClock()
    pace = Pace(None, clock)
    await throttle(pace, "big.example")
    assert await mails(pace, clock, "other.example", 100) == 0
    assert await mails(pace, clock, "big.example", 5) == pytest.approx(8, abs=0.1)
    await throttle(pace, "big.example")
    assert await mails(pace, clock, "big.example", 5) == pytest.approx(16, abs=0.1)
    clock.move(SLOW_FOR + 1)
    assert await mails(pace, clock, "big.example", 100) == 0


async def test_mail_that_would_wait_too_long_for_its_domain_is_deferred() -> None:
    clock = ManualClock()
    pace = Pace(None, clock)
    for _ in range(6):
        await throttle(pace, "big.example")
        clock.move(61)
    waiting = [asyncio.create_task(mails(pace, clock, "big.example", 1)) for _ in range(4)]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert any(isinstance(one, Deferred) and one.code == "rate_limit" for one in found)


async def test_no_refusal_but_421_slows_a_domain_and_memory_does_not_grow_with_domains() -> None:
    clock = ManualClock()
    pace = Pace(Slow(1, count=1000), clock)
    for error in (classify("recipient", 450, "4.2.0 later"), classify("recipient", 550, "5.1.1 nobody")):
        with pytest.raises(type(error)):
            async with pace.turn("a.example"):
                raise error
    assert await mails(pace, clock, "a.example", 20) == 0
    for number in range(KNOWN + 50):
        await mails(pace, clock, f"d{number}.example", 1)
    assert len(pace._domains) == KNOWN


async def test_neither_the_busiest_domain_nor_one_that_is_slowed_down_is_forgotten_for_others() -> None:
    clock = ManualClock()
    pace = Pace(Slow(60, count=10), clock)
    await throttle(pace, "slow.example")
    await mails(pace, clock, "busy.example", 9)
    slow, busy = (pace._domains[name] for name in ("slow.example", "busy.example"))
    for number in range(KNOWN + 50):
        await mails(pace, clock, f"d{number}.example", 1)
        if number % 500 == 0:
            await mails(pace, clock, "busy.example", 1)
    assert pace._domains["busy.example"] is busy, "and what it has had of its rate is counted"
    assert pace._domains["slow.example"] is slow
    assert len(pace._domains) == KNOWN
    clock.move(SLOW_FOR + 1)
    await mails(pace, clock, "one.example", 1)
    assert "slow.example" not in pace._domains, "which is over, and it was mailed longest ago"


def told(streak: Streak, number: int, text: str) -> None:
    error = classify("data", 554, text)
    assert isinstance(error, Permanent)
    streak.refused(error, f"<{number}>", f"s_{number}")


def test_ten_equal_refusals_in_a_row_stop_and_a_success_or_another_code_begins_anew() -> None:
    streak = Streak()
    for number in range(EQUAL - 1):
        told(streak, number, "5.6.0 spam")
    told(streak, 90, "5.3.0 other")
    for number in range(EQUAL - 1):
        told(streak, number, "5.6.0 spam")
    streak.succeeded()
    for number in range(EQUAL - 1):
        told(streak, number, f"5.6.0 spam, reference {number}")
    streak.check()
    with pytest.raises(Stop, match="refused alike"):
        told(streak, EQUAL, "5.6.0 spam")
    with pytest.raises(Stop, match="refused alike"):
        streak.check()


class Refusing:
    """A relay that refuses every message alike."""

    real, reconciles, place = True, False, "refusing"

    def __init__(self, error: OvernightError) -> None:
        self.error, self.asked = error, 0

    async def send(self, letter: Letter, intent: Intent) -> None:
        del letter, intent
        self.asked += 1
        raise self.error

    async def delivered(self, letter: Letter) -> bool:
        del letter
        return False

    async def close(self) -> None:
        """Nothing is open."""


def mailer(folder: Path, ledger: Ledger, clock: ManualClock, transport: Refusing) -> Mailer:
    (folder / "templates").mkdir()
    (folder / "templates" / "daily.subject.j2").write_text("Hello")
    (folder / "templates" / "daily.txt.j2").write_text("Hello")
    made = Mailer.open(
        MailSettings("outbox:outbox", "The Site <news@example.org>", "unsubscribe@example.org"), root=folder,
        secret=b"a secret", effects=Effects(ledger, clock), ledger=ledger, clock=clock, zone=ZoneInfo("UTC"),
    )  # fmt: skip
    return dataclasses.replace(made, transport=transport)


@pytest.mark.parametrize(
    ("code", "text", "asked"),
    [
        (550, "5.1.1 no such user", EQUAL),
        (552, "5.2.2 mailbox full", EQUAL),
        (554, "5.6.0 content rejected", EQUAL),
        (550, "5.7.26 unauthenticated", 1),
        (550, "5.7.515 access denied", 1),
        (553, "5.7.9 policy", 1),
        (554, "5.7.1 relaying denied", 1),
    ],
)
async def test_a_relay_that_refuses_everybody_alike_stops_the_mailing_and_suppresses_nobody(
    tmp_path: Path, code: int, text: str, asked: int
) -> None:
    clock = ManualClock()
    ledger = open_ledger(tmp_path, clock)
    for number in range(EQUAL + 5):
        add(ledger, clock, f"reader{number}@example.org")
    transport = Refusing(classify("recipient", code, text))
    post = mailer(tmp_path, ledger, clock, transport)
    place = type("Place", (), {"ledger": ledger})()
    people: list[Subscriber] = list(active_subscribers(place))
    kinds = []
    for who in people:
        with pytest.raises((Permanent, Stop)) as refused:
            await post.send(Scope("daily", "2026-11-22", who.id, "r_1"), who, "daily", {})
        kinds.append(isinstance(refused.value, Stop))
        if kinds[-1] and asked == 1:
            assert f"overnight subscribers suppress {who.id}" in str(refused.value), "it may be about that one"
            break  # the run ends with the first
    assert kinds[asked - 1 :] == [True] * len(kinds[asked - 1 :])
    assert not any(kinds[: asked - 1])
    assert transport.asked == asked
    assert {row["status"] for row in rows(ledger, subscriber)} == {"active"}
    ledger.close()


async def test_who_is_told_that_the_mailing_has_stopped_is_not_stopped_by_it(tmp_path: Path) -> None:
    clock = ManualClock()
    ledger = open_ledger(tmp_path, clock)
    relay = Refusing(classify("data", 554, "5.6.0 content rejected"))
    post = mailer(tmp_path, ledger, clock, relay)
    for _ in range(EQUAL + 1):
        with pytest.raises(Permanent):
            await post.send(Scope("alert", "1", "a", ""), "ops@example.org", "daily", {})
    readers = [Subscriber(f"r{number}", f"reader{number}@example.org") for number in range(EQUAL)]
    for number, who in enumerate(readers):
        with pytest.raises(Stop if number == EQUAL - 1 else Permanent):
            await post.send(Scope("daily", "2026-11-22", who.id, "r_1"), who, "daily", {})
    asked = relay.asked
    with pytest.raises(Permanent):
        await post.send(Scope("alert", "2", "b", ""), "ops@example.org", "daily", {})
    assert relay.asked == asked + 1
    ledger.close()
