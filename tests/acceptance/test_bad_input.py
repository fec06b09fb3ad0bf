"""What people get wrong: each mistake has its exit code, its place and its remedy, and nothing has happened."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.conftest import (
    COMMAND,
    PATIENCE,
    ModelBooks,
    Project,
    RelayBooks,
    environment,
    started,
    text_of,
    wait_until,
)

pytestmark = pytest.mark.slow

WRONG, REFUSED = 2, 4
RUN = ("run", "daily_email", "--date", "2026-11-22")
JOB = "jobs/daily_email.py"


@pytest.fixture
def site(project: Project) -> Project:
    """A project with three subscribers."""
    project.subscribe("ada@example.org", "bela@example.org", "chiara@example.org")
    return project


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server for the files of a folder `www`."""
    folder = tmp_path / "www"
    folder.mkdir()
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    with started(command, environment(tmp_path)) as line:
        yield f"http://127.0.0.1:{line.partition(' port ')[2].partition(' ')[0]}"


@pytest.mark.parametrize(
    ("old", "new", "place", "remedy"),
    [
        pytest.param("drain: 30s", "drian: 30s", "schedule.yaml:14:1", "did you mean 'drain'?", id="unknown key"),
        pytest.param("cy: 20\n", "cy: many\n", "jobs.daily_email.concurrency", "not a whole number", id="wrong type"),
        pytest.param("version: 1\n", "version: 1\nversion: 1\n", ":11:1", "first on line 10", id="duplicate key"),
        pytest.param("  per_day:", "\tper_day:", "schedule.yaml:28:1", "use spaces", id="tab"),
        pytest.param("MAIL_URL:-outbox:var/outbox", "MAIL_URL", "mail.transport", "in .env beside", id="no variable"),
        pytest.param('cron: "0 7 * * *"', 'cron: "0 25 * * *"', "jobs.daily_email.cron", "hour", id="no such hour"),
    ],
)
def test_a_mistake_in_the_schedule_is_named_with_its_place(
    site: Project, old: str, new: str, place: str, remedy: str
) -> None:
    site.schedule(old, new)
    for command in (RUN, ("validate",), ("tick",)):
        said = site.run(*command)
        assert said.code == WRONG
        assert place in said.err
        assert remedy in said.err
    assert (site.runs_recorded(), site.outbox("")) == (0, [])


def _gone(path: Path) -> None:
    path.unlink()


