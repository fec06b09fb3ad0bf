"""Sending one mail: check, render, build, note the intent, hand over, note the result.

Exactly once through an outbox. Through SMTP a message whose fate nobody knows is parked by default, and there are
never more of those than connections: the intent is committed after the relay has taken the recipient, just before
the text goes out.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from sqlalchemy import Connection

from overnight.clock import Clock
from overnight.effects import Effect, Effects, effect_id, find
from overnight.errors import ConfigError, Deferred, OvernightError, Permanent, Skip, Stop, Unknown
from overnight.ledger import Ledger
from overnight.ledger.deliveries import Standing, bounced, delivered, pardon, standing
from overnight.mail.consent import Asked, Consent, Free
from overnight.mail.message import Envelope, Heading, Mailbox, configured, mailbox, mailto, message_id
from overnight.mail.outbox import Outbox
from overnight.mail.press import Keep, Order, Press
from overnight.mail.replies import RETRY_FOR, Bounced, Unwanted
from overnight.mail.streak import Streak
from overnight.mail.templates import Templates
from overnight.mail.transport import Letter, Transport
from overnight.mail.verp import leaving_subject, return_path
from overnight.outcome import Scope, original
from overnight.tokens import Tokens

Turn = Callable[[str], AbstractAsyncContextManager[object]]


def no_turn(_domain: str) -> AbstractAsyncContextManager[object]:
    """Wait for nothing."""
    return nullcontext()


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

    `transport` is `outbox:<folder>` or an `smtp:` URL; `sender` reads `The Site <news@example.org>`; `bounces_to` ""
    means the sender's address; `on_unknown` is what becomes of a message that may or may not have gone out.
    """

    transport: str = field(repr=False)  # may carry a password
    sender: str
    unsubscribe_to: str
    public_url: str = ""
    on_unknown: Literal["park", "resend", "reconcile"] = "park"
    bounces_to: str = ""


