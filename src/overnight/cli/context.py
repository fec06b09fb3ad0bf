"""What every subcommand gets: the project, opened when it is first asked for."""

import json
import os
import re
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from overnight.clock import Clock, SystemClock
from overnight.errors import ConfigError

if TYPE_CHECKING:
    from overnight.ledger import Ledger
    from overnight.redact import Redactor
    from overnight.runner import Workplace
    from overnight.schedule import Schedule


class Cli:
    """One call of the command. Everything heavy is opened late and closed at the end."""

    _redactor: ClassVar["Redactor | None"] = None

    def __init__(self, config: Path | None, *, json: bool, quiet: bool, verbose: bool) -> None:
        self.config, self.json, self.quiet, self.verbose = config, json, quiet, verbose
        self.clock: Clock = SystemClock()
        self.follows = False  # a scheduler, whose schedule is in force also while the file is broken

    @cached_property
    def path(self) -> Path:
        """The schedule.yaml in use. Raises ConfigError."""
        from overnight.project import find  # noqa: PLC0415

        if self.config is None:
            return find(Path.cwd())
        path = self.config / "schedule.yaml" if self.config.is_dir() else self.config
        if not path.exists() and not self.follows:
            raise ConfigError(f"{path}: there is no such file")
        return path.absolute()

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self.path.parent

    @cached_property
    def schedule(self) -> "Schedule":
        """The settings. Raises ConfigError with everything that is wrong with them."""
        from overnight.proxies import adopt  # noqa: PLC0415
        from overnight.schedule import load  # noqa: PLC0415
        from overnight.schedule.watch import in_force  # noqa: PLC0415

        loaded = in_force(self.path) if self.follows else load(self.path)
        Cli._redactor = _redactor(loaded.secrets)
        adopt(loaded.environ)
        return loaded

    @cached_property
    def redactor(self) -> "Redactor":
        """Cleans whatever leaves us as text."""
        return _redactor(self.schedule.secrets)

    @classmethod
    def latest_redactor(cls) -> "Redactor":
        """The redactor of the schedule that was loaded last; knows formats only when none was."""
        return cls._redactor or _redactor(frozenset())

    @cached_property
    def ledger(self) -> "Ledger":
        """The open ledger. Raises ConfigError."""
        from overnight.ledger import Ledger  # noqa: PLC0415

        return Ledger.open(self.schedule.ledger, root=self.root, clock=self.clock)

    @cached_property
    def workplace(self) -> "Workplace":
        """Everything a run needs, with logging set up."""
        from overnight.runner import Workplace  # noqa: PLC0415

        self.start_logs()
        if self.ledger.presence.alone and not self.ledger.presence.unclean:  # then opening it has checked it already
            self.ledger.check()
        return Workplace(self.root, self.schedule, self.ledger, self.clock, self.redactor, self.path)

    def start_logs(self, schedule: "Schedule | None" = None) -> None:
        """Log to stderr (readable on a terminal, JSON elsewhere) and to var/log/overnight.jsonl, by `schedule`.

        On a terminal only warnings are shown, because progress is shown there; the file has everything from LOG_LEVEL.
        """
        from overnight import logs  # noqa: PLC0415

        schedule = schedule or self.schedule
        level = schedule.environ.get("LOG_LEVEL") or ("debug" if self.verbose else "info")
        shown = "error" if self.quiet else level
        if sys.stderr.isatty() and not self.verbose and not schedule.environ.get("LOG_LEVEL"):
            shown = "warning"
        folder = self.root / "var" / "log"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the log's folder {folder} cannot be made ({error.strerror}); make var/ writable"
            ) from error
        logs.configure(
            level=level,
            shown=shown,
            stream=sys.stderr,
            redactor=_redactor(schedule.secrets),
            file=folder / "overnight.jsonl",
        )

    def emit(self, document: Any, text: str) -> None:
        """Print the JSON document with --json, else the text."""
        echo(json.dumps(document, ensure_ascii=False, default=str) if self.json else text)

    def say(self, text: str) -> None:
        """Print people's text: on stderr with --json."""
        echo(text, err=self.json)

    def close(self) -> None:
        """Close what was opened."""
        if "ledger" in self.__dict__:
            self.ledger.close()


def job_names(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Complete a job's name for a shell; with nothing, while schedule.yaml is no YAML."""
    from ruamel.yaml import YAML  # noqa: PLC0415  a tenth of what all settings cost: somebody waits for each TAB

    try:
        path = Cli(ctx.find_root().params.get("config"), json=False, quiet=True, verbose=False).path
        jobs = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8-sig"))["jobs"]
        return [str(name) for name in jobs if str(name).startswith(begun)]
    except Exception:  # noqa: BLE001  what is printed here would stand in the middle of somebody's line
        return []


# What a terminal obeys instead of showing it, and what is no text. In JSON the same, written so, is the same value.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def echo(text: str, *, err: bool = False) -> None:
    """Print; what others have written moves no cursor and changes no line that was printed before.

    A reader that has gone away is no reason to stop what is under way, nor to end with another code.
    """
    try:
        click.echo(_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text), err=err)
    except BrokenPipeError:
        stream = sys.stderr if err else sys.stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what is buffered and what follows goes nowhere


def one_line(said: Any) -> str:
    """What others have said, so that it adds no line of its own."""
    return " ".join(str(said or "").split())


def _redactor(secrets: frozenset[str]) -> "Redactor":
    from overnight.redact import Redactor  # noqa: PLC0415

    inherited = {os.environ[name] for name in ("ANTHROPIC_API_KEY", "OVERNIGHT_SECRET") if os.environ.get(name)}
    return Redactor(secrets | inherited)


pass_cli = click.make_pass_decorator(Cli)