def _text(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    return write


def _renamed(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("async def daily_email", "async def dayly_email"), encoding="utf-8")


UNTYPED = "from overnight import job\n@job(items=lambda run: [])\nasync def daily_email(reader, run): ...\n"


@pytest.mark.parametrize(
    ("spoil", "place", "remedy"),
    [
        pytest.param(_gone, "there is no jobs/daily_email.py", "write it, or fix `run:`", id="not there"),
        pytest.param(_text("\ndef job(:\n"), "jobs/daily_email.py:2:", "invalid syntax", id="syntax"),
        pytest.param(_text("import no_such_thing\n"), "'no_such_thing'", "not installed", id="module missing"),
        pytest.param(_text("\nfrom overnight import nothing\n"), "jobs/daily_email.py:2", "nothing", id="name missing"),
        pytest.param(_renamed, "daily_email in jobs.daily_email", "decorated with @job", id="other name"),
        pytest.param(_text("daily_email = 3\n"), "is a int", "decorated with @job", id="no job"),
        pytest.param(
            _text(UNTYPED), "jobs/daily_email.py:2: error", "daily_email(reader: TYPE, run: Run)", id="no type"
        ),
    ],
)
def test_broken_code_of_a_job_is_named_before_anything_happens(
    site: Project, spoil: Callable[[Path], None], place: str, remedy: str
) -> None:
    spoil(site.root / JOB)
    for command in (RUN, ("validate",)):
        said = site.run(*command)
        assert said.code == WRONG
        assert place in said.err
        assert remedy in said.err
    assert (site.runs_recorded(), site.outbox("")) == (0, [])
    assert site.run("run", "hello").code == 0, "the other jobs do not mind"


def test_an_unknown_variable_in_a_template_stops_the_run_before_the_first_mail(site: Project) -> None:
    site.edit("templates/daily_email.txt.j2", "{{ edition.intro |", "{{ edition.introduction |")
    document = site.json(*RUN, code=1)
    assert (document["status"], document["items"]["total"]) == ("stopped", 0)
    assert document["reason"].startswith("templates/daily_email.txt.j2:10:")
    assert "introduction" in document["reason"]
    assert site.outbox("daily_email") == []
    assert site.json("show", "daily_email")["slot"]["pending"] == 3
    assert sum(alert["rule"] == "stopped" for alert in site.json("alerts")) == 1

    site.edit("templates/daily_email.txt.j2", "{{ edition.introduction |", "{{ edition.intro |")
    assert site.json(*RUN)["items"]["ok"] == 3
    assert len(site.outbox("daily_email")) == 3


def test_a_missing_template_stops_the_run(site: Project) -> None:
    (site.root / "templates" / "daily_email.subject.j2").unlink()
    said = site.run(*RUN)
    assert said.code == 1
    assert "templates/daily_email.subject.j2 does not exist: write it" in said.out
    assert site.outbox("daily_email") == []


def test_feeds_that_cannot_be_read_do_not_keep_the_others_out(site: Project, web: str, tmp_path: Path) -> None:
    (tmp_path / "www" / "page.html").write_text("<!doctype html><title>Sign in</title><p>Please", encoding="utf-8")
    (tmp_path / "www" / "cut.xml").write_text('{"feed": []}', encoding="utf-8")
    shutil.copy(site.root / "content" / "feed.xml", tmp_path / "www" / "good.xml")
    site.schedule("feeds: []", f"feeds: [{web}/page.html, {web}/gone.xml, {web}/cut.xml, {web}/good.xml]")
    assert site.json(*RUN)["items"]["ok"] == 3
    assert len(site.outbox("daily_email")) == 3
    [alert] = [alert for alert in site.json("alerts") if alert["rule"] == "feeds"]
    assert f"{web}/page.html" in alert["message"]
    assert "404" in alert["message"]


@pytest.mark.parametrize(("file", "says"), [("page.html", "page.html"), ("gone.xml", "404")])
def test_a_run_stops_when_its_only_feed_cannot_be_read(
    site: Project, web: str, tmp_path: Path, file: str, says: str
) -> None:
    (tmp_path / "www" / "page.html").write_text("<!doctype html><title>Sign in</title><p>Please", encoding="utf-8")
    for topic in ("city: [content/feed.xml]", "science: [content/science.xml]", "culture: [content/culture.xml]"):
        site.schedule(f"        {topic}\n", "")
    site.schedule("      topics: #", "      topics: {} #")
    site.schedule("feeds: []", f"feeds: [{web}/{file}]")
    document = site.json(*RUN, code=1)
    assert document["status"] == "stopped"
    assert "no feed could be read" in document["reason"]
    assert says in document["reason"]
    assert site.outbox("daily_email") == []
    assert site.json("show", "daily_email")["slot"]["pending"] == 3


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(b"mail,who\na@example.org,A\n", "people.csv:1: no column `email`", id="header"),
        pytest.param(b"email,name,topics\n\xff@example.org,A,\n", "save the file as UTF-8", id="encoding"),
        pytest.param(b'email,name,topics\na@example.org,"A\n', "look for a quote that is not closed", id="quote"),
    ],
)
def test_a_csv_that_cannot_be_read_imports_nobody(project: Project, data: bytes, says: str) -> None:
    (project.root / "people.csv").write_bytes(data)
    said = project.run("subscribers", "import", "people.csv")
    assert said.code == WRONG
    assert says in said.err
    assert project.json("subscribers", "list") == []


def test_rows_of_a_csv_that_cannot_be_used_are_named_and_the_others_imported(project: Project) -> None:
    said = project.run("subscribers", "import", "content/subscribers.csv")
    assert said.code == 3
    assert "subscribers.csv:19: not imported" in said.out
    assert len(project.json("subscribers", "list")) == 24


def test_nobody_to_mail_is_no_error(project: Project) -> None:
    document = project.json(*RUN)
    assert (document["status"], document["items"]["total"]) == ("ok", 0)
    assert project.outbox("") == []


def test_a_ledger_that_cannot_be_opened_is_named_with_a_remedy(project: Project) -> None:
    said = project.run("run", "hello", env={"LEDGER": "sqlite:///content"})
    assert said.code == WRONG
    assert "content" in said.err
    assert "writable" in said.err


def test_a_file_that_is_no_ledger_is_left_as_it_is(project: Project) -> None:
    file = project.root / "content" / "subscribers.csv"
    before = file.read_bytes()
    said = project.run("run", "hello", env={"LEDGER": "sqlite:///content/subscribers.csv"})
    assert said.code == 1
    assert "subscribers.csv is damaged: file is not a database" in said.err
    assert file.read_bytes() == before


