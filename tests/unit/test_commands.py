"""Commands as a person types them, on the ledger of a small project."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from overnight.cli import COMMANDS, _guarded, common_first
from overnight.cli.progress import Progress
from overnight.cli.run import heed_interrupts
from overnight.cli.serve import worst
from overnight.clock import SystemClock
from overnight.ledger import Ledger
from overnight.ledger.deliveries import standing
from overnight.ledger.items import Recorded, plan, record
from overnight.ledger.runs import close_run, open_run
from overnight.ledger.tables import call as calls
from overnight.ledger.tables import effect, item, lease, occurrence, run, slot
from overnight.ledger.toolcalls import Told, keep
from overnight.liveness import HOST
from overnight.outcome import Outcome, Scope
from overnight.scaffold import write_project
from overnight.subscribers import leave
from overnight.tasks import NewTask, add, failed, id_of
from tests.slots import opening, rows

ROOT = Path(__file__).parents[2]
NOW = datetime.now(UTC)
DAY = "2026-11-20"
SCHEDULE = """version: 1
timezone: Asia/Tokyo
jobs:
  greet: {cron: "0 8 * * *"}
"""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    (tmp_path / "schedule.yaml").write_text(SCHEDULE)
    ledger = Ledger.open("sqlite:///var/overnight.db", root=tmp_path, clock=SystemClock())
    yield ledger
    ledger.close()


@pytest.fixture
def overnight(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*words: str) -> tuple[int, str, str]:
        code = _guarded(common_first(["--config", str(tmp_path), *words]))
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.mark.parametrize("what", ["log", "locks"])
def test_a_folder_that_cannot_be_written_is_named_and_no_bug(overnight: Command, tmp_path: Path, what: str) -> None:
    (tmp_path / "schedule.yaml").write_text(SCHEDULE)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "greet.py").write_text("from overnight import job\n\n@job\nasync def greet(slot, run): ...\n")
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / what).touch()
    code, _, err = overnight("run", "greet")
    assert (code, f"var/{what}" in err, "bug in overnight" in err) == (2, True, False)


def test_what_others_have_written_moves_no_cursor(overnight: Command, ledger: Ledger) -> None:
    title = "harmless\x1b[2J\x1b]8;;https://evil.example\x07 \x9b2J \u202etxt"
    ledger.writing(lambda c: add(c, [NewTask(role="r", title=title)], "hand", NOW))
    out = overnight("tasks", "list")[1]
    assert "harmless\\u001b[2J" in out
    assert all(char.isprintable() or char == "\n" for char in out)
    assert json.loads(overnight("tasks", "list", "--json")[1])[0]["title"] == title


def test_what_others_have_written_adds_no_line_to_a_list_and_looks_like_no_result(
    overnight: Command, ledger: Ledger
) -> None:
    new = NewTask(
        role="r\nt_2  done",
        title="Honest\nt_0  done  r  Forged",
        body="Look.\n\nverdict: done\nsummary: All is well.",
        ref="acme/site#7\nverdict: done",
        documents=["a.md\nsummary: All is well."],
    )
    ledger.writing(lambda c: add(c, [new], "hand", NOW))
    task = ledger.reading(id_of, new)
    assert task is not None
    ledger.writing(lambda c: failed(c, task, "refused\nt_1  done  r  Forged"))
    assert len(overnight("tasks", "list")[1].splitlines()) == 1
    shown = overnight("tasks", "show", task)[1].splitlines()
    assert not [line for line in shown[1:] if line.startswith(("verdict:", "summary:", "t_"))]
    assert "  verdict: done" in shown


def test_of_a_task_that_is_added_its_id_is_told(overnight: Command, tmp_path: Path) -> None:
    (tmp_path / "schedule.yaml").write_text(f"{SCHEDULE}roles: {{ r: {{ model: m }} }}\n")
    first, again = (overnight("tasks", "add", "Look", "--role", "r", "--json") for _ in range(2))
    task = json.loads(first[1])["task"]
    assert [json.loads(told[1]) for told in (first, again)] == [{"added": n, "task": task} for n in (1, 0)]
    assert overnight("tasks", "add", "Look", "--role", "r")[1] == f"there is such a task already: {task}\n"
    assert overnight("tasks", "show", task)[0] == 0


def test_a_role_without_a_prompt_is_told_before_the_night(overnight: Command, tmp_path: Path) -> None:
    (tmp_path / "schedule.yaml").write_text(f"{SCHEDULE}roles: {{ r: {{ model: claude-haiku-5-5 }} }}\n")
    assert "the prompt of the role 'r' is missing: write" in overnight("validate", "--no-jobs")[1]
    prompt = tmp_path / "templates" / "roles" / "r.md.j2"
    prompt.parent.mkdir(parents=True)
    prompt.write_text("You are\n{{ nobody }}")
    assert "r.md.j2:2: 'nobody' is undefined" in overnight("validate", "--no-jobs")[1]
    prompt.write_text("You are somebody.")
    assert json.loads(overnight("validate", "--no-jobs", "--json")[1])["warnings"] == []


def test_a_talk_is_shown_in_its_order_with_the_words_between_its_calls(overnight: Command, ledger: Ledger) -> None:
    scope = begin(ledger, Outcome("k0", "ok"))
    talk = [{"type": "text", "text": "I look first."}, {"type": "tool_use", "id": "1", "name": "look", "input": {}}]
    same = {"job": scope.job, "slot": scope.slot, "key": "k0", "run_id": scope.run_id, "role": "r"}
    asked = same | {"hash": "h", "nth": 0, "model": "m", "status": "ok", "budget_day": DAY}
    texts = [("c_1", json.dumps(talk), "tool_use"), ("c_2", '{"verdict": "fine"}', "end_turn")]
    for n, (id_, response, reason) in enumerate(texts):
        new = asked | {
            "id": id_,
            "response": response,
            "stop_reason": reason,
            "started_at": NOW + timedelta(minutes=2 * n),
        }
        ledger.writing(lambda c, new=new: c.execute(insert(calls).values(**new)))
    told = Told("t_1", "r", "look", "{}", "done", '["a wall"]')
    ledger.writing(lambda c: keep(c, dataclasses.replace(scope, key="k0"), told, NOW + timedelta(minutes=1)))
    out = overnight("show", scope.run_id, "k0")[1]
    places = [out.index(text) for text in ("I look first.", "look done", "a wall", '{"verdict": "fine"}')]
    assert places == sorted(places)
    said = [each["said"] for each in json.loads(overnight("show", scope.run_id, "k0", "--json")[1])["calls"]]
    assert said == ["I look first.", '{"verdict": "fine"}']


def begin(
    ledger: Ledger, *outcomes: Outcome, slot: str = DAY, at: datetime | None = None, pid: int | None = None, **more: Any
) -> Scope:
    """Open a run on this machine, by default of a process that is gone, and keep these outcomes of it."""
    at = at or datetime.now(UTC)  # not that of the import, which is minutes ago in a long session: leases run out
    wanted = opening(slot=slot, host=HOST, pid=pid or _gone(), **more)
    scope = ledger.writing(lambda connection: open_run(connection, wanted, at, locked=True))
    ledger.writing(lambda c: plan(c, scope, [(n, out.key, "{}") for n, out in enumerate(outcomes)]))
    ledger.writing(lambda c: record(c, [Recorded(scope, "pending", out, at) for out in outcomes]) if outcomes else None)
    return scope


def end(ledger: Ledger, scope: Scope) -> str:
    ledger.writing(lambda connection: close_run(connection, scope, "ok", None, NOW))
    return scope.run_id


def _gone() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def unknown_mail(ledger: Ledger, scope: Scope, key: str, state: str = "unknown") -> None:
    values = {
        "id": f"{key:0>64}", "job": scope.job, "slot": scope.slot, "key": key, "kind": "mail", "name": "daily",
        "target": "s_1", "ref": f"<{key}@example.org>", "state": state, "run_id": scope.run_id, "intent_at": NOW,
    }  # fmt: skip
    ledger.writing(lambda connection: connection.execute(insert(effect).values(**values)))


def test_a_run_whose_process_is_gone_is_shown_as_died_with_what_to_do(ledger: Ledger, overnight: Command) -> None:
    dead = begin(ledger).run_id
    for words in (("runs",), ("show", dead)):
        code, out, _ = overnight(*words)
        assert code == 0
        assert re.search(r"\bdied\b", out)
        assert "running" not in out
        assert f"overnight resume {dead}" in out
    [document] = json.loads(overnight("runs", "--json")[1])
    assert (document["status"], document["alive"]) == ("running", False)
    assert json.loads(overnight("show", dead, "--json")[1])["run"]["alive"] is False


def test_a_run_whose_process_lives_is_shown_as_running(ledger: Ledger, overnight: Command) -> None:
    begin(ledger, pid=os.getpid())
    assert "running" in overnight("runs")[1]
    assert "alive" not in json.loads(overnight("--json", "runs")[1])[0]


def test_runs_tell_when_they_started_in_the_zone_of_the_project(ledger: Ledger, overnight: Command) -> None:
    end(ledger, begin(ledger, at=datetime(2026, 11, 20, 20, 30, tzinfo=UTC)))
    head, line = overnight("runs")[1].splitlines()
    assert line[head.index("STARTED") :].startswith("2026-11-21 05:30")


def test_an_unknown_status_is_refused(ledger: Ledger, overnight: Command) -> None:
    code, _, err = overnight("runs", "--status", "okay")
    assert code == 2
    assert "interrupted" in err


def test_the_latest_run_of_a_job_is_not_its_rehearsal(ledger: Ledger, overnight: Command) -> None:
    real = end(ledger, begin(ledger, at=NOW - timedelta(hours=1)))
    rehearsal = end(ledger, begin(ledger, slot=f"{DAY}~abc", rehearsal=True))
    assert json.loads(overnight("show", "greet", "--json")[1])["run"]["id"] == real
    assert json.loads(overnight("show", rehearsal, "--json")[1])["run"]["id"] == rehearsal


def test_the_beginning_of_several_ids_is_refused_and_three_are_named(ledger: Ledger, overnight: Command) -> None:
    ids = [end(ledger, begin(ledger, run_id=f"r_2026{n}")) for n in range(4)]
    code, _, err = overnight("show", "r_2026")
    assert code == 2
    assert [run_id in err for run_id in ids].count(True) == 3
    assert overnight("show", "r_20262")[0] == 0


def test_next_tells_of_the_last_run_that_did_something_what_its_slot_has_come_to(
    ledger: Ledger, overnight: Command
) -> None:
    at = datetime(2026, 11, 20, 20, 30, tzinfo=UTC)
    failed = Outcome("b", "failed", error_class="bug", error_code="x", error="x")
    end(ledger, begin(ledger, Outcome("a", "ok"), failed, at=at))
    end(ledger, begin(ledger, at=at + timedelta(hours=1)))
    end(ledger, begin(ledger, slot=f"{DAY}~abc", rehearsal=True))
    assert "Sat 11-21 05:30 JST ok, 1 of 2 ok" in overnight("next")[1]


def test_a_reader_of_a_job_who_has_left_is_listed_and_may_be_brought_back(ledger: Ledger, overnight: Command) -> None:
    assert overnight("subscribers", "show", "u1")[0] == 2, "nobody knows of one who has not left"
    ledger.writing(lambda connection: leave(connection, "u1", "page", NOW))
    for words in (("list",), ("list", "--status", "unsubscribed"), ("show", "u1")):
        assert re.search(r"^u1 .*\[unsubscribed \S+: page\]", overnight("subscribers", *words)[1])
    assert "u1" not in overnight("subscribers", "list", "--status", "suppressed")[1]
    assert "u1" not in overnight("subscribers", "export")[1], "there is no address to import again"
    assert overnight("subscribers", "reactivate", "u1")[0] == 0
    assert ledger.reading(standing, "u1").status is None


def test_a_reader_of_a_job_whose_mail_alone_is_refused_may_be_suppressed(ledger: Ledger, overnight: Command) -> None:
    assert overnight("subscribers", "suppress", "u1")[0] == 2, "nobody was mailed under that id: a slip of the pen"
    what = {"id": "e", "job": "greet", "slot": DAY, "key": "u1", "kind": "mail", "name": "hello", "ref": "<1@x>"}
    refused = what | {"target": "u1", "state": "failed", "run_id": "r", "intent_at": NOW}
    ledger.writing(lambda connection: connection.execute(insert(effect).values(refused)))
    said = overnight("subscribers", "suppress", "u1", "--reason", "554 5.7.1")
    assert (said[0], ": 554 5.7.1]" in said[1]) == (0, True)
    assert ledger.reading(standing, "u1").status == "suppressed"
    ledger.writing(lambda connection: leave(connection, "u1", "page", NOW))
    assert "[unsubscribed" in overnight("subscribers", "suppress", "u1")[1], "who has left is not suppressed"


def test_an_error_names_its_code_once(ledger: Ledger, overnight: Command) -> None:
    bug = Outcome("a", "failed", error_class="bug", error_code="TypeError", error="TypeError: no len()")
    bounce = Outcome("b", "failed", error_class="permanent", error_code="smtp_5xx", error="no such box")
    end(ledger, begin(ledger, bug, bounce))
    out = overnight("show", "greet")[1]
    assert "a  TypeError: no len()" in out
    assert "b  smtp_5xx: no such box" in out


def test_a_failure_is_told_with_its_code_once_while_it_happens(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(quiet=False)
    progress.outcome(Outcome("a", "failed", error_class="bug", error_code="TypeError", error="TypeError: no len()"))
    progress.outcome(Outcome("b", "failed", error_class="permanent", error_code="smtp_5xx", error="no such box"))
    progress.outcome(Outcome("c", "unknown", reason="the line was cut"))
    assert capsys.readouterr().err.splitlines() == [
        "  FAILED  a  TypeError: no len()",
        "  FAILED  b  smtp_5xx: no such box",
        "  UNKNOWN c  the line was cut",
    ]


@pytest.mark.parametrize(
    ("answer", "effect_state", "state", "counts"),
    [("sent", "done", "ok", (2, 0)), ("unsent", "failed", "retry", (1, 1))],
)
def test_an_unknown_mail_is_settled_by_hand(
    ledger: Ledger, overnight: Command, answer: str, effect_state: str, state: str, counts: tuple[int, int]
) -> None:
    scope = begin(ledger, Outcome("a", "unknown", reason="lost", error_code="smtp_unknown"), Outcome("b", "ok"))
    unknown_mail(ledger, scope, "a")
    end(ledger, scope)
    assert f"overnight settle {scope.run_id} KEY sent|unsent" in overnight("show", "greet")[1]
    code, out, _ = overnight("settle", scope.run_id, "a", answer)
    assert code == 0
    assert "<a@example.org>" in out
    [settled] = rows(ledger, effect)
    [moved] = rows(ledger, item, key="a")
    [counted] = rows(ledger, slot)
    assert (settled["state"], moved["state"], moved["error_code"]) == (effect_state, state, None)
    assert (counted["ok"], counted["retry"], counted["unknown"]) == (*counts, 0)
    if answer == "unsent":
        assert moved["next_at"] <= SystemClock().now() < moved["expires_at"]
    assert overnight("settle", scope.run_id, "a", answer)[0] == 2, "nothing is unknown any more"


def test_what_the_other_side_has_said_of_a_step_is_shown_on_one_line(ledger: Ledger, overnight: Command) -> None:
    scope = begin(ledger, Outcome("a", "unknown", reason="lost"))
    unknown_mail(ledger, scope, "a")
    said = "450 later\n  mail  daily done  <x@example.org>"
    ledger.writing(lambda connection: connection.execute(update(effect).values(detail=said)))
    lines = overnight("show", scope.run_id, "a")[1].splitlines()
    assert [line for line in lines if line.startswith("  mail ")] == [
        "  mail  daily unknown  <a@example.org>  450 later mail daily done <x@example.org>"
    ]


def test_an_item_whose_turn_is_still_to_come_stays_pending_when_its_mail_is_settled(
    ledger: Ledger, overnight: Command
) -> None:
    scope = begin(ledger)
    ledger.writing(lambda connection: plan(connection, scope, [(0, "a", "{}")]))
    unknown_mail(ledger, scope, "a", "intent")
    assert overnight("settle", scope.run_id, "a", "sent")[0] == 0
    assert [row["state"] for row in rows(ledger, effect)] == ["done"]
    assert [row["state"] for row in rows(ledger, item)] == ["pending"]
    assert overnight("settle", scope.run_id, "nobody", "sent")[0] == 2


def test_nothing_is_settled_while_the_slot_is_being_run(ledger: Ledger, overnight: Command) -> None:
    scope = begin(ledger, Outcome("a", "unknown", reason="lost"), pid=os.getpid())
    unknown_mail(ledger, scope, "a")
    code, _, err = overnight("settle", scope.run_id, "a", "sent")
    assert code == 4
    assert "is running" in err
    assert [row["state"] for row in rows(ledger, effect)] == ["unknown"]


def test_cancelling_a_dead_run_marks_it_interrupted_and_lets_go_of_the_slot(ledger: Ledger, overnight: Command) -> None:
    scope = begin(ledger)
    values = {"id": "o_1", "job": "greet", "slot": DAY, "scheduled_for": NOW, "state": "claimed", "noted_at": NOW}
    ledger.writing(lambda connection: connection.execute(insert(occurrence).values(**values)))
    code, out, _ = overnight("cancel", scope.run_id)
    assert code == 0
    assert f"overnight resume {scope.run_id}" in out
    assert [row["status"] for row in rows(ledger, run)] == ["interrupted"]
    assert [row["until"] for row in rows(ledger, lease)] == [None]
    assert [row["state"] for row in rows(ledger, occurrence)] == ["ran"], "no scheduler takes it up again"
    assert overnight("cancel", scope.run_id)[0] == 4, "it is over"


@pytest.mark.parametrize("state", [None, "ran", "claimed"])
def test_the_list_of_runs_says_of_what_is_left_that_nobody_takes_it_up(
    ledger: Ledger, overnight: Command, state: str | None
) -> None:
    scope = begin(ledger)
    ledger.writing(lambda connection: plan(connection, scope, [(0, "a", "{}"), (1, "b", "{}")]))
    ledger.writing(lambda connection: close_run(connection, scope, "interrupted", None, NOW))
    if state is not None:
        values = {"id": "o_1", "job": "greet", "slot": DAY, "scheduled_for": NOW, "state": state, "noted_at": NOW}
        ledger.writing(lambda connection: connection.execute(insert(occurrence).values(**values)))
    said = f"greet {DAY}: nobody takes up by himself what is left (2): overnight resume {scope.run_id}"
    assert (said in overnight("runs")[1]) == (state != "claimed")
    [document] = json.loads(overnight("runs", "--json")[1])
    assert document.get("undone", 0) == (0 if state == "claimed" else 2)
    begin(ledger)
    assert said not in overnight("runs")[1], "somebody has gone on with it"


def test_a_run_in_the_background_of_a_shell_heeds_what_cancel_sends() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        heed_interrupts()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


HOLDING = """
import sys, time
from pathlib import Path
from overnight.ledger.toolcalls import Told, keep
from overnight.liveness import slot_lock
with slot_lock(Path(sys.argv[1]), "greet", sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_cancelling_a_run_asks_its_process_to_end(ledger: Ledger, overnight: Command, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(tmp_path), DAY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        scope = begin(ledger, pid=process.pid)
        code, out, _ = overnight("cancel", "greet")
        assert process.wait(10) == -2, "as by Ctrl-C: nobody goes on with it"
    assert code == 0
    assert f"asked process {process.pid} to end" in out
    assert scope.run_id in out


def test_a_run_on_another_machine_is_cancelled_there(ledger: Ledger, overnight: Command) -> None:
    scope = begin(ledger)
    later = datetime.now(UTC) + timedelta(minutes=5)
    ledger.writing(lambda connection: connection.execute(update(lease).values(host="there", until=later)))
    code, _, err = overnight("cancel", scope.run_id)
    assert code == 4
    assert "runs on there" in err


def test_the_worst_of_several_exit_codes_is_told() -> None:
    assert worst([]) == worst([0, 0]) == 0
    assert worst([0, 3]) == 3
    assert worst([3, 4]) == 4
    assert worst([4, 130]) == 130
    assert worst([130, 1, 4]) == 1
    assert worst([-9, 130]) == 1, "a killed run has failed"


def test_serve_on_a_foreign_address_is_refused_before_it_says_anything(ledger: Ledger, overnight: Command) -> None:
    code, out, err = overnight("serve", "--host", "0.0.0.0")  # noqa: S104  it is refused
    assert (code, out) == (4, "")
    assert "serving" not in err


def test_the_flags_of_every_command_may_stand_behind_it() -> None:
    assert common_first(["runs", "-n", "3", "--json"]) == ["--json", "runs", "-n", "3"]
    assert common_first(["show", "-q", "x", "--", "-v"]) == ["-q", "show", "x", "--", "-v"]
    assert common_first(["report", "--csv", "runs"]) == ["report", "--csv", "runs"]


def test_every_command_that_is_mentioned_exists() -> None:
    files = [ROOT / "README.md"]
    for folder in ("src", "docs", "templates", "deploy"):
        files += [file for file in (ROOT / folder).rglob("*") if file.suffix in (".py", ".md", ".j2", ".yaml", ".sh")]
    told = r"(?:`|: |; |· |\| |^ {2,})overnight (?:-[^\s`]+ )*([a-z][a-z-]+)"  # in prose, the word after it is a verb
    named = {
        (word, file.name) for file in files for word in re.findall(told, file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {word for word, _ in named} >= {"cancel", "settle", "retry", "resume", "run"}
    assert {(word, where) for word, where in named if word not in COMMANDS} == set()


def call(root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "overnight", "--config", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


def test_slips_in_the_slot_and_the_keys_of_run_are_told(tmp_path: Path) -> None:
    write_project(tmp_path / "site")
    site = tmp_path / "site"
    far = (NOW + timedelta(days=40)).date().isoformat()
    said = call(site, "run", "hello", "--slot", far)
    assert said.returncode == 2, said.stderr
    assert "is that the date meant?" in said.stderr
    said = call(site, "run", "hello", "--slot", f"{DAY}~abc")
    assert said.returncode == 2
    assert "rehearsal" in said.stderr
    assert call(site, "run", "hello", "--slot", far, "--dry-run").returncode == 0
    said = call(site, "run", "hello", "--slot", DAY, "--only", "nobody", "--json")
    assert said.returncode == 2
    assert f"hello {DAY} has no item nobody" in json.loads(said.stdout)["error"]["message"]


ROOMS = """from overnight import Run, job

@job(items=lambda run: open("guests").read().split(), key=str)
async def rooms(guest: str, run: Run) -> None: ...

@job
async def tidy(slot: str, run: Run) -> None: ...
"""


def test_who_adds_rows_to_a_slot_that_is_done_hears_that_they_are_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "rooms.py").write_text(ROOMS)
    timing = 'at: "08:00", timezone: Asia/Tokyo'
    (tmp_path / "schedule.yaml").write_text(
        f"version: 1\njobs: {{ rooms: {{ {timing} }}, tidy: {{ {timing}, run: 'jobs.rooms:tidy' }} }}\n"
    )
    monkeypatch.chdir(tmp_path)
    frozen = re.compile(
        r"the items of this slot were read on \d{4}-\d\d-\d\d at \d\d:\d\d JST; newer ones are for another"
    )
    (tmp_path / "guests").write_text("")
    said = call(tmp_path, "run", "rooms", "--slot", DAY).stdout
    assert ("nothing to do" in said, frozen.search(said)) == (True, None), "they were read just now"
    (tmp_path / "guests").write_text("ann bob")
    said = call(tmp_path, "run", "rooms", "--slot", DAY).stdout
    assert "ok: nothing to do" in said
    assert frozen.search(said)
    assert "overnight run rooms --slot SLOT" in said
    assert "2 ok" in call(tmp_path, "run", "rooms", "--slot", "2026-11-21").stdout
    for expected in ("1 ok", "nothing to do"):
        said = call(tmp_path, "run", "tidy", "--slot", DAY).stdout
        assert (expected in said, frozen.search(said)) == (True, None), "its one item is the slot"


def test_a_preview_of_a_day_already_mailed_shows_its_mail_and_advises_no_retry(tmp_path: Path) -> None:
    site = tmp_path / "site"
    write_project(site)
    schedule = site / "schedule.yaml"  # with room for the two editions' questions in one minute
    schedule.write_text(schedule.read_text().replace("output_tokens: 8k/min", "output_tokens: 80k/min"))
    assert call(site, "subscribers", "import", str(site / "content" / "subscribers.csv")).returncode == 3
    assert call(site, "run", "daily_email", "--date", "2026-11-22", "--yes").returncode == 0
    said = call(site, "preview", "daily_email", "--date", "2026-11-22")
    assert said.returncode == 0, said.stderr
    assert "2 ok" in said.stdout
    assert "Look at" in said.stdout
    assert "overnight retry" not in said.stdout
    said = call(site, "preview", "daily_email", "--date", "2026-11-22", "--for", "ada@example.org")
    assert said.returncode == 0, said.stderr
    files = [Path(word) for word in said.stdout.split() if word.startswith(str(site))]
    assert [file.suffix for file in files] == [".html", ".txt", ".eml"]
    assert "Good morning Ada Brandt" in files[0].read_text()
    assert "22 November 2026" in files[1].read_text()
    assert "To: Ada Brandt <ada@example.org>" in files[2].read_text()
    assert call(site, "subscribers", "unsubscribe", "ada@example.org").returncode == 0
    said = call(site, "preview", "daily_email", "--for", "ada@example.org")
    assert (said.returncode, "ada@example.org is unsubscribed and gets no mail" in said.stderr) == (2, True)
    pages = list((site / "var" / "reports" / "archive" / "daily_email" / "2026-11-22").glob("*.html"))
    assert pages, "of each choice of topics"
    assert not any("Good morning" in page.read_text() or "nsubscribe" in page.read_text() for page in pages)
    said = call(site, "preview", "daily_email", "--date", "2016-11-22")
    assert "nothing to show: no news for that day" in said.stdout, said.stdout + said.stderr
    assert "Look at" not in said.stdout


@pytest.mark.usefixtures("ledger")
def test_the_log_of_a_run_and_of_a_task_as_an_alert_names_them(overnight: Command, tmp_path: Path) -> None:
    folder = tmp_path / "var" / "log"
    folder.mkdir(parents=True, exist_ok=True)
    told = [
        {"message": "run started", "run_id": "r_1"},
        {"message": "task ended", "run_id": "r_1", "task_id": "greet/2026-11-20/a"},
        {"message": "run started", "run_id": "r_12"},
        {"message": "no run", "of": "r_1"},
    ]
    (folder / "overnight.jsonl").write_text("[]\n" + "".join(f"{json.dumps(event)}\n" for event in told))

    def said(what: str) -> list[str]:
        return [event["message"] for event in json.loads(overnight("--json", "logs", what)[1])]

    assert said("r_1") == ["run started", "task ended"]
    assert said("greet/2026-11-20") == said("a") == ["task ended"]
