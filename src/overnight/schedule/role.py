"""One entry under `roles:`: which models play it, what it may spend, and which tools it may use within which limits."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from posixpath import normpath, realpath
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, create_model

from overnight.schedule.job import JobSettings, Strict
from overnight.schedule.source import Path_, Source
from overnight.schedule.values import Cap, Count, Flag, Words
from overnight.tools import BUILT_IN, Granted, Limits, files

LONGEST_ANSWER = 21_333  # tokens


def _in_one_piece(tokens: int) -> int:
    """Refuse answers that the SDK expects to take over ten minutes, at 128,000 tokens an hour: it would stream them."""
    if tokens > LONGEST_ANSWER:
        raise ValueError(
            f"an answer comes in one piece, of at most {LONGEST_ANSWER} tokens; for longer ones ask in parts, by split="
        )
    return tokens


def _of_module(name: str) -> str:
    module, colon, function = name.partition(":")
    if not (colon and function.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise ValueError(f"{name!r} is no tool of yours; write module:function, as in jobs.weather:forecast")
    return name


def _grant(limits: type[Limits]) -> Any:
    """The limits of one tool; a tool without limits is written as `files.list:` or `{}`."""
    empty = BeforeValidator(lambda value: {} if value is None else value)
    return Annotated[limits | None, empty]


Models = Annotated[Words, Field(min_length=1)]
OwnTool = Annotated[str, AfterValidator(_of_module)]
_FIELDS: dict[str, Any] = {
    each.name.replace(".", "_"): (_grant(each.limits), Field(default=None, alias=each.name))
    for each in BUILT_IN.values()
}
Tools: Any = create_model(
    "Tools", __base__=Strict, __doc__="The tools of a role; one that is not here is denied.", **_FIELDS
)


class RoleBudget(Strict):
    """What one item may cost in a role, and the role on a wall-clock day in all jobs together."""

    per_task: Cap = None
    """What one item may cost in this role."""
    per_day: Cap = None
    """What the role may cost on a wall-clock day, in all jobs together."""


class RoleSettings(Strict):
    """What an agent may be: models from cheap to dear, lengths, budget, tools with argument limits.

    `own_tools` are functions of the project; `secrets` names the variables that its tools may use; `allow_mixed` says
    that a role which reads what others wrote may have secrets or reach outside all the same.
    """

    model: Models
    """Models from cheap to dear: the next one goes on where the one before gave up."""
    max_tokens: Annotated[Count, AfterValidator(_in_one_piece)] = 1024
    """Of an answer, 21333 at most; ask for longer ones in parts."""
    max_turns: Count = 8
    """Of one question, calls of tools included."""
    budget: RoleBudget = RoleBudget()
    """What the role may spend."""
    tools: Tools = Tools()
    """What it may do; what is not here is denied."""
    own_tools: dict[OwnTool, dict[str, Any]] = Field(default_factory=dict)
    """Tools of the project, as `module:function`, with their limits."""
    secrets: Words = Field(default_factory=list)
    """Names of variables that its tools may use."""
    allow_mixed: Flag = False
    """A person's word that it may read what others wrote and have secrets or reach outside."""

    def granted(self) -> dict[str, Granted]:
        """The built-in tools of this role, with their limits."""
        limits = {name: getattr(self.tools, name.replace(".", "_")) for name in BUILT_IN}
        return {name: Granted(BUILT_IN[name], each) for name, each in limits.items() if each is not None}


def check_roles(source: Source, roles: Mapping[str, RoleSettings], jobs: Mapping[str, JobSettings], root: Path) -> None:
    """Report tools without their secret, a mixed role that nobody has allowed, and tasks for roles that are not there.

    Data is always written by others: a role that can also use a secret or reach outside is one injection away from
    giving things away. Two of the three are enough for most; all three take a person's word, `allow_mixed: true`.
    A role that writes where a job takes its tasks from could give itself work in any other role: that is reported, too.
    """
    for name, role in roles.items():
        for tool, grant in role.granted().items():
            at: Path_ = ("roles", name, "tools", tool)
            missing = [secret for secret in grant.tool.secrets if secret not in role.secrets]
            if missing:
                hint = f"add secrets: [{missing[0]}] to the role"
                source.report(source.key_at(at), at, f"needs the secret {missing[0]}", hint)
            for wanted in set(getattr(grant.limits, "roles", ())) - set(roles):
                source.report(source.value_at((*at, "roles")), at, f"there is no role {wanted!r}")
            for message in _queues_within(grant, jobs, root):
                source.report(source.value_at((*at, "root")), (*at, "root"), message, "let one of the two be elsewhere")
        if (why := _mixed(role)) and not role.allow_mixed:
            at = ("roles", name)
            message = f"reads what others have written and {why}: an injected text could use both"
            source.report(source.key_at(at), at, message, "give it to another role, or write allow_mixed: true")


def _queues_within(grant: Granted, jobs: Mapping[str, JobSettings], root: Path) -> Iterator[str]:
    """Which files of tasks a role could write itself, however they are spelled and whatever links lead there."""
    if not isinstance(grant.limits, files.Into):
        return
    place = realpath(root / grant.limits.root)
    for name, job in jobs.items():
        file = str(job.params.get("tasks") or "")
        if file and "\0" not in file and Path(realpath(root / file)).is_relative_to(place):
            yield f"{normpath(file)} lies in it, from which {name} takes tasks for every role"


def warnings_of(roles: Mapping[str, RoleSettings]) -> Iterator[str]:
    """Say what is a risk, and what has no effect."""
    for name, role in roles.items():
        if why := _mixed(role):
            yield f"roles.{name}: reads what others have written and {why}; allow_mixed lets it"
        if "max_turns" in role.model_fields_set and not role.granted() and not role.own_tools:
            yield f"roles.{name}.max_turns: has no effect without tools; each question has one turn, and one repair"


def _mixed(role: RoleSettings) -> str:
    """What makes a role that reads untrusted text a risk; nothing for most."""
    outward = [name for name, grant in role.granted().items() if grant.tool.outward]
    reaches = (
        f"reaches outside by {', '.join(outward)}" if outward else "may run tools of your own" * bool(role.own_tools)
    )
    return " and ".join(filter(None, [reaches, f"may use {', '.join(role.secrets)}" if role.secrets else ""]))