def test_a_ledger_of_a_newer_version_is_not_touched(project: Project) -> None:
    project.json("run", "hello")
    with closing(sqlite3.connect(project.root / "var" / "overnight.db")) as connection, connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    said = project.run("run", "hello", "--date", "2026-11-23")
    assert said.code == WRONG
    assert "schema 99" in said.err
    assert "upgrade overnight" in said.err
    assert project.runs_recorded() == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "dayly_email"), "did you mean 'daily_email'?"),
        (("run", "daily_email", "--slot", "tomorrow"), "'tomorrow' is not a date such as 2026-11-22"),
        (("run", "daily_email", "--date", "2026-02-30"), "'2026-02-30' is not a date such as 2026-11-22"),
        (("run", "hello", "--limit", "0"), "--limit"),
        (("show", "r_nobody"), "`overnight runs` lists them"),
        (("retry", "r_nobody"), "`overnight runs` lists them"),
        (("resume", "daily_email"), "`overnight runs` lists them"),
        (("--config", "/nowhere/schedule.yaml", "run", "hello"), "/nowhere/schedule.yaml"),
        (("tasks", "add", "Look", "--role", "nobody"), "it has editor, analyst, reviewer"),
        (("tasks", "add", "Look", "--role", "analyst", "--document", "nowhere.md"), "there is no nowhere.md"),
        (("tasks", "add", "Look", "--role", "analyst", "--document", "../x"), "leads upwards"),
        (("tasks", "add", "Look", "--role", "analyst", "--document", "var/secret"), "is given to nobody"),
        (("tasks", "import", "content/tasks.jsonl", "--role", "analyst"), "--label and --role go with --issues"),
        (("pause", "nothing"), "it has daily_email"),
        (("next", "nothing"), "it has daily_email"),
        (("subscribers", "add", "no-at-sign"), "@"),
        (("subscribers", "import", "nowhere.csv"), "nowhere.csv"),
        (("init", "."), "not empty"),
        (("fake-model", "--faults", "schedule.yaml"), "schedule.yaml"),
    ],
)
def test_a_wrong_argument_is_exit_2_with_a_way_on(project: Project, arguments: tuple[str, ...], says: str) -> None:
    said = project.run(*arguments)
    assert (said.code, said.out) == (WRONG, "")
    assert says in said.err
    assert project.runs_recorded() == 0


def test_outside_a_project_the_command_says_how_to_make_one(project: Project, tmp_path: Path) -> None:
    said = project.run("run", "hello", cwd=tmp_path)
    assert said.code == WRONG
    assert "overnight init DIR" in said.err


def test_an_error_is_one_json_document_too(project: Project) -> None:
    said = project.run("--json", "run", "dayly_email")
    assert said.document["error"]["exit_code"] == WRONG
    assert "did you mean" in said.document["error"]["message"]


def test_a_slot_that_is_being_run_is_refused(site: Project, fake_model: ModelBooks) -> None:
    site.env |= fake_model.env
    fake_model.faults({"fault": {"kind": "hang"}})
    process = site.start(*RUN)
    wait_until(lambda: fake_model.bill() or process.poll() is not None, "the first run's question")
    said = site.run(*RUN)
    assert said.code == REFUSED
    assert "is being run by another process" in said.err
    site.kill(process)
    assert (site.runs_recorded(), len(fake_model.bill())) == (1, 1)


def test_a_paused_job_is_run_by_hand_or_by_cron_only_by_an_explicit_word(site: Project) -> None:
    run = site.json("run", "hello")["run_id"]
    site.json("pause", "hello", "--reason", "holidays")
    for command in (("run", "hello", "--yes"), ("retry", run, "--yes"), ("resume", run), ("redo", "hello", *RUN[2:])):
        said = site.run(*command)
        assert said.code == REFUSED, command
        assert "hello is paused: holidays; overnight resume-job hello ends that, --although-paused" in said.err
    assert site.runs_recorded() == 1, "nothing was begun"
    assert site.json("run", "hello", "--dry-run")["items"]["ok"] == 3
    assert site.json("run", "hello", "--although-paused")["status"] == "ok"
    assert site.json("retry", run, "--although-paused")["status"] == "ok"
    site.json("resume-job", "hello")
    assert site.json("run", "hello")["status"] == "ok"


