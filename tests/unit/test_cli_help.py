"""Every command explains itself, and a wrong word is answered with a hint."""

import importlib

import click
import pytest
from click.testing import CliRunner

from overnight import __version__
from overnight.cli import COMMANDS, SECTIONS, SHORT, _guarded, cli


def test_the_help_page_lists_every_command_once_with_a_sentence() -> None:
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(COMMANDS) == sorted(SHORT)
    page = CliRunner().invoke(cli, ["--help"]).output
    for name, sentence in SHORT.items():
        assert f"  {name} " in page
        assert sentence.split()[0] in page


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_can_be_imported_and_explains_itself(name: str) -> None:
    module, _, attribute = COMMANDS[name].partition(":")
    command = getattr(importlib.import_module(f"overnight.cli.{module}"), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: cli {name}")
    assert command.help


def test_every_option_of_every_command_says_what_it_does() -> None:
    silent = []
    for name, target in COMMANDS.items():
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(f"overnight.cli.{module}"), attribute)
        inner = list(command.commands.values()) if isinstance(command, click.Group) else [command]
        silent += [
            f"{name} {option.opts[0]}"
            for one in inner
            for option in one.params
            if isinstance(option, click.Option) and not option.help and not option.hidden and not option.default
        ]
    assert silent == []


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert _guarded(["--version"]) == 0
    assert capsys.readouterr().out == f"overnight {__version__}\n"


@pytest.mark.parametrize("arguments", [["rnu"], ["run"], ["next", "--count", "many"], ["serve", "--port", "70000"]])
def test_wrong_usage_is_exit_code_2_and_no_traceback(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert _guarded(arguments) == 2
    said = capsys.readouterr()
    assert "Error" in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
