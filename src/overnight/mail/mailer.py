"""Sending one mail: check, render, build, note the intent, hand over, note the result.

Exactly once through an outbox. Through SMTP a message whose fate nobody knows is parked by default, and there are
never more of those than connections: the intent is committed after the relay has taken the recipient, just before
the text goes out.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from sqlalchemy import Connection, select

from overnight.clock import Clock
from overnight.effects import Effect, Effects
from overnight.errors import ConfigError, OvernightError, Permanent, Skip, Unknown
from overnight.ledger import Ledger
from overnight.ledger.tables import subscriber
from overnight.mail.message import Envelope, Mailbox, build, mailbox, mailto, message_id
from overnight.mail.outbox import Outbox
from overnight.mail.templates import Templates
from overnight.mail.transport import Letter, Transport
from overnight.outcome import Scope

Turn = Callable[[], AbstractAsyncContextManager[object]]


class Recipient(Protocol):
    """Somebody with an id of their own; `subscribers.Subscriber` is one."""

    @property
    def id(self) -> str: ...
    @property
    def email(self) -> str: ...
    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class MailSettings:
    """The `mail:` part of schedule.yaml.

    `transport` is `outbox:<folder>` or an `smtp:` URL; `sender` reads `The Site <news@example.org>`; `on_unknown` is
    what becomes of a message that may or may not have gone out.
    """

    transport: str = field(repr=False)  # may carry a password
    sender: str
    unsubscribe_to: str
    public_url: str = ""
    on_unknown: Literal["park", "resend", "reconcile"] = "park"


@dataclass(frozen=True, slots=True)
class _Addressee:
    """Whom a mail goes to: `target` is opaque, a subscriber's id or a hash."""

    box: Mailbox
    target: str
    recipient: Recipient | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailer:
    """Sends mails of one process. Open it with `Mailer.open`."""

    settings: MailSettings
    templates: Templates
    transport: Transport
    secret: bytes = field(repr=False)
    effects: Effects
    ledger: Ledger
    clock: Clock
    zone: tzinfo
    turn: Turn
    sender: Mailbox
    unsubscribe_to: Mailbox

    @classmethod
    def open(
        cls,
        settings: MailSettings,
        *,
        root: Path,
        secret: bytes,
        effects: Effects,
        ledger: Ledger,
        clock: Clock,
        zone: tzinfo,
        turn: Turn = nullcontext,
    ) -> Self:
        """Choose the transport by its URL; connects to nothing yet. Raises ConfigError for a wrong setting.

        Each message is sent within a `turn()`: the rate limit and the breaker of the relay.
        """
        return cls(
            settings=settings,
            templates=Templates(root),
            transport=_transport(settings.transport, root, clock),
            secret=secret,
            effects=effects,
            ledger=ledger,
            clock=clock,
            zone=zone,
            turn=turn,
            sender=_configured("from", settings.sender),
            unsubscribe_to=_configured("unsubscribe_to", settings.unsubscribe_to),
        )

    @property
    def real(self) -> bool:
        """Whether people may get this mail."""
        return self.transport.real

    @property
    def place(self) -> str:
        """Where mail goes, for people: `outbox var/outbox` or `smtp relay.example.org:587`."""
        return self.transport.place

    async def send(self, scope: Scope, to: Recipient | str, template: str, context: Mapping[str, Any]) -> str:
        """Send the mail `template` to a subscriber or to an operator's address; returns the Message-ID.

        A second call for the same item, template and recipient sends nothing and returns the same id. Raises
        Permanent (`address`, `header`, `smtp_5xx`), Deferred, Unknown, Stop (template, login, policy), or Skip when
        the subscriber has left since.
        """
        addressee = await self._addressee(to)
        letter = self._letter(scope, addressee, template, context)
        known = await self.effects.find(scope, "mail", template, addressee.target)
        if known is not None and await self._settled(known, letter):
            return known.ref
        async with self.turn():
            await self._hand_over(scope, template, addressee.target, letter, known)
        return letter.message_id

    async def send_unnoted(self, scope: Scope, to: str, template: str, context: Mapping[str, Any]) -> str:
        """Send a mail to an operator without noting it, for the ledger cannot be written: it may be sent twice.

        Raises what `send` raises; the rate limit and the breaker, which are in the ledger, are not asked.
        """

        async def no_intent() -> None:
            """There is nowhere to note it."""

        letter = self._letter(scope, self._address(to), template, context)
        await self.transport.send(letter, no_intent)
        return letter.message_id

    def preview(self, scope: Scope, to: Recipient | str, template: str, context: Mapping[str, Any]) -> bytes:
        """Build the message as it would go out, without sending or noting anything."""
        return self._letter(scope, self._address(to), template, context).data

    async def close(self) -> None:
        """Let go of connections, or write the outbox index."""
        await self.transport.close()

    async def _addressee(self, to: Recipient | str) -> _Addressee:
        if not isinstance(to, str):
            status = await self.ledger.read(_status, to.id)
            if status not in ("active", None):
                raise Skip(status)
        return self._address(to)

    def _address(self, to: Recipient | str) -> _Addressee:
        if isinstance(to, str):
            box = mailbox(to)
            # a message id over the address alone: its hash goes into the ledger, the address does not
            target = message_id(self.secret, Scope("", "", "", ""), "", box.address, "").strip("<>@")
            return _Addressee(box, f"a_{target}", None)
        return _Addressee(mailbox(to.email, to.name), to.id, to)

    def _letter(self, scope: Scope, addressee: _Addressee, template: str, context: Mapping[str, Any]) -> Letter:
        unsubscribe = ""
        if addressee.recipient is not None:
            unsubscribe = mailto(self.unsubscribe_to.address, f"unsubscribe {addressee.recipient.id}")
        content = self.templates.render(
            template,
            {
                **context,
                "to": addressee.recipient,
                "unsubscribe_mailto": unsubscribe,
                "public_url": self.settings.public_url,
                "slot": scope.slot,
                "site": self.sender.name or self.sender.domain,
            },
        )
        content = replace(content, images=context.get("images", {}))
        id_ = message_id(self.secret, scope, template, addressee.target, self.sender.domain)
        envelope = Envelope(
            sender=self.sender,
            recipient=addressee.box,
            message_id=id_,
            date=self.clock.now().astimezone(self.zone).replace(microsecond=0),
            unsubscribe=unsubscribe,
            list_id=_list_id(scope.job, self.sender.domain),
        )
        data = build(envelope, content)
        return Letter(id_, self.sender.address, addressee.box.address, data, (scope.job, scope.slot), content.html)

    async def _settled(self, known: Effect, letter: Letter) -> bool:
        """Whether this mail needs no sending any more; raises Unknown when that cannot be known and nobody decided."""
        if known.state == "done":
            return True
        if known.state == "failed":
            return False
        if self.transport.reconciles:
            delivered = await self.transport.delivered(letter)
            if delivered:
                await self.effects.done(known, "found in the outbox")
            return delivered
        if self.settings.on_unknown == "resend":
            return False
        await self.effects.unknown(known, "the process ended before the relay answered")
        raise Unknown(
            f"{letter.message_id} may or may not have been sent by an earlier run: look it up in the relay's log, then "
            "`overnight settle`",
            code="smtp_unknown",
        )

    async def _hand_over(self, scope: Scope, name: str, target: str, letter: Letter, known: Effect | None) -> None:
        begun: list[Effect] = []

        async def intent() -> None:
            if known is not None and known.state != "failed":
                begun.append(await self.effects.again(scope, known))
                return
            effect = await self.effects.begin(scope, "mail", name, target, letter.message_id)
            if not effect.fresh and not self.transport.reconciles:
                raise Unknown(f"{letter.message_id} is being sent by somebody else right now", code="smtp_unknown")
            begun.append(effect)

        try:
            await self.transport.send(letter, intent)
        except Unknown as error:
            for effect in begun:
                await self.effects.unknown(effect, str(error))
            raise
        except OvernightError as error:
            for effect in begun:
                await self.effects.failed(effect, f"{error.code}: {error}")
            raise
        await self.effects.done(begun[-1])


