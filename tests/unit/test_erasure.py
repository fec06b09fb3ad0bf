"""A person who is forgotten is nowhere any more, and nobody brings that person back."""

import asyncio
import gzip
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from threading import Thread
from zoneinfo import ZoneInfo

import pytest
from pandas import DataFrame
from sqlalchemy import Connection, delete, insert, select, update

from overnight.backup import back_up
from overnight.erasure import Person, files_of, find_person, forget
from overnight.errors import Refused
from overnight.ledger import Ledger
from overnight.ledger.controls import alert
from overnight.ledger.deliveries import standing
from overnight.ledger.items import Recorded, plan, planned, record
from overnight.ledger.rollups import trouble
from overnight.ledger.runs import close_run, slot_of, under_way
from overnight.ledger.tables import call, effect, item, metadata, once, subscriber
from overnight.ledger.toolcalls import Told, keep
from overnight.outcome import Outcome
from overnight.report import Day, Report, publish
from overnight.storage import Folder, Spool
from overnight.subscribers import active_subscribers, add, export_csv, import_csv, leave
from tests.slots import NOW, SLOT, ManualClock, begin, open_ledger, rows

ADDRESS, NAME = "Canary.Bird@example.org", "Canary Bird"
OTHER = "other@example.org"
ONE, TWO = f"{1:032x}@example.org", f"{2:032x}@example.org"  # names of mail files


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


def nobody(_connection: Connection) -> None:
    """No run is under way."""


def files(ledger: Ledger, root: Path, reports: str = "var/reports") -> list[Path]:
    return list(files_of(root, ledger.faults.file, outbox="var/outbox", reports=reports, spool="var/spool"))


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
    told = Told("t", "r", "look", f'{{"who": "{NAME}"}}', "done", f"{NAME} is well")
    ledger.writing(lambda c: keep(c, replace(scope, key=person.id), told, NOW))
    wrong = {"key": "bug:x", "rule": "bug", "scope": "x", "state": "firing", "first_at": NOW, "last_at": NOW}
    ledger.writing(lambda c: c.execute(insert(alert).values(message=text, **wrong)))


def holding(folder: Path, *texts: str) -> set[str]:
    """Files of which some byte sequence is one of these, whatever its case."""
    wanted = [text.lower().encode() for text in texts]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name for path in files if any(text in path.read_bytes().lower() for text in wanted)}


def test_a_run_that_wants_to_begin_meanwhile_begins_when_the_person_is_gone(ledger: Ledger) -> None:
    found: list[str] = []

    def run() -> None:
        begin(ledger)
        found.extend(one.email for one in ledger.reading(lambda connection: connection.execute(select(subscriber))))

    thread = Thread(target=run)

    def meanwhile(_connection: Connection) -> None:
        thread.start()
        thread.join(0.1)

    forget(ledger, known(ledger), list, meanwhile)
    thread.join()
    assert sorted(found) == ["", OTHER]


def test_a_run_that_has_begun_since_the_question_was_asked_is_left_in_peace(ledger: Ledger) -> None:
    person = known(ledger)
    leave_traces(ledger, person)
    before = [rows(ledger, each) for each in (item, subscriber)]

    def refuse(connection: Connection) -> None:
        assert under_way(connection)
        raise Refused("one is going on")

    with pytest.raises(Refused):
        forget(ledger, person, lambda: pytest.fail("no file is looked at"), refuse)
    assert [rows(ledger, each) for each in (item, subscriber)] == before


