"""Subscribers: import takes what is right, names what is not, and brings nobody back."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given
from hypothesis import settings as configured
from hypothesis import strategies as st
from sqlalchemy import update

from overnight.cli.context import Cli
from overnight.cli.subscribers import subscribers
from overnight.clock import SystemClock
from overnight.errors import ConfigError
from overnight.ledger import Ledger
from overnight.ledger.tables import subscriber as table
from overnight.subscribers import (
    PAGE,
    ImportResult,
    Subscriber,
    active_subscribers,
    add,
    everyone,
    export_csv,
    import_csv,
    unsubscribe,
)

CLOCK = SystemClock()


class Desk:
    """A ledger and a file to import."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "subscribers.csv"
        self.ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", clock=CLOCK)

    def take(self, content: str | bytes) -> ImportResult:
        self.path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return import_csv(self.ledger, self.path, CLOCK)

    def people(self) -> dict[str, Subscriber]:
        return {who.email: who for who in active_subscribers(self)}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = Desk(tmp_path)
    yield opened
    opened.ledger.close()


def test_good_rows_are_imported_and_each_bad_one_is_named(desk: Desk) -> None:
    result = desk.take(
        "email,name,topics\n"
        "jane@example.org,Jane,city science\n"
        "not-an-address,Nobody,\n"
        '"multi@example.org","Two\nlines",\n'
        "ok@example.org,Ok,\n"
        "\n"
        "a@b@example.org,X,\n"
        "too@example.org,many,cells,here\n"
        ",No address,\n"
        "coded@example.org,=?utf-8?q?J=0D=0ABcc:_v=40x.com?=,\n"
    )
    assert (result.added, len(result.rejected)) == (2, 6)
    assert [(bad.line, bad.column) for bad in result.rejected] == [
        (3, "email"), (4, "name"), (8, "email"), (9, "row"), (10, "email"), (11, "name"),
    ]  # fmt: skip
    assert set(desk.people()) == {"jane@example.org", "ok@example.org"}
    assert desk.people()["jane@example.org"].topics == ("city", "science")


def test_a_report_of_an_import_gives_no_address_away(desk: Desk) -> None:
    result = desk.take("email\njane.doe@exa_mple\n")
    assert "ane.doe" not in str(result.rejected[0])
    assert result.rejected[0].value == "j…@exa_mple"


def test_importing_again_changes_nothing_and_ids_are_stable(desk: Desk) -> None:
    text = "email,name,topics\njane@example.org,Jane,city\n"
    desk.take(text)
    before = desk.people()
    again = desk.take(text)
    assert (again.added, again.updated, again.unchanged) == (0, 0, 1)
    assert desk.people() == before
    changed = desk.take("email,name,topics\nJane@EXAMPLE.org,Jane Doe,science\n")
    assert (changed.added, changed.updated) == (0, 1)
    (who,) = desk.people().values()
    assert (who.id, who.name, who.topics) == (before["jane@example.org"].id, "Jane Doe", ("science",))


def test_an_id_is_opaque(desk: Desk) -> None:
    desk.take("email\njane@example.org\n")
    (who,) = desk.people().values()
    assert len(who.id) == len("s_") + 16
    assert who.id.startswith("s_")
    assert "jane" not in who.id


def test_columns_that_are_not_there_leave_things_as_they_are(desk: Desk) -> None:
    desk.take("email,name,topics\njane@example.org,Jane,city\n")
    assert desk.take("email\njane@example.org\n").unchanged == 1
    assert desk.people()["jane@example.org"].topics == ("city",)


def test_duplicates_in_a_file_are_merged_and_their_topics_united(desk: Desk) -> None:
    result = desk.take("email,name,topics\na@example.org,,city\nA@Example.org,Ann,science|city\n")
    assert (result.added, result.merged) == (1, 1)
    (who,) = desk.people().values()
    assert (who.name, who.topics) == ("Ann", ("city", "science"))


