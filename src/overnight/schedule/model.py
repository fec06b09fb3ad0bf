"""schedule.yaml as typed, read-only settings."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PrivateAttr

from overnight.errors import ConfigError
from overnight.schedule.alerting import Alerts
from overnight.schedule.job import UTC_ZONE, Defaults, JobSettings, Strict, digest
from overnight.schedule.problem import did_you_mean, one_of
from overnight.schedule.role import RoleSettings, warnings_of
from overnight.schedule.values import (
    NANO,
    WORDS_FORM,
    Cap,
    Duration,
    Money,
    Percent,
    RateValue,
    Since,
    Zone,
)
from overnight.triggers import Listed


def _scheme_of(value: str, known: tuple[str, ...], forms: str) -> str:
    """Refuse a URL whose scheme is not known; the value itself may hold a password and is not shown."""
    scheme = value.partition(":")[0]
    if ":" not in value or scheme not in known:
        shown = scheme if ":" in value else ""
        hint = did_you_mean(shown, known)
        raise ValueError(
            f"must begin with {one_of([f'{one}:' for one in known])}, as in {forms}" + (hint and f"; {hint}")
        )
    return value


def _transport(value: str) -> str:
    known = ("outbox", "smtp", "smtp+starttls", "smtps")
    _scheme_of(value, known, "outbox:var/outbox or smtp://user:${SMTP_PASSWORD}@host:587")
    if value.startswith("smtp") and not urlsplit(value).hostname:
        raise ValueError("names no host; write smtp://host:587")
    if value == "outbox:":
        raise ValueError("names no folder; write outbox:var/outbox")
    return value


def _ledger(value: str) -> str:
    return _scheme_of(value, ("sqlite", "postgresql", "postgresql+psycopg"), "sqlite:///var/overnight.db")


def _reports(value: str) -> str:
    if "://" in value:
        _scheme_of(value, ("s3",), "var/reports or s3://bucket/prefix")
        from overnight.storage.address import bucket_of  # noqa: PLC0415  only for who has a bucket

        bucket_of(value)
    elif not value.strip():
        raise ValueError("names no folder; write var/reports or s3://bucket/prefix")
    return value


def _web(value: str) -> str:
    if value and not (value.startswith(("http://", "https://")) and urlsplit(value).hostname):
        raise ValueError("is not a web address; write https://host/path")
    return value


def _folder(value: str) -> str:
    if not value.strip() or "://" in value:
        raise ValueError("must be a local folder, as in var/spool")
    return value


def _address(value: str) -> str:
    local, at, host = value.rpartition("@")
    if not (local and at and host.strip("> ")) or any(char in value for char in "\r\n"):
        raise ValueError(f"{value!r} is not an e-mail address")
    return value


def _own(value: str) -> str:
    """An address of ours: whoever gets our mail has to be able to answer it."""
    if not value.rpartition("<")[2].rpartition("@")[0].isascii():
        raise ValueError(f"{value!r} has letters before the @ that most mail servers do not know; use an ASCII address")
    return value


Address = Annotated[str, AfterValidator(_address)]
OwnAddress = Annotated[Address, AfterValidator(_own)]
Addresses = Annotated[list[Address], *WORDS_FORM]
WebAddress = Annotated[str, AfterValidator(_web)]


class Mail(Strict):
    """How mail leaves: `outbox:FOLDER`, `smtp://…` or `smtps://…`.

    Bounces come back to `bounces_to`, with the subscriber named in it; without it, to the sender. `archive_url` is
    where the world reads the folder `archive` of the reports; mails link to it.
    """

    transport: Annotated[str, AfterValidator(_transport)] = "outbox:var/outbox"
    """`outbox:FOLDER` writes files; `smtp://`, `smtps://` with `user:${PASSWORD}@host:port` send for real."""
    sender: OwnAddress = Field(default="overnight <overnight@localhost.localdomain>", alias="from")
    """The sender, of a domain for which the relay may sign."""
    unsubscribe_to: OwnAddress | None = None
    """The mailbox that takes requests to unsubscribe by mail."""
    bounces_to: OwnAddress | None = None
    """The mailbox to which undeliverable mail comes back, as `bounces+<subscriber>@…`; else the sender."""
    archive_url: WebAddress = ""
    """Where readers find the folder `archive` of the reports; empty: mails have no link to it."""


class Reports(Strict):
    """Where the CSVs go: a folder or `s3://bucket/prefix`; `spool` holds what is not uploaded yet."""

    to: Annotated[str, AfterValidator(_reports)] = "var/reports"
    """A folder or `s3://bucket/prefix`."""
    spool: Annotated[str, AfterValidator(_folder)] = "var/spool"
    """The folder in which reports wait until they are uploaded."""


class Budget(Strict):
    """What the project may spend on a wall-clock day, and the fraction at which it warns."""

    per_day: Money = 10 * NANO
    """What all jobs together may spend on a wall-clock day."""
    warn_at: Percent = Decimal("0.8")
    """From which part of it on there is a warning."""


class ModelPrice(Strict):
    """What a model costs, per million tokens, in place of the price list's; `from`: since that day (UTC).

    Without `cache_write_1h`, what is cached for an hour costs `cache_write`.
    """

    input: Money
    """What is read and not cached."""
    output: Money
    """What is written."""
    cache_write: Money
    """What is put into the cache for five minutes."""
    cache_write_1h: Cap = None
    """What is put into the cache for an hour; `cache_write` without it."""
    cache_read: Money
    """What is read from the cache."""
    since: Since = Field(default=None, alias="from")
    """The first day of this price (UTC); always without it."""


class Limit(Strict):
    """What one dependency allows; a rate that is not given is not limited.

    `per_domain` is of mail only: what each recipient domain gets, in each process.
    """

    requests: RateValue | None = None
    """Requests, or feeds, or uploads."""
    input_tokens: RateValue | None = None
    """Tokens sent to a model."""
    output_tokens: RateValue | None = None
    """Tokens written by a model."""
    messages: RateValue | None = None
    """Mails to the relay, of all processes together."""
    per_domain: RateValue | None = None
    """Mails to each recipient domain, from each process; of smtp only."""


class Channel(Strict):
    """Where an alert goes; an empty webhook is switched off."""

    email: Addresses = Field(default_factory=list)
    """Addresses."""
    webhook: WebAddress = ""
    """An address that takes the form of Slack, Mattermost or Discord (`/slack`); empty: off."""


class Schedule(Strict):
    """The whole file. Durations are timedelta, money integer nano-USD, percentages Decimal fractions.

    `environ` holds the variables the file was read with (`.env` below the process environment), `secrets` the values
    among them that must never be printed, `warnings` what is accepted but deserves a look.
    """

    version: Literal[1]
    """The version of this file's form."""
    timezone: Zone = UTC_ZONE
    """The zone of all times, and of the budget day."""
    public_url: WebAddress = "http://127.0.0.1:8650"
    """Where `serve` can be reached from outside: in links to unsubscribe and to confirm."""
    ledger: Annotated[str, AfterValidator(_ledger)] = "sqlite:///var/overnight.db"
    """Where what happened is kept."""
    drain: Duration = timedelta(seconds=30)
    """How long items in flight may take to finish after SIGTERM."""
    mail: Mail = Mail()
    """How mail leaves."""
    reports: Reports = Reports()
    """Where the CSVs go."""
    budget: Budget = Budget()
    """What the project may spend."""
    prices: dict[str, ModelPrice] = Field(default_factory=dict)
    """Prices of models that the price list does not know or has wrong, by the model's name."""
    limits: dict[str, Limit] = Field(default_factory=dict)
    """What other sides allow: `anthropic`, `github`, `smtp`, `s3`, `feed`, `subscribe`."""
    roles: dict[str, RoleSettings] = Field(default_factory=dict)
    """Who agents may be, by the role's name."""
    channels: dict[str, Channel] = Field(default_factory=dict)
    """Where alerts go, by a name of yours."""
    alerts: Alerts = Alerts()
    """What is worth waking somebody for."""
    defaults: Defaults = Defaults()
    """What holds for every job that does not say otherwise."""
    jobs: dict[str, JobSettings]
    """What runs when, by the name of the file in `jobs/`; exactly one of `cron`, `every`, `at`."""

    _environ: Mapping[str, str] = PrivateAttr(default_factory=lambda: MappingProxyType({}))
    _secrets: frozenset[str] = PrivateAttr(default=frozenset())
    _text: str = PrivateAttr(default="")

    def completed(self, environ: Mapping[str, str], secrets: frozenset[str], text: str) -> "Schedule":
        """Return the schedule with defaults merged into the jobs, the variables and its text attached."""
        jobs = {name: job.merged(name, self.defaults, self.timezone) for name, job in self.jobs.items()}
        complete = self.model_copy(update={"jobs": jobs})
        complete._environ, complete._secrets = MappingProxyType(dict(environ)), secrets  # noqa: SLF001  the copy is ours
        complete._text = text  # noqa: SLF001
        return complete

    @property
    def environ(self) -> Mapping[str, str]:
        """The variables: `.env` beside the file, overridden by the environment."""
        return self._environ

    @property
    def secrets(self) -> frozenset[str]:
        """Values the redactor replaces."""
        return self._secrets

    @property
    def text(self) -> str:
        """What was validated: the file may say something else by now."""
        return self._text

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is set but has no effect yet, or is a risk, in sentences."""
        return tuple(_without_effect(self))

    def job(self, name: str) -> JobSettings:
        """Return the settings of a job. Raises ConfigError with a suggestion."""
        if name in self.jobs:
            return self.jobs[name]
        known = ", ".join(self.jobs) or "none"
        raise ConfigError(f"schedule.yaml has no job {name!r}; {did_you_mean(name, self.jobs) or f'it has {known}'}")

    def rank(self, name: str) -> int:
        """How many jobs a job comes after."""
        after = self.jobs[name].after
        return 0 if after is None else 1 + self.rank(after)

    def job_hash(self, name: str) -> str:
        """Return 16 hex digits that change when the job's trigger, zone or `enabled` change."""
        return self.jobs[name].timing_hash()

    def listed(self) -> dict[str, Listed]:
        """Return what of each job says when it runs."""
        return {name: Listed(self.job_hash(name), job.enabled, job.trigger().text) for name, job in self.jobs.items()}

    @property
    def config_hash(self) -> str:
        """16 hex digits that change with any setting."""
        return digest(self.model_dump_json())


def _without_effect(schedule: Schedule) -> Iterator[str]:
    """Say of each setting in the file that nothing reads yet what happens without it."""
    yield from warnings_of(schedule.roles)
    for name, limit in schedule.limits.items():
        if limit.per_domain and name != "smtp":
            yield f"limits.{name}.per_domain: has no effect; only smtp has recipient domains"
