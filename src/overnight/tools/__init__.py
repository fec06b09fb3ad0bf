"""Tools: what a model may do, within the limits of its role."""

from overnight.errors import Denied
from overnight.tools import drafts, files, git, github, queue, web
from overnight.tools.port import Arguments, Hands, Limits, Tool, tool
from overnight.tools.toolbox import Granted, Toolbox, boxed

__all__ = ["BUILT_IN", "Arguments", "Denied", "Granted", "Hands", "Limits", "Tool", "Toolbox", "boxed", "tool"]

BUILT_IN: dict[str, Tool] = {
    each.name: each
    for each in (
        files.read, files.listing, files.write, web.get, git.diff, git.commit, drafts.draft, github.issues,
        github.issue, github.comment, github.label, github.pull, queue.create, queue.results,
    )
}  # fmt: skip
