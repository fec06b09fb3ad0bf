"""A person who is forgotten is nowhere any more, and nobody brings that person back."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from overnight.backup import back_up
from overnight.erasure import Person, find_person, forget
from overnight.ledger import Ledger
from overnight.ledger.items import plan, planned
from overnight.ledger.runs import slot_of
from overnight.ledger.tables import alert, call, effect, item, once, subscriber
from overnight.subscribers import active_subscribers, add, export_csv, import_csv
from tests.slots import NOW, SLOT, ManualClock, begin, open_ledger, rows

ADDRESS, NAME = "Canary.Bird@example.org", "Canary Bird"
OTHER = "other@example.org"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: ManualClock) -> Iterator[Ledger]:
    (tmp_path / "var").mkdir()
    opened = open_ledger(tmp_path / "var", clock)
    add(opened, clock, ADDRESS, name=NAME)
    add(opened, clock, OTHER, name="Other")
    yield opened
    opened.close()


def known(ledger: Ledger, who: str = ADDRESS) -> Person:
    found = find_person(ledger, who)
    assert found is not None
    return found


def leave_traces(ledger: Ledger, person: Person) -> None:
    """What a night with this person in it writes everywhere."""
    scope = begin(ledger)
    payload = json.dumps({"id": person.id, "email": ADDRESS, "name": NAME, "topics": ["city"]})
    ledger.writing(lambda c: plan(c, scope, [(0, person.id, payload), (1, "other", "{}")]))
    ledger.writing(lambda c: planned(c, scope, NOW))
    same = {"job": "greet", "slot": SLOT, "run_id": scope.run_id}
    asked = {"hash": "h", "nth": 0, "role": "r", "model": "m", "status": "ok", "budget_day": SLOT, "started_at": NOW}
    sent = {"kind": "mail", "name": "t", "ref": "<id>", "state": "done", "intent_at": NOW}
    text = f"550 5.1.1 <{ADDRESS.lower()}> unknown"
    ledger.writing(
        lambda c: c.execute(insert(call).values(id="c", key=person.id, response=f"Dear {NAME}", **same, **asked))
    )
    ledger.writing(
        lambda c: c.execute(insert(effect).values(id="e", key=person.id, target=person.id, detail=text, **same, **sent))
    )
    ledger.writing(
        lambda c: c.execute(insert(once).values(name="n", value=json.dumps({"to": ADDRESS}), at=NOW, **same))
    )
    wrong = {"key": "bug:x", "rule": "bug", "scope": "x", "state": "firing", "first_at": NOW, "last_at": NOW}
    ledger.writing(lambda c: c.execute(insert(alert).values(message=text, **wrong)))


def holding(folder: Path, *texts: str) -> set[str]:
    """Files of which some byte sequence is one of these, whatever its case."""
    wanted = [text.lower().encode() for text in texts]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name for path in files if any(text in path.read_bytes().lower() for text in wanted)}


def test_nothing_under_var_has_the_address_or_the_name_afterwards(ledger: Ledger, tmp_path: Path) -> None:
    person, var = known(ledger), tmp_path / "var"
    leave_traces(ledger, person)
    back_up(ledger, tmp_path, var / "backups", NOW)
    box = var / "outbox" / "greet" / SLOT
    box.mkdir(parents=True)
    for name, to in (("one", ADDRESS), ("two", OTHER)):
        (box / f"{name}.eml").write_bytes(f"To: {to}\r\nSubject: s\r\n\r\nDear {to}\r\n".encode())
        (box / f"{name}.html").write_text(f"Dear {to}")
    (box / "index.html").write_text(f"{ADDRESS} {OTHER}")
    log = var / "log.jsonl"
    log.write_text(f'{{"error": "{ADDRESS}"}}\n{{"error": "{OTHER} canary.bird%40example.org"}}\n')
    with log.open("a") as still_open:
        assert holding(var, ADDRESS, NAME)
        done = forget(ledger, person, [var])
        still_open.write('{"event": "goes on"}\n')
    assert holding(var, ADDRESS, NAME, "canary.bird%40") == set()
    assert done.left == []
    assert [json.loads(line) for line in log.read_text().splitlines()][-1] == {"event": "goes on"}
    assert OTHER in log.read_text()
    assert sorted(path.name for path in box.iterdir()) == ["index.html", "two.eml", "two.html"]
    assert OTHER in (box / "index.html").read_text()
    assert {Path(name).name for name in done.files} == {"one.eml", "index.html", "log.jsonl", "ledger.db"}
    ledger.check()


def test_what_is_left_are_an_id_a_hash_and_right_counts(ledger: Ledger) -> None:
    person = known(ledger)
    leave_traces(ledger, person)
    done = forget(ledger, person, [])
    row = rows(ledger, subscriber, id=person.id)[0]
    assert (row["email"], row["name"], row["status"]) == ("", "", "forgotten")
    assert row["normalized"].startswith("forgotten:")
    mine = rows(ledger, item, key=person.id)[0]
    assert (mine["state"], mine["reason"]) == ("skipped", "forgotten")
    assert json.loads(mine["payload"]) == {"id": person.id, "email": "", "name": "", "topics": ["city"]}
    counts = ledger.reading(slot_of, "greet", SLOT)
    assert (counts["pending"], counts["skipped"]) == (1, 1)
    assert rows(ledger, effect)[0]["state"] == "done"
    assert dict(done.rows) == {"item": 2, "call": 1, "effect": 1, "once": 1, "alert": 1, "subscriber": 1}


def test_no_import_brings_the_person_back(ledger: Ledger, tmp_path: Path, clock: ManualClock) -> None:
    forget(ledger, known(ledger), [])
    file = tmp_path / "people.csv"
    file.write_text(f"email,name\n{ADDRESS.upper()},{NAME}\nnew@example.org,New\n")
    result = import_csv(ledger, file, clock)
    assert (result.added, result.unchanged) == (1, 1)
    assert add(ledger, clock, ADDRESS) == "inactive"

    class Place:
        pass

    place = Place()
    place.ledger = ledger  # type: ignore[attr-defined]
    assert {who.email for who in active_subscribers(place)} == {OTHER, "new@example.org"}  # type: ignore[arg-type]
    assert "forgotten" not in "".join(export_csv(ledger))


def test_forgetting_may_be_done_again_and_then_goes_on_with_what_was_left(ledger: Ledger, tmp_path: Path) -> None:
    person = known(ledger)
    forget(ledger, person, [])
    late = tmp_path / "var" / "late.log"
    late.write_text(f"found {ADDRESS}")
    again = forget(ledger, known(ledger), [tmp_path / "var"])
    assert again.id == person.id
    assert late.read_text() == f"found {'x' * len(ADDRESS)}"
    assert find_person(ledger, "nobody@example.org") is None


def test_an_id_is_enough(ledger: Ledger, tmp_path: Path) -> None:
    id_ = ledger.reading(lambda c: c.execute(select(subscriber.c.id).where(subscriber.c.email == OTHER))).scalar_one()
    forget(ledger, known(ledger, id_), [tmp_path / "var"])
    assert holding(tmp_path / "var", OTHER) == set()
