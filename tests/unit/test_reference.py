"""The pages of docs/reference say what the code says."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, cast

import click
import pytest
from click.testing import CliRunner

from docs.author import ENGINES
from docs.codes import FOLDERS, ROOT, alerts, codes, variables
from docs.reference import ENVIRONMENT, INNER, PAGES, in_schedule
from overnight import Run
from overnight.cli import cli
from overnight.run import NOT_UNDONE
from overnight.schedule import json_schema

RENEW = "run `make docs` and commit what it writes"


@cache
def written() -> dict[str, str]:
    """The pages as `make docs` writes them: in a process of its own, for click keeps what help looked like first."""
    program = "import json; from docs.reference import pages; print(json.dumps(pages()))"
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    return cast("dict[str, str]", json.loads(said.stdout))


@pytest.mark.parametrize("name", sorted(path.name for path in PAGES.iterdir()))
def test_a_page_is_the_one_that_the_code_writes(name: str) -> None:
    assert (PAGES / name).read_text(encoding="utf-8") == written()[name], RENEW


def test_every_code_that_the_source_gives_has_a_remedy_and_no_other() -> None:
    with (ROOT / "docs" / "errors.toml").open("rb") as file:
        entries = [entry for section in tomllib.load(file).values() for entry in section.items()]
    assert sorted(code for code, _ in entries) == sorted(codes())
    assert [code for code, (meaning, remedy) in entries if not meaning or not remedy] == []


def test_no_code_in_the_text_of_the_source_is_missed_by_reading_its_syntax() -> None:
    plain = r'\b(?:error_)?code="([a-z]\w*)"'
    texts = (path.read_text(encoding="utf-8") for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    found = {code for text in texts for code in re.findall(plain, text)}
    assert len(found) > 60
    assert found - codes().keys() == set()


def test_a_class_of_error_behind_a_variable_is_told_and_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert codes()["smtp_…"] == {"Deferred", "Permanent", "Stop"}
    source = "def refused(ours):\n    kind = Stop if ours else Permanent\n    return kind('no', code='smtp_refused')\n"
    monkeypatch.setattr("docs.codes.sources", lambda: [("made_up", ast.parse(source))])
    with pytest.raises(ValueError, match="hides the class of smtp_refused behind 'kind'"):
        codes.__wrapped__()


def test_every_variable_that_is_read_is_explained_and_no_other() -> None:
    example = set(re.findall(r"(?m)^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8")))
    read = variables().keys() - INNER | in_schedule()
    assert read == ENVIRONMENT.keys()
    assert example - read == set(), ".env.example names what nothing reads"


def test_no_variable_is_read_by_a_name_that_the_page_cannot_know() -> None:
    told = r'environ(?:\.get\(|\[)\s*f?"([^"]+)"'
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    named = {name for text in texts for name in re.findall(told, text)}
    assert len(named) > 10
    assert named - ENVIRONMENT.keys() == set()


def test_every_alert_of_the_source_has_a_row_in_the_table_and_no_other() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = text.partition("| key of the alert |")[2].partition("\n\n")[0]
    keys = {key for row in table.splitlines()[2:] for key in re.findall(r"`(\w+):[^`]*`", row.split("|")[1])}
    assert len(alerts()) > 20
    # told without a note of it; a job's own; named in another module
    assert keys == alerts() | {"ledger", "TOPIC", NOT_UNDONE}


def test_the_page_of_authors_has_everything_of_run_but_what_is_the_engines() -> None:
    page = (PAGES / "author.md").read_text(encoding="utf-8")
    public = {name for name in {*dir(Run), *Run.__dataclass_fields__} if not name.startswith("_")}
    said = {*re.findall(r"(?m)^(?:\| `|await |)run\.(\w+)", page)}
    assert public - said == ENGINES


def test_every_key_of_the_schedule_explains_itself() -> None:
    schema = json_schema()
    assert silent("the file", schema) == []
    assert [key for name, part in schema["$defs"].items() for key in silent(name, part)] == []


def silent(name: str, part: Mapping[str, Any]) -> list[str]:
    """The keys of a block without an explanation."""
    return [f"{name}.{key}" for key, field in part["properties"].items() if not field.get("description")]


def test_the_page_of_commands_has_for_each_what_its_help_says() -> None:
    page = (PAGES / "commands.md").read_text(encoding="utf-8")
    printed = [*helps((), cli)]
    assert len(printed) == page.count("```text\n") > 50
    assert [text for text in printed if f"```text\n{text}```\n" not in page] == []


def helps(words: tuple[str, ...], command: click.Command) -> Iterator[str]:
    """What `overnight WORDS --help` prints, of a command and of those below it."""
    command._help_option = None  # click keeps that of who asked first: a test, perhaps, of this command alone
    result = CliRunner().invoke(cli, [*words, "--help"], prog_name="overnight", terminal_width=100)
    assert result.exit_code == 0, result.output
    yield result.output
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            assert inner is not None
            if not inner.hidden:
                yield from helps((*words, name), inner)
