"""A call of a tool, as the talk of a model makes it: allowed within the limits of a role, then done."""

from collections.abc import Mapping
from typing import Any

from overnight.compensation import Steps
from overnight.outcome import Scope
from overnight.tools import Granted, Limits, Tool, boxed
from overnight.tools.toolkit import Box, Toolkit

CALL = "1" * 32


async def called(
    kit: Toolkit, tool: Tool, limits: Limits, asked: Mapping[str, Any], *, of: Steps | Scope, call: str = CALL
) -> Any:
    """What the model is told. `of` is the item at work: its steps, or its scope alone when it may write nothing."""
    steps, scope = (of, of.scope) if isinstance(of, Steps) else (None, of)
    box = Box(kit, "r", scope, boxed({tool.name: Granted(tool, limits)}), steps)
    grant, arguments = box.tools.allowed(tool.wire_name, asked, 0)
    return await box.use(grant, arguments, call)