def _status(connection: Connection, id_: str) -> str | None:
    """Of a subscriber, or None for one the ledger does not know: then a job brought its own audience."""
    return connection.execute(select(subscriber.c.status).where(subscriber.c.id == id_)).scalar_one_or_none()


def _list_id(job: str, domain: str) -> str:
    label = "".join(character if character.isascii() and character.isalnum() else "-" for character in job)[:50]
    return f"<{label}.{domain}>"


def _configured(name: str, value: str) -> Mailbox:
    """`Name <address>` or an address out of schedule.yaml."""
    display, _, rest = value.rpartition("<")
    address = rest.removesuffix(">").strip() if rest.endswith(">") else value.strip()
    try:
        return mailbox(address, display.strip().strip('"') if rest.endswith(">") else "")
    except Permanent as error:
        raise ConfigError(f'mail: {name}: {value!r}: {error} Write "The Site <news@example.org>".') from error


def _transport(url: str, root: Path, clock: Clock) -> Transport:
    scheme, _, rest = url.partition(":")
    if scheme == "outbox" and rest:
        return Outbox(root / rest, f"outbox {rest}")
    if scheme.startswith("smtp"):
        from overnight.mail.smtp import Relay, Smtp  # noqa: PLC0415  aiosmtplib is not needed for an outbox

        return Smtp(Relay.parse(url), clock)
    raise ConfigError("mail: transport: write outbox:FOLDER or smtp://user:password@host:port")
