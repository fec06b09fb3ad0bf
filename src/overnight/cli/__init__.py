"""The `overnight` command. Each subcommand is imported when it is called: `--help` costs no database library.

Exit codes: 0 ok, also when there was nothing to do · 1 failed or stopped · 2 wrong usage or schedule.yaml · 3 partial ·
4 refused (pause, lock, taken over, not confirmed) · 130 interrupted.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from overnight import __version__
from overnight.cli.context import Cli
from overnight.errors import ConfigError, Fenced, OvernightError, Refused

COMMANDS = {
    "alerts": "alerts:alerts",
    "backup": "care:backup",
    "bounces": "bounces:bounces",
    "budget": "budget:budget",
    "cancel": "settle:cancel",
    "completion": "completion:completion",
    "costs": "report:costs",
    "demo": "start:demo",
    "doctor": "doctor:doctor",
    "fake-model": "start:fake_model",
    "init": "start:init",
    "logs": "logs:logs",
    "next": "times:next_",
    "pause": "times:pause",
    "preview": "preview:preview",
    "rebuild": "care:rebuild",
    "redo": "redo:redo",
    "rehearse": "rehearse:rehearse",
    "report": "report:report",
    "restore": "care:restore",
    "resume": "run:resume",
    "resume-job": "times:resume_job",
    "roles": "roles:roles",
    "retry": "run:retry",
    "run": "run:run",
    "runs": "look:runs",
    "schema": "times:schema",
    "serve": "serve:serve",
    "settle": "settle:settle",
    "show": "look:show",
    "subscribers": "subscribers:subscribers",
    "tasks": "tasks:tasks",
    "tick": "serve:tick",
    "vacuum": "care:vacuum",
    "validate": "times:validate",
}

SECTIONS = {
    "Begin": ("demo", "init", "doctor", "validate", "schema", "completion"),
    "Run": (
        "run",
        "retry",
        "resume",
        "redo",
        "cancel",
        "settle",
        "preview",
        "rehearse",
        "serve",
        "tick",
        "pause",
        "resume-job",
    ),
    "Look": ("next", "runs", "show", "logs", "report", "costs", "budget", "roles", "alerts"),
    "Data": ("subscribers", "bounces", "tasks", "fake-model"),
    "Ledger": ("backup", "restore", "vacuum", "rebuild"),
}

SHORT = {
    "alerts": "What is wrong now, and quiet for what is known.",
    "backup": "Copy the ledger and the secret, while everything runs.",
    "bounces": "Read returned mail: who cannot be reached is not mailed any more.",
    "budget": "What may still be spent today, and more of it.",
    "cancel": "Ask a run to end.",
    "completion": "What bash, zsh and fish need to complete commands.",
    "costs": "What was spent, by job, model, role or day.",
    "demo": "Run the three jobs here and now: no account, no keys.",
    "doctor": "Check this machine and this project, with a remedy on each line.",
    "fake-model": "Serve the Messages API on this machine, for trying things out.",
    "init": "Write a new project.",
    "logs": "What the log says of one task.",
    "next": "When each job runs next.",
    "pause": "Let a job's occurrences pass until it is resumed.",
    "preview": "Write what a job would mail as files to look at; sends nothing.",
    "rebuild": "Compute the ledger's counters anew and say what differed.",
    "redo": "Make a corrected edition of a slot and send it to everybody again.",
    "rehearse": "Send what a job would mail to an address of yours, marked as a test.",
    "report": "The day's reports as tables or CSV.",
    "restore": "Put a backup in the place of the ledger.",
    "resume": "Continue a run that was interrupted.",
    "resume-job": "End a job's pause.",
    "retry": "Run the items of a run that failed or were not started.",
    "roles": "Which role may use which tool, within which limits.",
    "run": "Run a job now, or go on with its slot.",
    "runs": "The newest runs.",
    "schema": "The JSON Schema of schedule.yaml, for editors.",
    "serve": "Run what is due, for ever.",
    "settle": "Say whether a mail of unknown fate was sent.",
    "show": "A run with its items, or one item with everything known of it.",
    "subscribers": "Who receives the mail.",
    "tasks": "The queue that agents work through.",
    "tick": "Run what is due once, for cron or a systemd timer.",
    "vacuum": "Delete what is older than its retention, and shrink the ledger.",
    "validate": "Check schedule.yaml and say everything that is wrong.",
}


COMMON = ("--json", "-q", "--quiet", "-v", "--verbose")  # no subcommand has options of these names


class Commands(click.Group):
    """The subcommands, imported on call."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names, in the order of the help page."""
        return [name for names in SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"overnight.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the sections from SHORT, without importing anything."""
        for section, names in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, SHORT[name]) for name in names])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--config", type=click.Path(path_type=Path), help="The schedule.yaml to use; else the nearest upwards.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, people's text on stderr.")
@click.option("-q", "--quiet", is_flag=True, help="Only errors in the log.")
@click.option("-v", "--verbose", is_flag=True, help="Every task in the log, also on a terminal.")
@click.pass_context
def cli(ctx: click.Context, config: Path | None, *, as_json: bool, quiet: bool, verbose: bool) -> None:
    """AI agents and e-mail as scheduled batch jobs that survive the night."""
    ctx.obj = Cli(config, json=as_json, quiet=quiet, verbose=verbose)
    ctx.call_on_close(ctx.obj.close)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and leave with its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.exit(_guarded(common_first(arguments)))


def common_first(arguments: list[str]) -> list[str]:
    """The same arguments with the flags of every command in front, wherever before `--` they were written."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    before, after = arguments[:end], arguments[end:]
    return [word for word in before if word in COMMON] + [word for word in before if word not in COMMON] + after


def _guarded(arguments: list[str]) -> int:  # noqa: PLR0911  a table: one kind of ending, one code
    try:
        code = cli.main(arguments, prog_name="overnight", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except OvernightError as error:
        return _told(error, arguments)
    except BrokenPipeError:
        return 0
    except Exception:  # noqa: BLE001  a bug of ours: what was recorded stands, and the reader is told how to go on
        return _our_bug()
    return code if isinstance(code, int) else 0


def _our_bug() -> int:
    import traceback  # noqa: PLC0415  only here

    click.echo(Cli.latest_redactor().text(traceback.format_exc()), err=True)
    said = "error: this is a bug in overnight; what was recorded stands, and the same command goes on from it"
    click.echo(said, err=True)
    return 1


def _told(error: OvernightError, arguments: list[str]) -> int:
    code = 2 if isinstance(error, ConfigError) else 4 if isinstance(error, Refused | Fenced) else 1
    text = Cli.latest_redactor().text(str(error))
    click.echo(text if ": error:" in text else f"error: {text}", err=True)
    if "--json" in arguments:
        import json  # noqa: PLC0415  only here

        click.echo(json.dumps({"error": {"code": error.code, "message": text, "exit_code": code}}))
    if error.code == "ledger_io":
        _end_as_it_is(code)
    return code


def _end_as_it_is(code: int) -> NoReturn:
    """End without closing the ledger, which would be a second try at a sync that failed."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