def test_nothing_under_var_has_the_address_or_the_name_afterwards(ledger: Ledger, tmp_path: Path) -> None:
    person, var = known(ledger), tmp_path / "var"
    leave_traces(ledger, person)
    back_up(ledger, tmp_path, var / "backups", NOW)
    box = var / "outbox" / "greet" / SLOT
    box.mkdir(parents=True)
    for name, to in ((ONE, ADDRESS), (TWO, OTHER)):
        (box / f"{name}.eml").write_bytes(f"To: {to}\r\nSubject: s\r\n\r\nDear {to}\r\n".encode())
        (box / f"{name}.html").write_text(f"Dear {to}")
    (box / "index.html").write_text(f"{ADDRESS} {OTHER}")
    log = var / "log" / "overnight.jsonl"
    log.parent.mkdir()
    log.write_text(f'{{"error": "{ADDRESS}"}}\n{{"error": "{OTHER} canary.bird%40example.org"}}\n')
    with log.open("a") as still_open:
        assert holding(var, ADDRESS, NAME)
        done = forget(ledger, person, lambda: files(ledger, tmp_path), nobody)
        still_open.write('{"event": "goes on"}\n')
    assert holding(var, ADDRESS, NAME, "canary.bird%40") == set()
    assert done.left == []
    assert [json.loads(line) for line in log.read_text().splitlines()][-1] == {"event": "goes on"}
    assert OTHER in log.read_text()
    assert sorted(path.name for path in box.iterdir()) == [f"{TWO}.eml", f"{TWO}.html", "index.html"]
    assert OTHER in (box / "index.html").read_text()
    assert {Path(name).name for name in done.files} == {f"{ONE}.eml", "index.html", "overnight.jsonl", "ledger.db"}
    ledger.check()


def test_logs_that_were_turned_over_and_packed_lose_the_address_and_keep_their_order(
    ledger: Ledger, tmp_path: Path
) -> None:
    folder = tmp_path / "var" / "log"
    folder.mkdir()
    packed, other, torn, sealed = (folder / f"overnight.jsonl.{end}" for end in ("2.gz", "3.gz", "4.gz", "5.xz"))
    packed.write_bytes(gzip.compress(f'{{"error": "{ADDRESS}"}}\n{{"error": "{OTHER}"}}\n'.encode()))
    other.write_bytes(gzip.compress(b'{"error": "none"}\n'))
    torn.write_bytes(packed.read_bytes()[:-12])
    sealed.write_bytes(b"packed otherwise")
    os.utime(packed, (1, 1))
    before = other.read_bytes()
    done = forget(ledger, known(ledger), lambda: files(ledger, tmp_path), nobody)
    unknown = "x" * len(ADDRESS)
    assert gzip.decompress(packed.read_bytes()).decode() == f'{{"error": "{unknown}"}}\n{{"error": "{OTHER}"}}\n'
    assert (packed.stat().st_mtime, other.read_bytes()) == (1, before)
    assert done.files == {str(packed): "overwritten in 1 places"}
    assert [line.partition(":")[0] for line in done.left] == [str(torn), str(sealed)]
    assert len([*folder.iterdir()]) == 4


def test_what_is_left_are_an_id_a_hash_and_right_counts(ledger: Ledger) -> None:
    person = known(ledger)
    leave_traces(ledger, person)
    done = forget(ledger, person, list, nobody)
    row = rows(ledger, subscriber, id=person.id)[0]
    assert (row["email"], row["name"], row["status"]) == ("", "", "forgotten")
    assert row["normalized"].startswith("forgotten:")
    mine = rows(ledger, item, key=person.id)[0]
    assert (mine["state"], mine["reason"]) == ("skipped", "forgotten")
    assert json.loads(mine["payload"]) == {"id": person.id, "email": "", "name": "", "topics": ["city"]}
    counts = ledger.reading(slot_of, "greet", SLOT)
    assert (counts["pending"], counts["skipped"]) == (1, 1)
    assert rows(ledger, effect)[0]["state"] == "done"
    counted = {"item": 2, "call": 1, "tool_call": 1, "effect": 1, "once": 1, "alert": 1, "subscriber": 1}
    assert dict(done.rows) == counted


def test_what_has_failed_for_the_person_stays_among_the_troubles_and_what_was_to_be_tried_again_leaves_them(
    ledger: Ledger,
) -> None:
    person = known(ledger)
    for slot_name, state in (("2026-11-21", "failed"), ("2026-11-22", "retry")):
        scope = begin(ledger, slot=slot_name)
        ledger.writing(lambda c, scope=scope: plan(c, scope, [(0, person.id, "{}")]))
        came_to = Recorded(scope, "pending", Outcome(person.id, state, error_class="permanent"), NOW)
        ledger.writing(lambda c, came_to=came_to: record(c, [came_to]))
    forget(ledger, person, list, nobody)
    assert {(row["slot"], row["n"]) for row in rows(ledger, trouble)} == {("2026-11-21", 1), ("2026-11-22", 0)}


