"""The pages that the code itself writes: `python -m docs.reference` renews what is below a mark in docs/reference/*.md.

The schema, the commands, the reports and the syntax of the source say what there is; docs/errors.toml adds what to do.
"""

import inspect
import io
import re
import tokenize
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click

from docs.author import author
from docs.codes import codes, variables
from docs.tables import table
from overnight import errors
from overnight.cells import Kind
from overnight.cli import SECTIONS, SHORT, cli
from overnight.cli.run import EXIT
from overnight.model import REMEDIES
from overnight.report import Report
from overnight.schedule import json_schema
from reports.cost import cost
from reports.errors import errors as errors_report
from reports.items import items
from reports.runs import runs
from reports.success_rate import success_rate

ROOT = Path(__file__).parents[1]
PAGES = Path(__file__).with_name("reference")
MADE = "<!-- below: made by docs/reference.py; edit the code, then `make docs` -->\n"
FORMS: dict[Kind, str] = {
    "text": "text; a formula has one `'` in front",
    "count": "a whole number",
    "money": "dollars with nine digits",
    "ratio": "a number, at most six digits after the point",
    "instant": "UTC, `2026-11-22T07:00:00.000Z`",
    "date": "`2026-11-22`",
}
PLAIN = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "`true` or `false`",
    "array": "a list",
}
BECOMES = {  # of an item, by the class of its error
    "Transient": "tried again",
    "Deferred": "taken up later",
    "Permanent": "failed",
    "Denied": "the model is told",
    "TooLong": "in parts, or failed",
    "Invalid": "repaired, fallback, or failed",
    "Downstream": "undone, then failed",
    "Unknown": "unknown",
    "Skip": "skipped",
    "Stop": "the run stops",
    "ConfigError": "exit 2",
    "Refused": "exit 4",
    "Fenced": "exit 4; this process writes nothing more",
}
ENVIRONMENT = {  # what each variable is for; a test compares with what the source reads
    "ANTHROPIC_API_KEY": "The key for the model. Without it jobs use their fallback or fail.",
    "ANTHROPIC_BASE_URL": "Another address of the Messages API: `overnight fake-model`, a gateway.",
    "MAIL_URL": "How mail leaves; without it into `var/outbox`.",
    "REPORTS_TO": "A folder or `s3://bucket/prefix`; without it `var/reports`.",
    "PUBLIC_URL": "Where `serve` can be reached from outside, in links.",
    "LEDGER": "Where the ledger is; without it `sqlite:///var/overnight.db`.",
    "CHAT_WEBHOOK": "Where alerts go in a chat; without it nowhere.",
    "DIGEST_PING": "What to ping when `daily_email` runs; without it nothing.",
    "OVERNIGHT_SECRET": "Signs links and Message-IDs (16 characters at least); without it `var/secret`, made at once.",
    "OVERNIGHT_TOKEN": "Who has it may see the page and `/metrics` from elsewhere.",
    "LOG_LEVEL": "`debug`, `info`, `warning`, `error` or `critical`.",
    "NO_COLOR": "Set to anything: no colours on a terminal.",
    "GITHUB_TOKEN": "For the tools of roles, and to take in issues.",
    "GITHUB_APP_ID": "The number of a GitHub App, in place of a token.",
    "GITHUB_APP_PRIVATE_KEY": "Its key: the PEM text in quotes, or a path.",
    "GITHUB_API_URL": "Another server (GitHub Enterprise).",
    "AWS_ACCESS_KEY_ID": "For S3, with the next one.",
    "AWS_SECRET_ACCESS_KEY": "For S3.",
    "AWS_SESSION_TOKEN": "For S3, with keys that expire.",
    "AWS_REGION": "The region of the bucket; without it `AWS_DEFAULT_REGION`, then `us-east-1`.",
    "AWS_DEFAULT_REGION": "The same, where `AWS_REGION` is not set.",
    "AWS_ENDPOINT_URL": "A server that is not AWS.",
    "AWS_ENDPOINT_URL_S3": "The same for S3 alone; it wins.",
    "AWS_PROFILE": "Keys by their name in `~/.aws`; read by the SDK.",
    "AWS_SHARED_CREDENTIALS_FILE": "Another file than `~/.aws/credentials`.",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "A role by web identity; read by the SDK.",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "A role of a container; read by the SDK.",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "The same.",
    "HTTPS_PROXY": "The proxy to `https`: the model, S3, GitHub, webhooks, heartbeats; not feeds, `http.get`.",
    "HTTP_PROXY": "The same for `http` addresses.",
    "ALL_PROXY": "The same for both, where neither is set.",
    "NO_PROXY": "Hosts that are reached directly, with commas.",
    "SSL_CERT_FILE": "Certificates of authorities to trust, beside the system's, for the relay.",
    "SSL_CERT_DIR": "The same, as a folder.",
}
INNER = {  # look like variables in the source, and are none of an operator's
    "BUILT_IN", "NO_KEY", "SMALLEST_WINDOW", "STAND_IN", "GIT_CONFIG_NOSYSTEM", "GIT_OPTIONAL_LOCKS",
    "GIT_TERMINAL_PROMPT",
}  # fmt: skip


