"""Taking care of the ledger: backup and restore under way, damage, retention, corrected editions, being forgotten."""

import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.acceptance.conftest import ModelBooks, Project, RelayBooks, wait_until

PEOPLE = [f"reader{number:03}@example.org" for number in range(60)]
FEW = PEOPLE[:3]
TODAY = datetime.now(UTC).date().isoformat()
RUN = ("run", "daily_email", "--slot", TODAY, "--yes")
V1 = Path(__file__).parents[1] / "unit" / "ledgers" / "schema-1.sql"


@pytest.fixture
def mailing(project: Project, fake_model: ModelBooks) -> Project:
    """A project that asks the fake model and mails into the outbox."""
    project.env |= fake_model.env
    return project


def database(project: Project) -> Path:
    return project.root / "var" / "overnight.db"


def whole(file: Path) -> bool:
    with closing(sqlite3.connect(file)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


def altered(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.slow
def test_a_ledger_restored_from_a_backup_made_in_a_run_mails_nobody_twice(mailing: Project) -> None:
    mailing.subscribe(*PEOPLE)
    mailing.edit(
        "jobs/daily_email.py",
        '    return await run.mail.send(subscriber, "daily_email"',
        '    await run.clock.sleep(4)\n    return await run.mail.send(subscriber, "daily_email"',
    )
    process = mailing.start(*RUN)
    box = mailing.root / "var" / "outbox" / "daily_email" / TODAY
    wait_until(lambda: len(list(box.glob("*.eml"))) >= 5 or process.poll() is not None, "the first mails")
    made = mailing.json("backup")
    assert process.wait(60) == 0
    assert whole(Path(made["path"]) / "ledger.db")
    before = {path.name: path.stat().st_mtime_ns for path in box.glob("*.eml")}
    assert len(before) == len(PEOPLE)

    restored = mailing.json("restore", made["path"])
    assert restored["kept"] == [f"{database(mailing)}.replaced"]
    assert restored["paused"] == []
    again = mailing.json(*RUN)
    assert again["items"]["total"] > 0, "the backup was made before the end, or this shows nothing"
    assert {item["state"] for item in mailing.states("daily_email").values()} == {"ok"}
    assert {path.name: path.stat().st_mtime_ns for path in box.glob("*.eml")} == before
    assert whole(database(mailing))
    assert whole(Path(restored["kept"][0]))


@pytest.mark.slow
def test_after_a_restore_nothing_is_mailed_for_real_until_somebody_has_looked(
    mailing: Project, smtp: RelayBooks
) -> None:
    mailing.env["MAIL_URL"] = smtp.url
    mailing.subscribe(*FEW)
    mailing.json("pause", "metrics_digest")
    mailing.json("resume-job", "metrics_digest")
    made = mailing.json("backup")
    mailing.json(*RUN)
    restored = mailing.json("restore", made["path"])
    assert "daily_email" in restored["paused"]
    assert mailing.json("tick")["runs"] == 0
    said = mailing.run(*RUN)
    assert said.code == 4, "a line in cron is refused as well"
    assert "daily_email is paused: restored at " in said.err
    assert smtp.recipients() == Counter(FEW)


def test_a_damaged_ledger_sends_nothing_and_says_how_to_go_on(mailing: Project) -> None:
    mailing.subscribe(*FEW)
    made = mailing.json("backup")
    file = database(mailing)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    said = mailing.run(*RUN)
    assert said.code == 1
    assert f"{file} is damaged" in said.err
    assert f"overnight restore {made['path']}" in said.err
    assert mailing.outbox("daily_email") == []
    assert mailing.run("restore", made["path"]).code == 0
    assert mailing.json(*RUN)["items"]["ok"] == len(FEW)


def test_a_deleted_ledger_is_not_begun_anew_by_itself(mailing: Project) -> None:
    mailing.subscribe(*FEW)
    database(mailing).unlink()
    for command in (RUN, ("tick",), ("subscribers", "list")):
        said = mailing.run(*command)
        assert said.code == 1
        assert "though there was one" in said.err
    (mailing.root / "var" / "overnight.db-open").unlink()
    assert mailing.json("subscribers", "list") == []


def test_restore_is_refused_while_serve_has_the_ledger(project: Project) -> None:
    made = project.json("backup")
    process = project.start("serve", "--port", "0")
    wait_until(lambda: any(line["message"] == "serving" for line in project.log()), "serve")
    assert project.run("restore", made["path"]).code == 4
    project.kill(process)
    assert project.run("restore", made["path"]).code == 0


@pytest.mark.slow
def test_a_corrected_edition_is_composed_anew_and_sent_once_to_everybody_after_asking(
    mailing: Project, fake_model: ModelBooks
) -> None:
    mailing.subscribe(*FEW)
    assert mailing.run("redo", "daily_email", "--slot", TODAY, "--yes").code == 2, "there is nothing to correct yet"
    mailing.json(*RUN)
    refused = mailing.run("redo", "daily_email", "--slot", TODAY)
    assert refused.code == 4
    assert "has sent 3 mails" in refused.err
    second = mailing.json("redo", "daily_email", "--slot", TODAY, "--yes")
    assert (second["slot"], second["items"]["ok"]) == (f"{TODAY}.2", len(FEW))
    third = mailing.json("redo", "daily_email", "--slot", TODAY, "--yes")
    assert third["slot"] == f"{TODAY}.3"
    mails = mailing.outbox("daily_email")
    assert Counter(str(mail["To"]).partition("<")[2].rstrip(">") or str(mail["To"]) for mail in mails) == Counter(
        FEW * 3
    )
    assert len({mail["Message-ID"] for mail in mails}) == 9
    assert len(fake_model.bill()) == 3, "each edition asked the editor"
    again = mailing.json("run", "daily_email", "--slot", f"{TODAY}.2", "--yes")
    assert again["items"]["total"] == 0
    assert mailing.run("run", "daily_email", "--slot", f"{TODAY}.9", "--yes").code == 2


@pytest.mark.slow
def test_what_is_old_is_deleted_once_a_day_and_the_file_shrinks_on_request(mailing: Project) -> None:
    mailing.subscribe(*PEOPLE)
    mailing.json(*RUN)
    assert mailing.json("vacuum", "--dry-run")["deleted"]["items"] == 0
    altered(
        database(mailing),
        "UPDATE slot SET scheduled_for = '2026-01-01T06:00:00.000Z', created_at = '2026-01-01T06:00:00.000Z'",
        "UPDATE run SET started_at = '2026-01-01T06:00:00.000Z'",
    )
    assert mailing.json("vacuum", "--dry-run")["deleted"]["items"] == len(PEOPLE)
    assert mailing.run("tick").code in (0, 1, 3)
    assert any(line["message"] == "old items were deleted" and line["items"] == 60 for line in mailing.log())
    shrunk = mailing.json("vacuum")
    assert shrunk["deleted"]["items"] == 0
    assert shrunk["bytes_won"] > 0
    again = mailing.json(*RUN)
    assert again["items"]["total"] == 0, "that the slot was mailed is remembered"
    assert len(mailing.outbox("daily_email")) == len(PEOPLE)


@pytest.mark.slow
def test_vandalised_counters_are_put_right_and_named(mailing: Project) -> None:
    mailing.subscribe(*FEW)
    mailing.json(*RUN)
    assert mailing.json("rebuild") == {"differences": []}
    altered(database(mailing), "UPDATE slot SET ok = 99", "UPDATE budget SET settled_nano = 1", "DELETE FROM histogram")
    named = {one["what"].partition(" ")[0]: one for one in mailing.json("rebuild")["differences"]}
    assert set(named) == {"slot", "budget", "histogram"}
    assert (named["slot"]["was"], named["slot"]["now"]) == (99, 3)
    assert mailing.run("rebuild").out == "every counter was right\n"


@pytest.mark.slow
def test_a_forgotten_person_is_nowhere_under_var(mailing: Project) -> None:
    canary = "canary.bird@example.org"
    mailing.subscribe(canary, *FEW)
    (mailing.root / "var" / "outbox").mkdir(exist_ok=True)
    (mailing.root / "var" / "outbox" / ".bounces").write_text(f"{canary}\n")
    mailing.json(*RUN, code=3)
    (mailing.root / "var" / "outbox" / ".bounces").unlink()
    mailing.json("retry", "daily_email", "--yes")
    mailing.json("backup")
    assert holding(mailing, canary), "or this shows nothing"
    assert mailing.run("subscribers", "forget", canary).code == 4
    done = mailing.json("subscribers", "forget", canary, "--yes")
    assert done["not_erased"] == []
    assert holding(mailing, canary) == []
    assert len(mailing.outbox("daily_email")) == len(FEW)
    assert whole(database(mailing))
    back = mailing.json("subscribers", "import", str(mailing.root / "people.csv"))
    assert (back["added"], len(mailing.json("subscribers", "list"))) == (0, len(FEW))
    assert mailing.json(*RUN)["items"]["total"] == 0


def holding(project: Project, text: str) -> list[Path]:
    """Files under var/ in whose bytes this is."""
    files = [path for path in (project.root / "var").rglob("*") if path.is_file()]
    return [path for path in files if text.encode() in path.read_bytes().lower()]


def test_a_ledger_of_the_first_schema_is_migrated_by_the_next_command(project: Project) -> None:
    file = database(project)
    file.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(V1.read_text(encoding="utf-8"))
    assert [run["job"] for run in project.json("runs")] == ["nightly_agents", "daily_email"]
    assert len(project.json("subscribers", "list")) == 3
    assert whole(file.with_name("overnight.db.schema-1"))


def test_an_edited_prompt_is_seen_in_the_records_of_the_next_run(project: Project) -> None:
    made = []
    for _ in range(2):
        made.append(project.json("show", project.json("run", "hello")["run_id"])["run"]["code_version"])
        prompt = project.root / "templates" / "roles" / "editor.md.j2"
        prompt.write_text(prompt.read_text(encoding="utf-8") + "Be brief.\n", encoding="utf-8")
    before, after = made
    assert before != after
    assert before.rpartition(".")[0] == after.rpartition(".")[0], "version and job are the same"