def test_no_import_brings_the_person_back(ledger: Ledger, tmp_path: Path, clock: ManualClock) -> None:
    forget(ledger, known(ledger), list, nobody)
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
    forget(ledger, person, list, nobody)
    late = tmp_path / "var" / "reports" / "latest" / "errors.csv"
    late.parent.mkdir(parents=True)
    late.write_text(f"found {ADDRESS}")
    again = forget(ledger, known(ledger), lambda: files(ledger, tmp_path), nobody)
    assert again.id == person.id
    assert late.read_text() == f"found {'x' * len(ADDRESS)}"
    assert find_person(ledger, "nobody@example.org") is None


def test_a_report_stays_true_to_its_manifest_and_one_that_waits_is_still_uploaded(
    ledger: Ledger, tmp_path: Path
) -> None:
    def faulty(day: Day) -> DataFrame:
        return day.query("SELECT :text AS text", text=f"550 {ADDRESS}")

    scope = begin(ledger)
    ledger.writing(lambda c: close_run(c, scope, "ok", None, NOW))
    var = tmp_path / "var"
    report = Report("faulty", faulty, {"text": "text"})
    spool = Spool(var / "spool", Folder(var / "reports"))
    asyncio.run(publish([report], [NOW.date()], ledger, ZoneInfo("UTC"), spool))
    spool.add(
        [(str(path.relative_to(var / "reports")), path.read_bytes()) for path in sorted((var / "reports").rglob("*.*"))]
    )
    forget(ledger, known(ledger), lambda: files(ledger, tmp_path), nobody)
    assert holding(var, ADDRESS) == set()
    folder = var / "reports/report=faulty/date=2026-11-22"
    for _ in range(2):
        told = json.loads((folder / "manifest.json").read_text())
        assert told["sha256"] == sha256((folder / "faulty-2026-11-22.csv").read_bytes()).hexdigest()
        assert asyncio.run(spool.drain()).left == 0


@pytest.mark.parametrize(("version", "address"), [(1, "bob@example.org"), (2, "mara@example.org")])
def test_a_copy_from_before_the_last_migration_loses_a_person_who_waits_for_a_mail(
    ledger: Ledger, tmp_path: Path, version: int, address: str
) -> None:
    copy = tmp_path / "var" / f"ledger.db.before-{version}"
    with closing(sqlite3.connect(copy)) as connection:
        connection.executescript((Path(__file__).parent / "ledgers" / f"schema-{version}.sql").read_text("utf-8"))
        id_, name = connection.execute("SELECT id, name FROM subscriber WHERE email = ?", [address]).fetchone()
        connection.execute("UPDATE item SET state = 'retry', error_code = 'smtp_451' WHERE key = ?", [id_])
        connection.commit()
    done = forget(ledger, Person(id_, (address,), name), lambda: files(ledger, tmp_path), nobody)
    assert done.left == []
    assert holding(tmp_path / "var", address) == set()
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT state FROM item WHERE key = ?", [id_]).fetchall() == [("skipped",)]


def test_an_id_is_enough(ledger: Ledger, tmp_path: Path) -> None:
    id_ = ledger.reading(lambda c: c.execute(select(subscriber.c.id).where(subscriber.c.email == OTHER))).scalar_one()
    forget(ledger, known(ledger, id_), lambda: files(ledger, tmp_path), nobody)
    assert holding(tmp_path / "var", OTHER) == set()


def test_a_second_time_by_id_changes_nothing_of_anybody(ledger: Ledger) -> None:
    person = known(ledger)
    leave_traces(ledger, person)
    forget(ledger, person, list, nobody)
    told = update(item).where(item.c.key == person.id).values(result='"sea, sun"')
    ledger.writing(lambda c: c.execute(told))
    before = {table.name: rows(ledger, table) for table in metadata.sorted_tables}
    again = forget(ledger, known(ledger, person.id), list, nobody)
    assert +again.rows == {}
    assert {table.name: rows(ledger, table) for table in metadata.sorted_tables} == before