@cache
def pages() -> dict[str, str]:
    """Each page of docs/reference as it is to be, by its file name: the words above the mark are kept."""
    made = {
        "schedule.md": schedule,
        "commands.md": commands,
        "author.md": lambda: author(BECOMES),
        "columns.md": columns,
        "exit-codes.md": exit_codes,
        "environment.md": environment,
        "errors.md": error_codes,
    }
    return {name: f"{_words(name)}{MADE}\n{parts().rstrip()}\n" for name, parts in made.items()}


def _words(name: str) -> str:
    words, mark, _ = (PAGES / name).read_text(encoding="utf-8").partition(MADE)
    assert mark, f"docs/reference/{name} has no line {MADE}"
    return words


def schedule() -> str:
    """Every key of schedule.yaml: form, default, meaning."""
    schema = json_schema()
    homes: dict[str, str] = {}
    return "\n\n".join([_section(path, model, schema, homes) for path, model in _walked(schema, homes)])


def _walked(schema: Mapping[str, Any], homes: dict[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each block of the file with its path, in the order of the file; a block with the same keys only once.

    `homes` gets the path of each kind of block.
    """
    waiting = [("the file", schema)]
    while waiting:
        path, model = waiting.pop(0)
        inner = []
        for name, field in model["properties"].items():
            ref, _ = _reference(field)
            if ref and ref not in homes:
                homes[ref] = _inside(path, name, field)
                inner.append((homes[ref], schema["$defs"][ref]))
        yield path, model
        waiting = inner + waiting


def _inside(path: str, name: str, field: Mapping[str, Any]) -> str:
    """The path of a block below another."""
    inside = f"{name}: NAME" if _reference(field)[1] else name
    return inside if path == "the file" else f"{path}: {inside}"


def _reference(field: Mapping[str, Any]) -> tuple[str, bool]:
    """The model that a field holds, and whether it holds several by their names."""
    if "$ref" in field:
        return field["$ref"].rpartition("/")[2], False
    for option in field.get("anyOf", []):
        if "$ref" in option:
            return option["$ref"].rpartition("/")[2], False
    extra = field.get("additionalProperties")
    return (extra["$ref"].rpartition("/")[2], True) if isinstance(extra, dict) and "$ref" in extra else ("", False)


def _section(path: str, model: Mapping[str, Any], schema: Mapping[str, Any], homes: Mapping[str, str]) -> str:
    required = {*model.get("required", ())}
    rows = [
        (
            f"`{name}`",
            _form(field) + _as(homes, path, name, field),
            "required" if name in required else _default(field),
            field.get("description", ""),
        )
        for name, field in model["properties"].items()
    ]
    title = path if path == "the file" else f"`{path}`"
    said = "" if model is schema else model.get("description", "").partition("\n")[0] + "\n\n"
    return f"## {title}\n\n{said}{table(('key', 'form', 'default', 'meaning'), rows)}"


def _as(homes: Mapping[str, str], path: str, name: str, field: Mapping[str, Any]) -> str:
    """Where the keys of a block stand, when not under its own name."""
    home = homes.get(_reference(field)[0], "")
    if not home or home == _inside(path, name, field):
        return ""
    place = re.sub(r"[^\w\s-]", "", home.lower()).replace(" ", "-")
    return f", as [`{home.rpartition('tools: ')[2]}`](#{place})"


def _form(field: Mapping[str, Any]) -> str:
    """How a value is written."""
    ref, several = _reference(field)
    if ref:
        return "blocks by name" if several else "a block"
    if shown := field.get("enum") or field.get("examples") or [*filter(None, [field.get("const")])]:
        return " ".join(f"`{each}`" for each in shown)
    options = [each for each in field.get("anyOf", ()) if "examples" in each or PLAIN.get(each.get("type"), "")]
    if options := [each for each in options if "pattern" not in each or "examples" in each]:
        return " or ".join(dict.fromkeys(_form(each) for each in options))
    return PLAIN.get(field.get("type", ""), "a block")


def _default(field: Mapping[str, Any]) -> str:
    default = field.get("default")
    if default is None or default == "" or isinstance(default, dict | list):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def commands() -> str:
    """What `--help` says of each command."""
    root = _context("overnight", cli)
    parts = [_help(root)]
    for section, names in SECTIONS.items():
        parts.append(f"## {section}")
        for name in names:
            command = cli.get_command(root, name)
            assert command is not None
            context = _context(name, command, root)
            parts += [f"### {name}\n\n{SHORT[name]}", _help(context)]
            if isinstance(command, click.Group):
                parts += [_help(_context(each, one, context)) for each, one in sorted(command.commands.items())]
    return "\n\n".join(parts)


def _context(word: str, command: click.Command, parent: click.Context | None = None) -> click.Context:
    """As the command line makes it: a usage line begins with the words, and the arguments, of the parents."""
    return click.Context(command, info_name=word, parent=parent, terminal_width=100, max_content_width=100,
                         help_option_names=["-h", "--help"])  # fmt: skip


def _help(context: click.Context) -> str:
    return f"```text\n{context.command.get_help(context)}\n```"


def columns() -> str:
    """Every column of every report: its form from the declaration, its meaning from the comment beside it."""
    rows = [(f"`{kind}`", form) for kind, form in FORMS.items()]
    parts = [
        table(("kind", "form"), rows),
    ]
    for report in (cost, success_rate, runs, errors_report, items):
        meanings = _comments(report)
        lines = [(f"`{name}`", kind, meanings.get(name, "")) for name, kind in report.columns.items()]
        module = inspect.getmodule(report.fn)
        assert module is not None
        said = f"{inspect.getdoc(module)}\n\n{inspect.getdoc(report.fn)}"
        parts.append(f"## {report.name}\n\n{said}\n\n{table(('column', 'kind', 'meaning'), lines)}")
    return "\n\n".join(parts)


def _comments(report: Report) -> dict[str, str]:
    """The comment behind each column."""
    found, name = {}, ""
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(report.fn)).readline):
        if token.type == tokenize.STRING and token.string.strip('"') in report.columns and token.start[1] == 8:
            name = token.string.strip('"')
        elif token.type == tokenize.COMMENT and name:
            found[name], name = token.string.removeprefix("#").strip(), ""
        elif token.type == tokenize.NL:
            name = ""
    return found


def exit_codes() -> str:
    """The table of README, and which status of a run gives which code."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = readme.partition("## Exit codes\n")[2].partition("\n## ")[0]
    rows = [(f"`{status}`", str(code)) for status, code in EXIT.items()]
    return f"{said.strip()}\n\n## Of a run\n\n{table(('status', 'code'), rows)}"


def environment() -> str:
    """Every variable that the engine, or the schedule.yaml of a new project, reads."""
    names = {*ENVIRONMENT, *(variables().keys() - INNER), *in_schedule()}
    rows = [
        (f"`{name}`", ENVIRONMENT.get(name, "?"))
        for name in sorted(names, key=lambda name: [*ENVIRONMENT, name].index(name))
    ]
    return table(("variable", "what for"), rows)


@cache
def in_schedule() -> set[str]:
    """The variables of the schedule.yaml of a new project."""
    text = re.sub(r"(?m)#.*$", "", (ROOT / "schedule.yaml").read_text(encoding="utf-8"))
    return set(re.findall(r"\$\{(\w+)", text))


def error_codes() -> str:
    """Every code of an error: what it means, what to do, what becomes of the item."""
    with Path(__file__).with_name("errors.toml").open("rb") as file:
        known: dict[str, dict[str, list[str]]] = tomllib.load(file)
    found = codes()
    parts = []
    for section, entries in known.items():
        rows = [(f"`{code}`", *entries[code], _becomes(found[code])) for code in entries if code in found]
        parts.append(f"## {section}\n\n{table(('code', 'what it means', 'what to do', 'then'), rows)}")
    api = [(f"`http_{status}`", remedy) for status, remedy in REMEDIES.items()]
    parts.append(f"## What the model's API refuses for good\n\nThe run stops.\n\n{table(('code', 'what to do'), api)}")
    parts.append("## Without a code of its own\n\nThen the code is the name of the class.\n\n" + _classes())
    return "\n\n".join(parts)


def _classes() -> str:
    kinds = ((name, getattr(errors, name).__doc__.partition("\n")[0], then) for name, then in BECOMES.items())
    rows = [(f"`{name.lower()}`", said, then) for name, said, then in kinds]
    return table(("code", "what it means", "then"), rows)


def _becomes(kinds: Iterable[str]) -> str:
    return " · ".join(dict.fromkeys(BECOMES[kind] for kind in sorted(kinds) if kind in BECOMES))


def main() -> None:
    """Write the pages that differ."""
    for name, text in pages().items():
        (PAGES / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
