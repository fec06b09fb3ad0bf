"""The queue of tasks: taken in once, worked on in order, wrong lines named."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from overnight.context import look_for
from overnight.errors import ConfigError
from overnight.ledger import Ledger
from overnight.ledger.tables import task
from overnight.tasks import NewTask, add, close, import_file, listing, open_tasks
from tests.slots import NOW, ManualClock, open_ledger, rows


@dataclass
class Asking:
    """A run, as far as the queue needs one."""

    ledger: Ledger
    root: Path
    params: dict[str, Any] = field(default_factory=dict)
    clock: ManualClock = field(default_factory=ManualClock)
    warnings: list[str] = field(default_factory=list)
    rehearsal: bool = False

    def warn(self, topic: str, message: str) -> None:
        self.warnings.append(f"{topic}: {message}")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Asking]:
    ledger = open_ledger(tmp_path, ManualClock())
    yield Asking(ledger, tmp_path)
    ledger.close()


def adding(ledger: Ledger, *tasks: NewTask, seconds: int = 0) -> int:
    return ledger.writing(lambda connection: add(connection, tasks, "hand", NOW + timedelta(seconds=seconds)))


def titles(here: Asking) -> list[str]:
    return [one.title for one in open_tasks(here)]


def test_higher_priority_goes_first_then_the_older(here: Asking) -> None:
    adding(here.ledger, NewTask(role="analyst", title="old"))
    adding(here.ledger, NewTask(role="analyst", title="new"), seconds=1)
    adding(here.ledger, NewTask(role="analyst", title="urgent", priority=5), seconds=2)
    adding(here.ledger, NewTask(role="analyst", title="whenever", priority=-5))
    assert titles(here) == ["urgent", "old", "new", "whenever"]


def test_the_same_task_twice_is_one_task_even_when_it_was_done(here: Asking) -> None:
    one = NewTask(role="analyst", title="count the sheep", body="all of them")
    assert adding(here.ledger, one, one) == 1
    [row] = rows(here.ledger, task)
    assert here.ledger.writing(lambda connection: close(connection, row["id"], "done", NOW))
    assert adding(here.ledger, one) == 0
    assert titles(here) == []
    assert adding(here.ledger, NewTask(role="reviewer", title=one.title, body=one.body)) == 1


def test_a_task_is_closed_once(here: Asking) -> None:
    adding(here.ledger, NewTask(role="analyst", title="count"))
    [row] = rows(here.ledger, task)
    assert here.ledger.writing(lambda connection: close(connection, row["id"], "cancelled", NOW))
    assert not here.ledger.writing(lambda connection: close(connection, row["id"], "done", NOW))
    assert not here.ledger.writing(lambda connection: close(connection, "t_none", "done", NOW))
    [row] = rows(here.ledger, task)
    assert (row["state"], row["done_at"]) == ("cancelled", NOW)
    assert here.ledger.reading(listing, "open") == []
    assert len(here.ledger.reading(listing)) == 1


def test_a_rehearsal_plans_from_the_file_and_leaves_the_queue_as_it_is(here: Asking) -> None:
    done, queued = NewTask(role="analyst", title="done"), NewTask(role="analyst", title="queued")
    adding(here.ledger, done, queued)
    [row] = rows(here.ledger, task, title="done")
    here.ledger.writing(lambda connection: close(connection, row["id"], "done", NOW))
    before = rows(here.ledger, task)
    lines = [done, queued, NewTask(role="analyst", title="new"), NewTask(role="analyst", title="urgent", priority=5)]
    text = "\n".join(one.model_dump_json() for one in [*lines, lines[2]])
    (here.root / "tasks.jsonl").write_text(f"{text}\nno json\n", encoding="utf-8")
    here.params["tasks"], here.rehearsal = "tasks.jsonl", True
    planned = list(open_tasks(here))
    assert [one.title for one in planned] == ["urgent", "queued", "new"]
    assert list(open_tasks(here)) == planned
    assert rows(here.ledger, task) == before
    assert here.warnings[0].startswith("tasks: tasks.jsonl:6: ")
    here.rehearsal = False
    assert titles(here) == ["urgent", "queued", "new"]
    assert len(rows(here.ledger, task)) == len(before) + 2


def test_a_wrong_line_is_named_and_does_not_keep_the_others_waiting(here: Asking) -> None:
    file = here.root / "tasks.jsonl"
    file.write_text(
        '\ufeff{"role": "analyst", "title": "first"}\n'
        "\n"
        "not json\n"
        '{"role": "analyst"}\n'
        '{"role": "analyst", "title": "x", "colour": "red"}\n'
        '{"role": "analyst", "title": "", "priority": 1}\n'
        '{"role": "analyst", "title": "last"}\r\n',
        encoding="utf-8",
    )
    here.params["tasks"] = "tasks.jsonl"
    assert titles(here) == ["first", "last"]
    assert [warning.partition(": Invalid JSON")[0] for warning in here.warnings] == [
        "tasks: tasks.jsonl:3: line",
        "tasks: tasks.jsonl:4: title: Field required",
        "tasks: tasks.jsonl:5: colour: Extra inputs are not permitted",
        "tasks: tasks.jsonl:6: title: String should have at least 1 character",
    ]
    again = import_file(here.ledger, file, NOW)
    assert (again.added, again.known, len(again.problems)) == (0, 2, 4)


def test_a_line_with_a_role_that_nobody_plays_is_wrong(here: Asking) -> None:
    file = here.root / "tasks.jsonl"
    file.write_text('{"role": "analist", "title": "a"}\n{"role": "analyst", "title": "b"}\n', encoding="utf-8")
    found = import_file(here.ledger, file, NOW, ["analyst"])
    assert (found.added, found.problems) == (
        1,
        ("tasks.jsonl:1: role: schedule.yaml has no role 'analist'; it has analyst",),
    )


def test_a_line_with_a_document_that_is_not_there_is_wrong(here: Asking) -> None:
    (here.root / "docs").mkdir()
    (here.root / "docs" / "a.md").write_text("a", encoding="utf-8")
    file = here.root / "tasks.jsonl"
    lines = [{"role": "analyst", "title": name, "documents": [name]} for name in ("docs/a.md", "docs/", "b.md", "../x")]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    found = import_file(here.ledger, file, NOW, ["analyst"], partial(look_for, here.root))
    assert found.added == 2
    [missing, outside] = found.problems
    assert missing.startswith("tasks.jsonl:3: documents: there is no b.md")
    assert outside.startswith("tasks.jsonl:4: documents: '../x' leads upwards")


def test_text_of_any_language_and_length_comes_through(here: Asking) -> None:
    body = "Ω line\u2028separator \x00 " + "x" * 100_000
    adding(here.ledger, NewTask(role="analyst", title="päivä", body=body))
    [one] = open_tasks(here)
    assert (one.title, one.body) == ("päivä", body)


def test_a_line_of_a_file_ends_where_json_lines_end_and_nowhere_else(here: Asking) -> None:
    file = here.root / "tasks.jsonl"
    said = [f"a{end}b" for end in "\u2028\u2029\x85"]
    lines = (json.dumps({"role": "analyst", "title": title}, ensure_ascii=False) for title in said)
    file.write_text("\r\n".join(lines), encoding="utf-8")
    assert import_file(here.ledger, file, NOW).problems == ()
    assert titles(here) == said


def test_a_file_that_is_not_there_is_told_and_the_queue_goes_on(here: Asking) -> None:
    adding(here.ledger, NewTask(role="analyst", title="queued"))
    here.params["tasks"] = "content/gone.jsonl"
    assert titles(here) == ["queued"]
    assert here.warnings == ["tasks: gone.jsonl: no such file; tasks of the queue are worked on all the same"]


def test_a_file_that_is_no_text_is_an_error_of_the_operator(here: Asking) -> None:
    file = here.root / "tasks.jsonl"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"tasks\.jsonl: cannot be read as UTF-8 text"):
        import_file(here.ledger, file, NOW)
    with pytest.raises(ConfigError, match="cannot be read"):
        import_file(here.ledger, here.root, NOW)


def test_tasks_come_from_a_yaml_list_too_and_a_wrong_one_is_named_by_its_line(here: Asking) -> None:
    file = here.root / "tasks.yaml"
    file.write_text(
        "- { role: analyst, title: one, documents: [docs] }\n\n- role: analyst\n- just text\n", encoding="utf-8"
    )
    found = import_file(here.ledger, file, NOW)
    assert (found.added, [problem.partition(": ")[0] for problem in found.problems]) == (
        1,
        ["tasks.yaml:3", "tasks.yaml:4"],
    )
    assert [one.documents for one in open_tasks(here)] == [("docs",)]
    for text in ("role: analyst", "[", "x" * 2_000_001):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"tasks\.yaml"):
            import_file(here.ledger, file, NOW)


def test_what_is_about_the_same_thing_is_one_task_also_when_its_text_changes(here: Asking) -> None:
    assert adding(here.ledger, NewTask(role="analyst", title="It rains", ref="acme/site#7")) == 1
    assert adding(here.ledger, NewTask(role="analyst", title="It rains a lot", ref="acme/site#7")) == 0
    assert adding(here.ledger, NewTask(role="reviewer", title="It rains", ref="acme/site#7")) == 1
    assert [one.ref for one in open_tasks(here)] == ["acme/site#7"] * 2