@dataclass(frozen=True, slots=True)
class _Addressee:
    """Whom a mail goes to: `target` is opaque, a subscriber's id or a hash."""

    box: Mailbox
    target: str
    recipient: Recipient | None
    standing: Standing = field(default_factory=Standing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailer:
    """Sends mails of one process. Open it with `Mailer.open`."""

    settings: MailSettings
    press: Press
    tokens: Tokens
    transport: Transport
    secret: bytes = field(repr=False)
    effects: Effects
    ledger: Ledger
    clock: Clock
    zone: tzinfo
    turn: Turn
    sender: Mailbox
    unsubscribe_to: Mailbox
    bounces_to: Mailbox | None
    consent: Consent = field(default_factory=Free)
    mark: str = ""
    streak: Streak = field(default_factory=Streak)

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
        turn: Turn = no_turn,
        keep: Keep = lambda _job, _slot, _page: "",
    ) -> Self:
        """Choose the transport by its URL; connects to nothing yet. Raises ConfigError for a wrong setting.

        Each message is sent within a `turn(domain)`: the rate limits of the recipient's domain and of the relay, and
        the relay's breaker. `keep(job, slot, page)` archives the page of an edition and returns its address.
        """
        return cls(
            settings=settings,
            press=Press(Templates(root), keep),
            tokens=Tokens(secret, clock),
            transport=_transport(settings.transport, root, clock),
            secret=secret,
            effects=effects,
            ledger=ledger,
            clock=clock,
            zone=zone,
            turn=turn,
            sender=configured("from", settings.sender),
            unsubscribe_to=configured("unsubscribe_to", settings.unsubscribe_to),
            bounces_to=configured("bounces_to", settings.bounces_to) if settings.bounces_to else None,
        )

    def asked(self) -> Self:
        """The same, with a transport that is real and that nobody has confirmed yet refusing to send."""
        return replace(self, consent=Asked(self.ledger, self.place)) if self.real else self

    def unasked(self, mark: str = "") -> Self:
        """The same for mail that needs no consent of its own; `mark` begins each subject."""
        return replace(self, consent=Free(), mark=mark)

    @property
    def real(self) -> bool:
        """Whether people may get this mail."""
        return self.transport.real

    @property
    def place(self) -> str:
        """Where mail goes, for people: `outbox var/outbox` or `smtp relay.example.org:587`."""
        return self.transport.place

    async def send(
        self, scope: Scope, to: Recipient | str, template: str, context: Mapping[str, Any], *, archive: bool = False
    ) -> str:
        """Send the mail `template` to a subscriber or to an operator's address; returns the Message-ID.

        With `archive` a page of it, without a reader, is kept in the archive. A second call for the same item, template
        and recipient sends nothing and returns the same id. Raises Permanent (`address`, `header`, `smtp_5xx`),
        Deferred, Unknown, Stop (template, login, policy), or Skip when the subscriber has left since.
        """
        await self.consent.check(f"overnight resume {scope.job}")
        addressee, known = await self._addressee(scope, to, template)
        letter = self._letter(scope, addressee, template, context, archive=archive)
        if known is not None and await self._settled(known, letter):
            return known.ref
        try:
            async with self.turn(addressee.box.domain):
                await self._hand_over(scope, template, addressee, letter, known)
        except Deferred as error:
            error.within = error.within or RETRY_FOR  # also what waits for a limit or a breaker is stale after a day
            raise
        return letter.message_id

    async def send_unnoted(self, scope: Scope, to: str, template: str, context: Mapping[str, Any]) -> str:
        """Send a mail to an operator without noting it, for the ledger cannot be written: it may be sent twice.

        Raises what `send` raises; the rate limit and the breaker, which are in the ledger, are not asked.
        """

        async def no_intent() -> None:
            """There is nowhere to note it."""

        letter = self.letter(scope, to, template, context)
        await self.transport.send(letter, no_intent)
        return letter.message_id

    def letter(
        self, scope: Scope, to: Recipient | str, template: str, context: Mapping[str, Any], *, archive: bool = False
    ) -> Letter:
        """Build the message as it would go out, without sending or noting anything. Raises what `send` raises."""
        return self._letter(scope, self._address(to), template, context, archive=archive)

    async def close(self) -> None:
        """Let go of connections, or write the outbox index."""
        await self.transport.close()

    async def _addressee(self, scope: Scope, to: Recipient | str, template: str) -> tuple[_Addressee, Effect | None]:
        """Whom it goes to, and what is known of an earlier attempt at this mail. Raises Skip for one who has left."""
        target = self._address(to).target if isinstance(to, str) else to.id
        found, known = await self.ledger.read(_before_sending, target, effect_id(scope, "mail", template, target))
        _check(found)
        return replace(self._address(to), standing=found), known

    def _address(self, to: Recipient | str) -> _Addressee:
        if isinstance(to, str):
            box = mailbox(to)
            # a message id over the address alone: its hash goes into the ledger, the address does not
            target = message_id(self.secret, Scope("", "", "", ""), "", box.address, "").strip("<>@")
            return _Addressee(box, f"a_{target}", None)
        return _Addressee(mailbox(to.email, to.name), to.id, to)

    def _letter(
        self, scope: Scope, addressee: _Addressee, template: str, context: Mapping[str, Any], *, archive: bool = False
    ) -> Letter:
        id_ = message_id(self.secret, scope, template, addressee.target, self.sender.domain)
        links = _Links() if addressee.recipient is None else self._links(addressee.recipient.id)
        order = Order(
            heading=self._heading(scope, template, links),
            template=template,
            context={
                **context,
                "public_url": self.settings.public_url,
                "slot": original(scope.slot),  # a correction or a rehearsal is of the same day
                "site": self.sender.name or self.sender.domain,
            },
            personal=_personal(addressee.recipient) | {"unsubscribe_url": links.best, "unsubscribe_mailto": links.mail},
            to=addressee.recipient,
            archive=(scope.job, scope.slot) if archive else None,
        )
        form = self.press.form(order)
        date = self.clock.now().astimezone(self.zone).replace(microsecond=0)
        return Letter(
            message_id=id_,
            sender=self._return_path(addressee),
            recipient=addressee.box.address,
            data=form.fill(Envelope(addressee.box, id_, date, links.all), order.personal),
            folder=(scope.job, scope.slot),
            html=form.html(order.personal),
            utf8=addressee.box.utf8,
        )

    def _heading(self, scope: Scope, template: str, links: "_Links") -> Heading:
        if not links.all:
            return Heading(self.sender, mark=self.mark)
        job, domain = _label(scope.job), self.sender.domain
        feedback = f"{_label(scope.slot)}:{_label(template)}:{job}:{_label(domain)[-15:].strip('-')}"
        return Heading(self.sender, f"<{job}.{domain}>", feedback, one_click=bool(links.page), mark=self.mark)

    def _links(self, id_: str) -> "_Links":
        page = self.tokens.unsubscribe_url(self.settings.public_url, id_)
        return _Links(page, mailto(self.unsubscribe_to.address, leaving_subject(self.secret, id_)))

    def _return_path(self, addressee: _Addressee) -> str:
        if self.bounces_to is None:
            return self.sender.address
        if addressee.recipient is None:
            return self.bounces_to.address
        return return_path(self.secret, self.bounces_to.address, addressee.recipient.id)

    async def _settled(self, known: Effect, letter: Letter) -> bool:
        """Whether this mail needs no sending any more; raises Unknown when that cannot be known and nobody decided."""
        if known.state in ("done", "failed"):
            return known.state == "done"
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

    async def _hand_over(
        self, scope: Scope, name: str, addressee: _Addressee, letter: Letter, known: Effect | None
    ) -> None:
        begun: list[Effect] = []

        def still_wanted(connection: Connection) -> None:
            """The way to the relay may have taken a minute, in which somebody has left."""
            _check(standing(connection, addressee.target))

        async def intent() -> None:
            earlier = begun[-1] if begun else known
            if earlier is not None and earlier.state != "failed":
                begun.append(await self.effects.again(scope, earlier, still_wanted))
                return
            effect = await self.effects.begin(scope, "mail", name, addressee.target, letter.message_id, still_wanted)
            if not effect.fresh and not self.transport.reconciles:
                raise Unknown(f"{letter.message_id} is being sent by somebody else right now", code="smtp_unknown")
            begun.append(effect)

        if addressee.recipient is not None:
            self.streak.check()
        try:
            await self.transport.send(letter, intent)
        except Unknown as error:
            for effect in begun:
                await self.effects.unknown(effect, str(error))
            raise
        except OvernightError as error:
            surely = known is None or known.state == "failed" or self.transport.reconciles
            note = self.effects.failed if surely else self.effects.unknown  # an earlier attempt may have arrived
            for effect in begun:
                await note(effect, f"{error.code}: {error}")
            await self._refused(addressee, letter, error)
            raise
        await self.effects.done(begun[-1])
        await self._taken(addressee, letter)

    async def _taken(self, addressee: _Addressee, letter: Letter) -> None:
        if addressee.recipient is None:
            return
        self.streak.succeeded()
        if addressee.standing.watched:
            who, ref, now = addressee.target, letter.message_id, self.clock.now()
            await self.ledger.write(lambda connection: delivered(connection, who, ref, now))

    async def _refused(self, addressee: _Addressee, letter: Letter, error: OvernightError) -> None:
        """Learn from a refusal: about a mailbox, or, when many are alike, about us. Raises Stop then.

        An operator's mailbox says nothing of the readers', nor theirs of it: who is told that the mailing has stopped
        must not be stopped by it.
        """
        if isinstance(error, Unwanted) and addressee.recipient is not None:
            raise error.of(addressee.target) from error
        if not isinstance(error, Permanent) or addressee.recipient is None:
            return
        now = self.clock.now()
        if isinstance(error, Bounced):
            who, ref, verdict, status = addressee.target, letter.message_id, error.verdict, error.status
            await self.ledger.write(lambda connection: bounced(connection, who, ref, verdict, status, now))
        try:
            self.streak.refused(error, letter.message_id, addressee.target)
        except Stop:
            refs = dict(self.streak.refs)
            await self.ledger.write(lambda connection: pardon(connection, refs, now))
            raise