def test_a_reader_of_a_job_who_has_left_is_forgotten_by_id(ledger: Ledger, tmp_path: Path) -> None:
    reader = Person("u1", ())
    leave_traces(ledger, reader)
    ledger.writing(lambda c: c.execute(delete(subscriber).where(subscriber.c.email == ADDRESS)))
    assert find_person(ledger, "u1") is None, "who has not left is known to the job alone"
    ledger.writing(lambda c: leave(c, "u1", "page", NOW))
    for _ in range(2):
        forget(ledger, known(ledger, "u1"), lambda: files(ledger, tmp_path), nobody)
        assert holding(tmp_path / "var", ADDRESS, NAME) == set()
        assert ledger.reading(standing, "u1").status == "forgotten", "whom the job brings again, is mailed nothing"


SHORT = "ann@example.co"
LONGER = ("joann@example.co", "ann@example.com", "jo.ann@example.co", "ann@example.co.uk", "jo%2Bann%40example.co")


@pytest.mark.parametrize("other", LONGER)
def test_an_address_that_only_contains_the_forgotten_one_is_untouched_everywhere(
    ledger: Ledger, tmp_path: Path, clock: ManualClock, other: str
) -> None:
    add(ledger, clock, SHORT)
    var, payload = tmp_path / "var", json.dumps({"email": other, "note": f"one\n{other}"})
    scope = begin(ledger)
    ledger.writing(lambda c: plan(c, scope, [(0, "other", payload), (1, "both", json.dumps(f"{SHORT}, {other}"))]))
    box = var / "outbox" / "greet" / SLOT
    kept = [var / "log" / "overnight.jsonl", var / "reports" / "latest" / "runs.csv", box / f"{TWO}.html"]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{other}\n{SHORT}\n")
    broken = f"To: {other}\r\n\r\nasked by ann@exa=\r\nmple.co, not jo=\r\n{SHORT} nor {SHORT}=\r\nm\r\n"
    (box / f"{TWO}.eml").write_bytes(broken.encode())
    (box / f"{ONE}.eml").write_bytes(f"To: Ann <{SHORT}>\r\n\r\n{other}\r\n".encode())
    done = forget(ledger, known(ledger, SHORT), lambda: files(ledger, tmp_path), nobody)
    assert done.left == []
    payloads = {row["key"]: row["payload"] for row in rows(ledger, item)}
    assert payloads == {"other": payload, "both": json.dumps(f"{done.id}, {other}")}
    assert {path.read_text() for path in kept} == {f"{other}\n{'x' * len(SHORT)}\n"}
    assert (box / f"{TWO}.eml").read_bytes() == broken.replace("ann@exa=\r\nmple.co,", "xxxxxxx=\r\nxxxxxxx,").encode()
    assert not (box / f"{ONE}.eml").exists()


@pytest.mark.parametrize(
    "text",
    ["550\\nann@example.co", "\\u003cann@example.co\\u003e", "?to=3Dann%40example.co&x", "mailto:%3CAnn@Example.CO%3E"],
)
def test_an_escaped_character_before_the_address_does_not_hide_it(
    ledger: Ledger, tmp_path: Path, clock: ManualClock, text: str
) -> None:
    add(ledger, clock, SHORT)
    log = tmp_path / "var" / "log" / "overnight.jsonl"
    log.parent.mkdir()
    log.write_text(text)
    forget(ledger, known(ledger, SHORT), lambda: files(ledger, tmp_path), nobody)
    assert "xxx" in log.read_text()
    assert holding(log.parent, "ann@", "ann%40") == set()


def test_a_ledger_in_the_project_root_lets_only_our_own_files_be_touched(tmp_path: Path, clock: ManualClock) -> None:
    ledger = open_ledger(tmp_path, clock)
    add(ledger, clock, ADDRESS)
    theirs = [tmp_path / name for name in ("people.csv", "content/people.csv", "a/b/saved.eml", "log/overnight.jsonl")]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"To: {ADDRESS}\n\n")
    ours = [tmp_path / name for name in ("ledger.db.broken", "report=errors/date=2026-11-22/errors-2026-11-22.csv")]
    for path in ours:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ADDRESS)
    forget(ledger, known(ledger), lambda: files(ledger, tmp_path, reports="."), nobody)
    ledger.close()
    assert {path.read_text() for path in theirs} == {f"To: {ADDRESS}\n\n"}
    assert {path.read_text() for path in ours} == {"x" * len(ADDRESS)}
