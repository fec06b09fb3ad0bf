"""The ports of a run, made from the settings: who sends its mail, who asks its models, who tells the operators."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import ValidationError

from overnight import logs
from overnight.agent import Agent
from overnight.alerts import Alerter, Channel
from overnight.archive import Archive
from overnight.budget import Budgets, Caps, JobCaps, RoleCaps
from overnight.catalogue import ending, prices_of
from overnight.clock import Clock, token
from overnight.dependency import Dependencies
from overnight.effects import Effects
from overnight.errors import ConfigError, OvernightError, Permanent
from overnight.ledger import Ledger
from overnight.mail import MARK, Diverted, Mailer, MailSettings, Pace, Streak, Turn, no_turn
from overnight.model import Model, ModelReply, ModelRequest
from overnight.project import load_tool
from overnight.redact import Redactor
from overnight.roles import Role, Roles
from overnight.run import Post
from overnight.schedule import JobSettings, Rate, RoleSettings, Schedule
from overnight.tokens import Tokens
from overnight.tools import Granted, Tool
from overnight.tools.github_api import base_of
from overnight.tools.github_app import passes_of
from overnight.tools.toolkit import Toolkit

OnUnknown = Literal["park", "resend", "reconcile"]

PLAIN = ("GITHUB_API_URL",)  # variables that are no secrets, and that tools may know
REHEARSAL_OUTBOX = "outbox:var/rehearsal"


@dataclass(frozen=True, slots=True)
class Ports:
    """What a run reaches the outside with."""

    mailer: Mailer
    post: Post
    agent: Agent
    alerter: Alerter
    dependencies: Dependencies

    async def close(self) -> None:
        """Let go of connections, and return what was leased of rate limits.

        What fails is a line in the log: it neither keeps the others open nor takes the place of what the run came to.
        """
        for each in (self.dependencies, self.mailer, self.agent.model):
            try:
                await each.close()
            except OvernightError as error:  # what was leased runs out by itself
                logs.get().warning("a port could not be closed", port=type(each).__name__, error=str(error))
            except Exception as error:  # noqa: BLE001  see above
                logs.get().error("a port could not be closed", port=type(each).__name__, exc_info=error)


def secret_of(root: Path, environ: Mapping[str, str]) -> bytes:
    """What signs Message-IDs: `OVERNIGHT_SECRET`, or a secret of this project made on first use in `var/secret`.

    Raises ConfigError when it can be neither read nor made.
    """
    given = environ.get("OVERNIGHT_SECRET")
    if given:
        return given.encode()
    path = root / "var" / "secret"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _create(path)
        return path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; set OVERNIGHT_SECRET, or make var/ writable") from error


def tokens_of(root: Path, environ: Mapping[str, str], clock: Clock) -> Tokens:
    """The signed tokens of the secret in force. Raises ConfigError, as `secret_of` does."""
    return Tokens(secret_of(root, environ), clock)


def _create(path: Path) -> None:
    """All or nothing, so that a second process never reads half a secret."""
    own = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token(32))
    try:
        os.link(own, path)
    except FileExistsError:
        pass
    finally:
        own.unlink()


def open_ports(
    root: Path,
    schedule: Schedule,
    settings: JobSettings,
    ledger: Ledger,
    clock: Clock,
    *,
    rehearsal: bool = False,
    to: tuple[str, ...] = (),
) -> Ports:
    """The ports of a run of one job. A rehearsal asks no model, and mails `to` who rehearses, or else into a folder."""
    redactor = Redactor(schedule.secrets)  # learns the tokens that are bought during the run
    # What a rehearsal meets counts for nobody else, and no limit is spent on it.
    dependencies = Dependencies({}, clock) if rehearsal else Dependencies(_rates(schedule), clock, ledger)
    transport = REHEARSAL_OUTBOX if rehearsal and not to else schedule.mail.transport
    mailer = _mailer(
        root, schedule, ledger, clock, dependencies,
        on_unknown=settings.on_unknown, transport=transport, archive=_archive(root, schedule, rehearsal=rehearsal),
    )  # fmt: skip
    mailer = mailer.unasked(MARK) if to else mailer
    agent = Agent(
        ledger=ledger,
        model=Absent() if rehearsal else Model.open(schedule.environ, clock=clock),
        roles=Roles(root, roles_of(schedule)),
        budgets=Budgets(ledger, clock, schedule.timezone, _caps(schedule)),
        api=dependencies.of("anthropic"),
        clock=clock,
        prices=prices_of(schedule),
        tools=toolkit_of(root, schedule, ledger, clock, dependencies, redactor),
        clean=redactor.known,
    )
    if not rehearsal:
        tell_ending(schedule, clock)
    post = Diverted(mailer, to) if to else mailer
    return Ports(mailer, post, agent, _alerter(schedule, ledger, clock, mailer, dependencies), dependencies)


@asynccontextmanager
async def open_dependencies(schedule: Schedule, ledger: Ledger, clock: Clock) -> AsyncIterator[Dependencies]:
    """The other sides for work that belongs to no run, shared with all runs of the ledger."""
    dependencies = Dependencies(_rates(schedule), clock, ledger)
    try:
        yield dependencies
    finally:
        await dependencies.close()


@asynccontextmanager
async def operator_alerts(root: Path, schedule: Schedule, ledger: Ledger, clock: Clock) -> AsyncIterator[Alerter]:
    """Tell the operators something that belongs to no run."""
    async with open_dependencies(schedule, ledger, clock) as sides, _posting(root, schedule, ledger, sides) as post:
        yield _alerter(schedule, ledger, clock, post, sides)


@asynccontextmanager
async def open_mailer(root: Path, schedule: Schedule, ledger: Ledger, clock: Clock) -> AsyncIterator[Mailer]:
    """Send mail that belongs to no run, within the limits that all processes share."""
    async with open_dependencies(schedule, ledger, clock) as sides, _posting(root, schedule, ledger, sides) as post:
        yield post


@asynccontextmanager
async def _posting(root: Path, schedule: Schedule, ledger: Ledger, sides: Dependencies) -> AsyncIterator[Mailer]:
    post = _mailer_with(root, schedule, ledger, sides)
    try:
        yield post
    finally:
        await post.close()


def mailer_of(root: Path, schedule: Schedule, ledger: Ledger, clock: Clock) -> Mailer:
    """Who knows where mail goes and whether that is real. To send with, see `open_mailer`: this one heeds no limit."""
    return _mailer_with(root, schedule, ledger, Dependencies({}, clock))


def _mailer_with(root: Path, schedule: Schedule, ledger: Ledger, sides: Dependencies) -> Mailer:
    archive, transport = _archive(root, schedule), schedule.mail.transport
    return _mailer(root, schedule, ledger, sides.clock, sides, transport=transport, archive=archive)


class Absent:
    """The model of a rehearsal: there is none, so that every question goes to its fallback and costs nothing."""

    def check(self) -> None:
        """There is nothing to check: each question is refused by itself, and its fallback has its turn."""

    async def create(self, request: ModelRequest) -> ModelReply:
        """Refuse. Raises Permanent."""
        raise Permanent(f"a rehearsal asks no model ({request.model} was meant)", code="rehearsal")

    async def close(self) -> None:
        """Nothing is open."""


def _mailer(
    root: Path,
    schedule: Schedule,
    ledger: Ledger,
    clock: Clock,
    dependencies: Dependencies,
    *,
    on_unknown: OnUnknown = "park",
    transport: str,
    archive: Archive,
) -> Mailer:
    sender = schedule.mail.sender
    return Mailer.open(
        MailSettings(
            transport=transport,
            sender=sender,
            unsubscribe_to=schedule.mail.unsubscribe_to or sender,
            public_url=schedule.public_url,
            on_unknown=on_unknown,
            bounces_to=schedule.mail.bounces_to or "",
        ),
        root=root,
        secret=secret_of(root, schedule.environ),
        effects=Effects(ledger, clock),
        ledger=ledger,
        clock=clock,
        zone=schedule.timezone,
        turn=_turn(transport, _per_domain(schedule), dependencies),
        keep=archive.keep,
    ).asked()


def _archive(root: Path, schedule: Schedule, *, rehearsal: bool = False) -> Archive:
    url = schedule.mail.archive_url
    return Archive.shown(url) if rehearsal else Archive.spooled(root / schedule.reports.spool, url)


def _turn(transport: str, per_domain: Rate | None, dependencies: Dependencies) -> Turn:
    """A relay has a rate and a breaker of its own, and so has each domain behind it; a folder takes whatever comes."""
    url = urlsplit(transport)
    if not url.scheme.startswith("smtp"):
        return no_turn
    relay = dependencies.of(f"smtp:{url.hostname}:{url.port}")
    pace = Pace(per_domain, dependencies.clock)

    @asynccontextmanager
    async def turn(domain: str) -> AsyncIterator[None]:
        async with pace.turn(domain), relay.request(messages=1):
            yield

    return turn


def _urgent_turn(transport: str, dependencies: Dependencies) -> Turn:
    """Within the relay's rate, but also when its breaker is open: what opened it may be about readers."""
    url = urlsplit(transport)
    if not url.scheme.startswith("smtp"):
        return no_turn
    limit = dependencies.of(f"smtp:{url.hostname}:{url.port}").limit

    @asynccontextmanager
    async def turn(_domain: str) -> AsyncIterator[None]:
        await limit.acquire(messages=1)
        yield

    return turn