@dataclass(frozen=True, slots=True)
class _Links:
    """How a subscriber leaves: by a page that mailbox providers can call, where there is one, and by mail.

    Empty for operators, who subscribed to nothing.
    """

    page: str = ""
    mail: str = ""

    @property
    def best(self) -> str:
        """What people click on."""
        return self.page or self.mail

    @property
    def all(self) -> tuple[str, ...]:
        """What mailbox providers use, the best one first."""
        return tuple(link for link in (self.page, self.mail) if link)


def _before_sending(connection: Connection, target: str, effect: str) -> tuple[Standing, Effect | None]:
    """One trip to the ledger for both: each costs more than handing the mail over."""
    return standing(connection, target), find(connection, "mail", effect)


def _check(found: Standing) -> None:
    """Raise Skip for somebody who has left, or whose mailbox takes nothing."""
    if found.status not in ("active", None):
        raise Skip(found.status)


def _personal(recipient: Recipient | None) -> dict[str, str]:
    if recipient is None:
        return {}
    return {"id": recipient.id, "email": recipient.email, "name": recipient.name}


@lru_cache(maxsize=256)
def _label(text: str) -> str:
    """What may stand between the dots and colons of a header."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text)[:50]


def _transport(url: str, root: Path, clock: Clock) -> Transport:
    scheme, _, rest = url.partition(":")
    if scheme == "outbox" and rest:
        return Outbox(root / rest, f"outbox {rest}")
    if scheme.startswith("smtp"):
        from overnight.mail.relay import Relay  # noqa: PLC0415
        from overnight.mail.smtp import Smtp  # noqa: PLC0415  aiosmtplib is not needed for an outbox

        return Smtp(Relay.parse(url), clock)
    raise ConfigError("mail: transport: write outbox:FOLDER or smtp://user:password@host:port")