def test_people_are_not_mailed_without_being_asked_first(site: Project) -> None:
    said = site.run(*RUN, env={"MAIL_URL": "smtp://127.0.0.1:9"})
    assert said.code == REFUSED
    assert "--yes" in said.err
    assert site.runs_recorded() == 0


CRON = 'cron: "0 7 * * *"'


def test_an_old_edition_is_not_mailed_without_being_asked_each_time(site: Project, smtp: RelayBooks) -> None:
    site.schedule(CRON, f"max_age: 90m\n    {CRON}")
    assert site.run(*RUN[:2], "--date", "2026-11-20").code == 0, "a folder is nobody's inbox"
    site.env["MAIL_URL"] = smtp.url
    assert site.run(*RUN[:2], "--date", "2026-11-21", "--yes").code == 0
    before = (smtp.count(), site.runs_recorded())
    said = site.run(*RUN)
    assert said.code == REFUSED
    assert "daily_email 2026-11-22 was due " in said.err
    assert "longer than its max_age (1h30m)" in said.err
    assert "--yes" in said.err
    assert site.run("retry", "daily_email").code == REFUSED, "which is as old"
    assert (smtp.count(), site.runs_recorded()) == before
    site.schedule("max_age: 90m", "max_age: 3650d")
    assert site.run(*RUN).code == 0, "a scheduler would run it, too"
    assert site.runs_recorded() == before[1] + 1


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", REFUSED)])
def test_on_a_terminal_an_old_edition_is_a_question(site: Project, smtp: RelayBooks, answer: str, code: int) -> None:
    site.schedule(CRON, f"max_age: 90m\n    {CRON}")
    site.env["MAIL_URL"] = smtp.url
    terminal, side = os.openpty()
    process = subprocess.Popen(
        [str(COMMAND), *RUN], cwd=site.root, env=site.env, stdin=side, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    os.write(terminal, f"{answer}\n".encode())
    _, said = process.communicate(timeout=PATIENCE)
    os.close(side)
    os.close(terminal)
    assert process.returncode == code
    assert b"daily_email 2026-11-22 was due " in said
    assert ("ada@example.org" in smtp.recipients()) == (code == 0)


def test_a_role_that_the_schedule_does_not_have_fails_that_task_only(project: Project, fake_model: ModelBooks) -> None:
    project.env |= fake_model.env
    project.schedule("  analyst: {", "  analist: {")
    (project.root / "content" / "tasks.jsonl").write_text(
        '{"role": "analyst", "title": "Look", "body": "At this."}\n', encoding="utf-8"
    )
    document = project.json("run", "nightly_agents", "--date", "2026-11-22", code=1)
    assert document["items"]["failed"] == 1
    [failed] = project.json("show", "nightly_agents")["items"]
    assert failed["error_code"] == "no_role"
    assert fake_model.bill() == []


def test_without_a_key_the_digest_has_its_fallback_and_says_so(site: Project) -> None:
    said = site.run(*RUN)
    assert said.code == 0
    assert "fallback" in said.out
    mails = site.outbox("daily_email")
    assert len(mails) == 3
    assert all("put together without our editor" in text_of(mail) for mail in mails)
    [alert] = [alert for alert in site.json("alerts") if alert["rule"] == "model"]
    assert "ANTHROPIC_API_KEY" in alert["message"]


def test_without_a_key_agents_stop_and_say_what_is_missing(project: Project) -> None:
    (project.root / "content" / "tasks.jsonl").write_text(
        '{"role": "analyst", "title": "Look", "body": "At this."}\n', encoding="utf-8"
    )
    document = project.json("run", "nightly_agents", "--date", "2026-11-22", code=1)
    assert "set ANTHROPIC_API_KEY in .env" in document["reason"]
    assert project.json("show", "nightly_agents")["slot"]["pending"] == 1


def test_a_store_that_is_down_does_not_change_what_a_run_has_come_to(project: Project) -> None:
    down = {
        "REPORTS_TO": "s3://bucket/reports",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "sham",
        "AWS_SECRET_ACCESS_KEY": "sham",
        "AWS_REGION": "eu-west-1",
    }
    said = project.run("run", "hello", "--date", "2026-11-22", env=down)
    assert said.code == 0
    assert "waiting for the store" in said.out
    waiting = {path.name for path in (project.root / "var" / "spool").rglob("*") if path.is_file()}
    assert waiting

    assert project.run("tick").code == 0
    assert list((project.root / "var" / "reports").rglob("runs-2026-11-22.csv"))
    assert not [path for path in (project.root / "var" / "spool").rglob("*.csv") if path.is_file()]