@pytest.mark.parametrize(
    "content",
    [
        "email,name\na@example.org,Ä\n",
        "\ufeffemail,name\na@example.org,Ä\n",
        "name;email\nÄ;a@example.org\n",
        "Email , NAME\r\na@example.org,Ä\r\n",
        'name,extra,email\n"Ä",x,a@example.org',
    ],
)
def test_order_delimiter_bom_and_line_ends_do_not_matter(desk: Desk, content: str) -> None:
    result = desk.take(content)
    assert (result.added, result.rejected) == (1, [])
    assert desk.people()["a@example.org"].name == "Ä"
    assert any("extra" in note for note in result.notes) == ("extra" in content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("email,name\na@example.org,Ä\n".encode("latin-1"), r"subscribers\.csv:2: not UTF-8 \(byte 25\)"),
        ("email\na@example.org\n".encode("utf-16"), r"subscribers\.csv:1: the file is UTF-16"),
        (b"email\na@example.org\nb\0@example.org\n", r"subscribers\.csv:3: a NUL byte"),
        (b"", r"subscribers\.csv:1: no column `email`"),
        (b"mail,name\na@example.org,x\n", r"subscribers\.csv:1: no column `email`"),
        (b"email,email\na@example.org,x\n", r"subscribers\.csv:1: the column email is there twice"),
        (b'email,name\na@example.org,x\nb@example.org,"open\nc@example.org,y\n', r"subscribers\.csv:3: .*quote"),
        (b'email,name\na@example.org,"x"y\n', r"subscribers\.csv:2: .*quote"),
    ],
)
def test_what_is_no_such_csv_is_refused_whole_with_a_line(desk: Desk, content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        desk.take(content)
    assert desk.people() == {}


def test_a_missing_file_is_a_clear_error(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        import_csv(desk.ledger, desk.path, CLOCK)


def test_nobody_who_left_is_brought_back_by_a_file(desk: Desk) -> None:
    desk.take("email\na@example.org\nb@example.org\n")
    assert unsubscribe(desk.ledger, CLOCK, "A@Example.org")
    result = desk.take("email,name\na@example.org,New name\nb@example.org,\n")
    assert result.unchanged == 2
    assert any("brings nobody back" in note for note in result.notes)
    assert set(desk.people()) == {"b@example.org"}
    assert add(desk.ledger, CLOCK, "a@example.org") == "inactive"


def test_unsubscribing_works_by_id_and_twice_and_names_strangers(desk: Desk) -> None:
    assert add(desk.ledger, CLOCK, "a@example.org") == "added"
    (who,) = desk.people().values()
    assert unsubscribe(desk.ledger, CLOCK, who.id)
    assert unsubscribe(desk.ledger, CLOCK, who.id)
    assert not unsubscribe(desk.ledger, CLOCK, "s_nobody")
    assert not unsubscribe(desk.ledger, CLOCK, "b@example.org")
    (listed,) = everyone(desk.ledger)
    assert (listed.status, listed.reason) == ("unsubscribed", "asked")


def test_a_bounced_address_stays_suppressed_when_it_unsubscribes(desk: Desk) -> None:
    add(desk.ledger, CLOCK, "a@example.org")
    desk.ledger.writing(lambda connection: connection.execute(update(table).values(status="suppressed")))
    assert unsubscribe(desk.ledger, CLOCK, "a@example.org")
    assert [listed.status for listed in everyone(desk.ledger)] == ["suppressed"]


@pytest.mark.parametrize("email", ["x", "jörg@example.org", "a@example.org, b@example.org", "a@example.org\r\nBcc: x"])
def test_a_bad_address_cannot_be_added(desk: Desk, email: str) -> None:
    with pytest.raises(ConfigError):
        add(desk.ledger, CLOCK, email)


def test_quotes_of_sql_are_just_text(desk: Desk) -> None:
    add(desk.ledger, CLOCK, "o'hara@example.org", name="'; DROP TABLE subscriber; --", topics=["a'b"])
    assert desk.people()["o'hara@example.org"].name == "'; DROP TABLE subscriber; --"


def test_all_pages_are_streamed_in_order_and_none_twice(desk: Desk) -> None:
    count = 2 * PAGE + 7
    desk.take("email\n" + "".join(f"r{n}@example.org\n" for n in range(count)))
    ids = [who.id for who in active_subscribers(desk)]
    assert len(ids) == count
    assert ids == sorted(set(ids))


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=40)


@configured(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(people=st.lists(NAMES, max_size=5))
def test_what_is_exported_can_be_imported_again_and_runs_in_no_spreadsheet(tmp_path: Path, people: list[str]) -> None:
    for old in tmp_path.glob("ledger.db*"):
        old.unlink()
    desk = Desk(tmp_path)
    try:
        for n, name in enumerate(["=1+1", "+x", "-1", "@SUM(A1)", 'a"b,c', *people]):
            add(desk.ledger, CLOCK, f"r{n}@example.org", name=name, topics=["=t", "plain"])
        before = desk.people()
        exported = "".join(export_csv(desk.ledger))
        cells = [cell for row in csv.reader(io.StringIO(exported, newline="")) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
        again = desk.take(exported)
        assert (again.unchanged, again.rejected) == (len(before), [])
        assert desk.people() == before
    finally:
        desk.ledger.close()


class Here(Cli):
    """The command line on the ledger of a test."""

    def __init__(self, desk: Desk, *, json: bool) -> None:
        super().__init__(desk.path, json=json, quiet=False, verbose=False)
        self.__dict__["ledger"] = desk.ledger


def command(desk: Desk, *words: str, json: bool = False) -> Result:
    return CliRunner().invoke(subscribers, words, obj=Here(desk, json=json))


def test_the_command_names_bad_rows_and_exits_with_3(desk: Desk) -> None:
    desk.path.write_text("email\na@example.org\nnobody\n")
    result = command(desk, "import", str(desk.path))
    assert result.exit_code == 3
    assert "subscribers.csv:3: not imported: email n…: " in result.output
    assert "1 added" in result.output
    document = json.loads(command(desk, "import", str(desk.path), json=True).stdout)
    assert (document["unchanged"], document["rejected"][0]["line"]) == (1, 3)


def test_the_command_adds_lists_exports_and_unsubscribes(desk: Desk) -> None:
    assert command(desk, "add", "a@example.org", "--name", "Ann", "--topic", "city").exit_code == 0
    assert "a@example.org  Ann  city" in command(desk, "list").output
    assert command(desk, "unsubscribe", "a@example.org").exit_code == 0
    assert "[unsubscribed 20" in command(desk, "list").output
    assert ": asked]" in command(desk, "show", "a@example.org").output
    assert [who["status"] for who in json.loads(command(desk, "list", json=True).stdout)] == ["unsubscribed"]
    assert "a@example.org,Ann,city," in command(desk, "export").output
    target = desk.path.with_name("out.csv")
    assert command(desk, "export", str(target)).exit_code == 0
    assert target.read_text().startswith("email,name,topics,id,status\n")


def test_who_was_imported_with_an_encoded_word_for_a_name_gets_the_mail_without_it(desk: Desk) -> None:
    desk.take("email,name\na@example.org,Ann\nb@example.org,Bob\n")
    coded = update(table).where(table.c.name == "Ann").values(name="=?utf-8?q?A=0D=0ABcc:_v=40x.com?=")
    desk.ledger.writing(lambda connection: connection.execute(coded))
    assert {email: who.name for email, who in desk.people().items()} == {"a@example.org": "", "b@example.org": "Bob"}


def test_the_command_says_when_nobody_is_known(desk: Desk) -> None:
    assert isinstance(command(desk, "unsubscribe", "nobody@example.org").exception, ConfigError)
    assert "no subscribers yet" in command(desk, "list").output


def test_the_command_suppresses_and_brings_back_all_but_who_left(desk: Desk) -> None:
    command(desk, "add", "a@example.org")
    command(desk, "unsubscribe", "a@example.org")
    assert command(desk, "list", "--status", "suppressed").output == "nobody is suppressed\n"
    assert command(desk, "reactivate", "a@example.org").exit_code, "who left comes back by own wish alone"
    command(desk, "add", "b@example.org")
    assert ": by hand]" in command(desk, "suppress", "b@example.org").output
    assert "b@example.org" in command(desk, "list", "--status", "suppressed").output
    assert "[" not in command(desk, "reactivate", "b@example.org").output
    assert command(desk, "show", "nobody@example.org").exit_code
