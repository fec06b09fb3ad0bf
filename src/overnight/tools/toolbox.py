"""The tools of one role, as granted: what is declared to the model, and whether a call of its is allowed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from overnight.errors import Denied
from overnight.outputs import check_links
from overnight.plurals import counted
from overnight.tools.port import Arguments, Limits, Tool

LARGEST = 100_000  # bytes of JSON in the arguments of one call


@dataclass(frozen=True, slots=True)
class Granted:
    """A tool and the limits within which a role may use it."""

    tool: Tool
    limits: Limits


@dataclass(frozen=True, slots=True)
class Toolbox:
    """All that a role may call; `trusted` are the texts whose links it may publish: its prompt, never its data."""

    granted: Mapping[str, Granted]
    trusted: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.granted)

    def declared(self) -> tuple[dict[str, Any], ...]:
        """The tools as the API takes them: those of the role, and no others."""
        return tuple(each.tool.declared() for each in self.granted.values())

    def allowed(self, name: str, given: Any, used: int) -> tuple[Granted, Arguments]:
        """Return the tool and its arguments; `used` counts the calls before it.

        Raises Denied: an unknown tool, arguments of a wrong shape or outside the limits, one call too many.
        """
        grant = self.granted.get(name)
        if grant is None:
            raise Denied(f"there is no tool {name:.80}", code="no_tool")
        if used >= grant.limits.max_calls:
            raise Denied(f"{name} was called {counted(used, 'time')}, which is all that is allowed", code="max_calls")
        asked = _arguments(grant.tool, given)
        grant.limits.refuse(asked)
        if grant.tool.publishes and (wrong := check_links(asked, [*self.trusted, *grant.limits.trusted(asked)])):
            raise Denied(
                f"only links and addresses of your instructions may be published, not {wrong[0]:.120}", code="links"
            )
        return grant, asked


def boxed(tools: Mapping[str, Granted], *trusted: str) -> Toolbox:
    """Return the toolbox of a role, its tools by the names that the model uses."""
    return Toolbox({grant.tool.wire_name: grant for grant in tools.values()}, trusted)


def _arguments(tool: Tool, given: Any) -> Arguments:
    try:
        size = len(json.dumps(given, allow_nan=False))
    except (ValueError, TypeError, RecursionError) as error:
        raise Denied(f"the arguments of {tool.wire_name} are no plain JSON", code="arguments") from error
    if size > LARGEST:
        raise Denied(
            f"the arguments of {tool.wire_name} have {size} bytes, at most {LARGEST} are allowed", code="arguments"
        )
    try:
        return tool.arguments.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)[:5]
        places = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'arguments'}: {each['msg']}" for each in found)
        raise Denied(f"the arguments of {tool.wire_name} are not valid: {places}", code="arguments") from error
