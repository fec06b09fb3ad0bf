"""Issues with a label as tasks: each becomes one task of a role, once."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from overnight.tasks import Imported, NewTask, add
from overnight.tools.github_api import GitHub, path_of

TITLE, BODY = 500, 200_000  # characters that a task may have


class Source(BaseModel):
    """Where issues come from: `params: { issues: { repo: acme/site, label: agent, role: triage, token: … } }`."""

    model_config = ConfigDict(extra="forbid")

    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    label: str = Field(min_length=1)
    role: str = Field(min_length=1)
    token: str = Field(repr=False)
    url: str = ""
    priority: int = Field(default=0, ge=-1000, le=1000)


async def import_issues(source: Source, ledger: Any, sides: Any, clock: Any) -> Imported:
    """Take the open issues of a label into the queue; one that was taken once is not taken again, also when edited.

    Raises as `GitHub.ask` does.
    """
    api = GitHub.open({"GITHUB_API_URL": source.url}, source.token, sides, clock)
    found = await api.every(path_of(source.repo, "issues"), state="open", labels=source.label)
    new = [
        NewTask(
            role=source.role,
            title=_text(each.get("title"))[:TITLE] or "untitled",
            body=_text(each.get("body"))[:BODY],
            priority=source.priority,
            ref=f"{source.repo}#{each['number']}",
        )
        for each in found
    ]
    now = clock.now()
    added: int = await ledger.write(lambda connection: add(connection, new, f"github:{source.repo}", now))
    return Imported(added, len(new) - added, ())


def _text(said: Any) -> str:
    """Without half letters, which nobody could keep: one such issue would keep all others out."""
    return str(said or "").encode(errors="replace").decode()
