"""Signing up and what follows, in the ledger."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from overnight.erasure import files_of, find_person, forget
from overnight.errors import Refused
from overnight.ledger.tables import signup, subscriber
from overnight.retention import SIGNUPS, retire
from overnight.subscribers import active_subscribers, add, everyone, find, leave, unsubscribe
from overnight.subscriptions import (
    AGAIN,
    Confirmed,
    confirm,
    mailed,
    reactivate,
    sign_up,
    suppress_by_hand,
    to_be_mailed,
)
from overnight.tokens import CONFIRM_WITHIN
from tests.slots import ManualClock, begin, open_ledger, rows, run_in

ADA = "ada@example.org"


class Desk:
    """A ledger, and what people ask of it."""

    def __init__(self, root: Path) -> None:
        self.clock = ManualClock()
        self.ledger = open_ledger(root, self.clock)

    def sign_up(self, email: str = ADA) -> str:
        self.ledger.writing(lambda connection: sign_up(connection, email, email, self.clock.now()))
        return str(rows(self.ledger, signup, normalized=email)[0]["id"])

    def mail(self) -> list[str]:
        """Send what is to be sent; to whom."""
        waiting = self.ledger.reading(to_be_mailed, self.clock.now())
        for row in waiting:
            self.ledger.writing(lambda connection, row=row: mailed(connection, row, self.clock.now()))
        return [row.email for row in waiting]

    def confirm(self, id_: str) -> Confirmed:
        return self.ledger.writing(lambda connection: confirm(connection, id_, self.clock.now()))

    def set(self, status: str) -> None:
        self.ledger.writing(lambda connection: connection.execute(update(subscriber).values(status=status)))

    @property
    def readers(self) -> list[str]:
        run = run_in(self.ledger, begin(self.ledger), Path())
        return [who.email for who in active_subscribers(run)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.ledger.close()


def test_who_has_signed_up_gets_one_mail_and_no_edition_until_it_is_confirmed(desk: Desk) -> None:
    id_ = desk.sign_up()
    assert desk.sign_up() == id_, "twice is once"
    assert (desk.mail(), desk.mail(), desk.readers) == ([ADA], [], [])
    assert desk.confirm(id_) == "subscribed"
    assert desk.confirm(id_) == "subscribed", "a second press of the button"
    assert desk.readers == [ADA]
    assert desk.confirm("p_nobody") == "used"


def test_an_address_is_mailed_again_later_and_later(desk: Desk) -> None:
    for wait in (*AGAIN, AGAIN[-1]):
        desk.sign_up()
        assert desk.mail() == [ADA]
        desk.clock.move(wait.total_seconds() - 1)
        desk.sign_up()
        assert desk.mail() == []
        desk.clock.move(1)


def test_who_left_comes_back_by_a_new_link_only(desk: Desk) -> None:
    first = desk.sign_up()
    desk.mail()
    desk.confirm(first)
    unsubscribe(desk.ledger, desk.clock, ADA)
    assert desk.confirm(first) == "used"
    second = desk.sign_up()
    assert second != first
    assert desk.mail() == [ADA], "and need not wait for it"
    assert desk.readers == []
    assert desk.confirm(second) == "subscribed"
    assert desk.readers == [ADA]
    assert len(list(everyone(desk.ledger))) == 1


def test_a_suppressed_address_gets_no_link_and_a_subscriber_gets_one(desk: Desk) -> None:
    add(desk.ledger, desk.clock, ADA, name="Ada")
    id_ = desk.sign_up()
    desk.set("suppressed")
    assert desk.mail() == []
    assert desk.confirm(id_) == "suppressed"
    assert desk.readers == []
    desk.set("active")
    assert desk.mail() == [], "it was confirmed meanwhile"
    again = desk.sign_up()
    assert desk.mail() == [ADA]
    assert desk.confirm(again) == "subscribed"
    assert find(desk.ledger, ADA).subscriber.name == "Ada"  # type: ignore[union-attr]


def test_a_mail_that_could_not_go_out_for_a_day_is_given_up_until_somebody_asks_again(desk: Desk) -> None:
    desk.sign_up()
    desk.clock.move(timedelta(days=1, seconds=1).total_seconds())
    assert desk.mail() == []
    desk.sign_up()
    assert desk.mail() == [ADA]


async def test_an_address_that_was_not_confirmed_is_deleted_within_days(desk: Desk) -> None:
    assert SIGNUPS > CONFIRM_WITHIN
    desk.sign_up()
    desk.clock.move(SIGNUPS.total_seconds())
    desk.sign_up("new@example.org")
    desk.clock.move(1)
    assert (await retire(desk.ledger, {})).signups == 1
    assert [row["email"] for row in rows(desk.ledger, signup)] == ["new@example.org"]


def nobody_runs(_connection: Connection) -> None:
    """No run is under way."""


def test_who_is_forgotten_is_no_sign_up_any_more_and_may_come_back_by_own_wish(desk: Desk, tmp_path: Path) -> None:
    desk.confirm(desk.sign_up())
    id_ = find(desk.ledger, ADA).subscriber.id  # type: ignore[union-attr]
    link, file = desk.sign_up(), desk.ledger.faults.file
    for _ in range(2):
        person = find_person(desk.ledger, ADA)
        assert person is not None
        assert person.id == id_
        forget(desk.ledger, person, partial(files_of, tmp_path, file, outbox="o", reports="r", spool="s"), nobody_runs)
        assert rows(desk.ledger, signup) == []
        assert desk.confirm(link) == "used"
        assert add(desk.ledger, desk.clock, ADA) == "inactive"
        link = desk.sign_up()
        assert desk.confirm(link) == "subscribed"
        assert desk.readers == [ADA]


def test_who_has_only_signed_up_can_be_forgotten(desk: Desk, tmp_path: Path) -> None:
    id_ = desk.sign_up()
    for who in (ADA, id_):
        person = find_person(desk.ledger, who)
        assert person is not None
        assert (person.id, person.addresses) == (id_, (ADA,))
    done = forget(desk.ledger, person, list, nobody_runs)
    assert done.rows["signup"] == 1
    assert find_person(desk.ledger, ADA) is None
    assert ADA.encode() not in b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*"))


def test_the_operator_suppresses_and_brings_back_but_not_who_left(desk: Desk) -> None:
    add(desk.ledger, desk.clock, ADA)
    id_ = find(desk.ledger, ADA).subscriber.id  # type: ignore[union-attr]
    now = desk.clock.now()
    desk.ledger.writing(lambda connection: suppress_by_hand(connection, id_, "a wrong number", now))
    [ada] = everyone(desk.ledger, "suppressed")
    assert (ada.reason, ada.changed_at, list(everyone(desk.ledger, "active"))) == ("a wrong number", now, [])
    desk.ledger.writing(lambda connection: reactivate(connection, id_, now))
    assert desk.readers == [ADA]
    desk.ledger.writing(lambda connection: suppress_by_hand(connection, id_, "550 5.1.1", now))
    for _ in range(2):
        desk.ledger.writing(lambda connection: leave(connection, id_, "one-click", now))
    assert find(desk.ledger, id_).reason == "550 5.1.1; asked to leave"  # type: ignore[union-attr]
    with pytest.raises(Refused, match="left by own wish"):
        desk.ledger.writing(lambda connection: reactivate(connection, id_, now))
    assert desk.readers == []