def _alerter(schedule: Schedule, ledger: Ledger, clock: Clock, post: Mailer, sides: Dependencies) -> Alerter:
    return Alerter(
        ledger=ledger,
        clock=clock,
        post=_for_operators(post, _urgent_turn(post.settings.transport, sides)),
        redactor=Redactor(schedule.secrets),
        repeat=schedule.alerts.repeat,
        channels=channels_of(schedule),
    )


def _per_domain(schedule: Schedule) -> Rate | None:
    limit = schedule.limits.get("smtp")
    return limit.per_domain if limit else None


def _for_operators(post: Mailer, turn: Turn) -> Mailer:
    """They named their own addresses, and get a message twice rather than not at all, whatever readers have met."""
    return replace(post.unasked(), settings=replace(post.settings, on_unknown="resend"), turn=turn, streak=Streak())


def channels_of(schedule: Schedule) -> tuple[Channel, ...]:
    """Every address of the channels in `alerts.to`, once; an empty webhook is switched off."""
    found: dict[str, Channel] = {}
    for name in schedule.alerts.to:
        settings = schedule.channels[name]
        addresses = [Channel(name, "email", address) for address in settings.email]
        webhooks = [Channel(name, "webhook", settings.webhook)] if settings.webhook else []
        for channel in (*addresses, *webhooks):
            found.setdefault(channel.target, channel)
    return tuple(found.values())


