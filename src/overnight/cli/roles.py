"""`overnight roles`: who may do what, as a matrix of roles and tools, with the limits below."""

from typing import Any

import click

from overnight.cli.context import Cli, pass_cli
from overnight.errors import ConfigError
from overnight.plurals import counted


@click.command()
@click.argument("role", required=False)
@pass_cli
def roles(cli: Cli, role: str | None) -> None:
    """The matrix of roles and tools with the limits of each; or only of one ROLE."""
    from overnight import project  # noqa: PLC0415
    from overnight.ports import granted_to  # noqa: PLC0415
    from overnight.schedule.problem import did_you_mean  # noqa: PLC0415
    from overnight.tools import BUILT_IN  # noqa: PLC0415

    known = cli.schedule.roles
    if role is not None and role not in known:
        hint = did_you_mean(role, known) or f"it has {', '.join(known) or 'none'}"
        raise ConfigError(f"schedule.yaml has no role {role!r}; {hint}")
    project.attach(cli.root)
    chosen = {name: granted_to(known[name]) for name in known if role in (None, name)}
    tools = [*BUILT_IN, *sorted({tool for grants in chosen.values() for tool in grants} - set(BUILT_IN))]
    document = {name: _role(known[name], grants, tools) for name, grants in chosen.items()}
    cli.emit(document, "\n".join(_page(document, tools)) if document else "schedule.yaml has no roles")


def _role(settings: Any, granted: Any, tools: list[str]) -> dict[str, Any]:
    cells = {name: _cell(granted[name]) if name in granted else {"allowed": False} for name in tools}
    return {
        "models": list(settings.model),
        "max_turns": settings.max_turns if granted else 1,
        "secrets": list(settings.secrets),
        "allow_mixed": settings.allow_mixed,
        "tools": cells,
    }


def _cell(grant: Any) -> dict[str, Any]:
    tool = grant.tool
    limits = grant.limits.model_dump()
    return {
        "allowed": True,
        "limits": limits,
        "shown": grant.limits.shown(),
        "outward": tool.outward,
        "writes": tool.writes,
    }


def _page(document: dict[str, dict[str, Any]], tools: list[str]) -> list[str]:
    width = max(map(len, tools)) + 2
    lines = ["".ljust(width) + "".join(name.ljust(len(name) + 2) for name in document)]
    for tool in tools:
        marks = ("yes" if role["tools"][tool]["allowed"] else "·" for role in document.values())
        columns = zip(document, marks, strict=True)
        lines.append((tool.ljust(width) + "".join(mark.ljust(len(name) + 2) for name, mark in columns)).rstrip())
    for name, role in document.items():
        secrets = f", secrets {' '.join(role['secrets'])}" if role["secrets"] else ""
        mixed = ", mixed" if role["allow_mixed"] else ""
        lines.append(f"\n{name}: {' then '.join(role['models'])}, {counted(role['max_turns'], 'turn')}{secrets}{mixed}")
        allowed = {tool: cell for tool, cell in role["tools"].items() if cell["allowed"]}
        lines += [f"  {tool:<{width}}{cell['shown']}" for tool, cell in allowed.items()] or ["  no tools"]
    return lines