def _rates(schedule: Schedule) -> dict[str, dict[str, Rate]]:
    return {
        name: {kind: rate for kind, rate in vars(limit).items() if rate is not None and kind != "per_domain"}
        for name, limit in schedule.limits.items()
    }


def toolkit_of(
    root: Path,
    schedule: Schedule,
    ledger: Ledger,
    clock: Clock,
    sides: Dependencies,
    redactor: Redactor,
) -> Toolkit:
    """The tools of all roles. Raises ConfigError for the code of a project's own."""
    granted = {name: granted_to(role) for name, role in schedule.roles.items()}
    secrets = {
        name: {each: schedule.environ.get(each, "") for each in role.secrets} for name, role in schedule.roles.items()
    }
    settings = {name: schedule.environ[name] for name in PLAIN if name in schedule.environ}
    passes = passes_of(root, schedule.environ, base_of(settings), sides, clock, redactor.learn)
    return Toolkit(root, ledger, clock, sides, granted, secrets, settings, redactor.value, passes)


def granted_to(role: RoleSettings) -> dict[str, Granted]:
    """The tools of a role, its own ones loaded from the project. Raises ConfigError for their code."""
    found = [own_tool(target, limits) for target, limits in role.own_tools.items()]
    return role.granted() | {grant.tool.name: grant for grant in found}


def own_tool(name: str, limits: Mapping[str, Any]) -> Granted:
    """A tool of the project with its limits. Raises ConfigError when it is not there or the limits are not its own."""
    found = load_tool(name)
    if not isinstance(found, Tool):
        raise ConfigError(f"own_tools: {name} is no tool; decorate the function with @tool")
    try:
        return Granted(found, found.limits.model_validate(dict(limits)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"own_tools: {name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def tell_ending(schedule: Schedule, clock: Clock) -> None:
    """Log which models are deprecated, while there is time to choose others."""
    for warning in ending(schedule, clock.now().date()):
        logs.get().warning(warning)


def roles_of(schedule: Schedule) -> dict[str, Role]:
    """The roles as an agent plays them."""
    return {
        name: Role(
            name,
            models=tuple(role.model),
            max_tokens=role.max_tokens,
            max_turns=role.max_turns,
            tools={tool: grant.limits for tool, grant in role.granted().items()},
        )
        for name, role in schedule.roles.items()
    }


def _caps(schedule: Schedule) -> Caps:
    jobs = {name: JobCaps(**vars(job.budget)) for name, job in schedule.jobs.items()}
    roles = {name: RoleCaps(**vars(role.budget)) for name, role in schedule.roles.items()}
    return Caps(schedule.budget.per_day, schedule.budget.warn_at, jobs, roles)
