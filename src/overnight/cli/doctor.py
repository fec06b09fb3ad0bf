"""`overnight doctor`: this machine and this project, with a remedy on each line that needs one."""

import asyncio
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from http.client import HTTPException
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener, urlopen

import click

from overnight.cli.context import Cli, pass_cli
from overnight.errors import ConfigError, OvernightError
from overnight.plurals import counted
from overnight.threads import in_own_thread

if TYPE_CHECKING:
    from overnight.storage import Store
    from overnight.whereabouts import Whereabouts

PORT = 8650
SKEW = 60.0  # seconds by which the clock may be off: signatures of S3 allow 15 minutes, cron times less
WEB_TIMEOUT = 5.0  # seconds
PAGE_TIMEOUT = 10.0  # seconds for a whole page: one that drips never meets the other
PAGE_MAX = 65_536  # bytes that are read of an answer
STORE_TIMEOUT = 40.0  # seconds: a bucket that hangs is told as such after three attempts, one that drips never ends
_NO_PROXY = build_opener(ProxyHandler({}))


class Note(Exception):
    """What a project can do without, as it does when it is new; the remedy is said, and nothing has failed."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line: `look` says how it is, or raises; `remedy` is what to do then."""

    name: str
    look: Callable[[Cli], str]
    remedy: str


@click.command()
@pass_cli
def doctor(cli: Cli) -> int:
    """Check this machine and this project; each line that fails, or is a note, says what to do."""
    rows = [_row(check, cli) for check in CHECKS]
    cli.emit(rows, "\n".join(_line(row) for row in rows))
    return 0 if all(row["ok"] for row in rows) else 1


def _row(check: Check, cli: Cli) -> dict[str, Any]:
    try:
        return {"check": check.name, "ok": True, "message": check.look(cli), "remedy": None}
    except Note as note:
        return {"check": check.name, "ok": True, "message": str(note), "remedy": check.remedy}
    except Exception as error:  # noqa: BLE001  whatever is wrong with one check, the others are wanted all the more
        known = isinstance(error, (OvernightError, OSError))
        message = Cli.latest_redactor().text(str(error) if known else f"{type(error).__name__}: {error}")
        return {"check": check.name, "ok": False, "message": message, "remedy": check.remedy}


def _line(row: Mapping[str, Any]) -> str:
    word = "FAIL" if not row["ok"] else "note" if row["remedy"] else "ok"
    line = f"{word:<4}  {row['check']:<14} {row['message']}"
    return f"{line}\n      {'':<14} -> {row['remedy']}" if row["remedy"] else line


def _python(_cli: Cli) -> str:
    return f"{sys.version.split()[0]} at {sys.executable}"


def _schedule(cli: Cli) -> str:
    return f"{counted(len(cli.schedule.jobs), 'job')} in {cli.path}"


def _environment(cli: Cli) -> str:
    from overnight.health import missing_variables, weak_secret, weak_token  # noqa: PLC0415

    if weak := weak_token(cli.schedule.environ) or weak_secret(cli.schedule.environ):
        raise OSError(weak)
    if missing := missing_variables(cli.schedule):
        raise OSError(f"{', '.join(missing)} is not set")
    return "all variables that the settings need are set"


def _zones(cli: Cli) -> str:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415

    try:
        ZoneInfo(cli.schedule.timezone.key).utcoffset(datetime.now(UTC).replace(tzinfo=None))  # noqa: TID251  any time
    except ZoneInfoNotFoundError as error:
        raise OSError(f"no data of the time zone {cli.schedule.timezone.key}") from error
    return f"{cli.schedule.timezone.key} is known"


def _ledger(cli: Cli) -> str:
    cli.ledger.check()
    return f"opened and checked {cli.ledger.engine.url.render_as_string(hide_password=True)}"


def _jobs(cli: Cli) -> str:
    from overnight import project  # noqa: PLC0415

    project.attach(cli.root)
    for name, settings in cli.schedule.jobs.items():
        project.load_job(name, settings.target).codec()
    return "all can be imported"


def _disk(cli: Cli) -> str:
    from overnight.health import Disks, places  # noqa: PLC0415
    from overnight.ledger import file_of  # noqa: PLC0415

    file = file_of(cli.schedule.ledger, cli.root) if cli.schedule.ledger.startswith("sqlite") else None
    rooms = asyncio.run(Disks().rooms(places(cli.root, cli.schedule, file)))
    told = "; ".join(f"{names}: {room}" for names, room in rooms.items())
    if not all(room.good for room in rooms.values()):
        raise OSError(f"{told}; runs stop when they cannot write")
    return told


def _mail(cli: Cli) -> str:
    """Greet the relay, agree on TLS and log in, as a run does before its first message."""
    from overnight.mail.relay import Relay  # noqa: PLC0415
    from overnight.mail.smtp import Smtp  # noqa: PLC0415

    url = cli.schedule.mail.transport
    if url.startswith("outbox:"):
        return f"{url}: nothing is mailed; set MAIL_URL to a relay to send for real"
    relay = Relay.parse(url)
    asyncio.run(_greeted(Smtp(relay, cli.clock)))
    return f"{relay.place} answers" + (" and takes the login" if relay.user else "")


async def _greeted(relay: Any) -> None:
    try:
        async with asyncio.timeout(15):
            await relay.check()
    except TimeoutError as error:
        raise OSError(f"{relay.place} does not answer within 15 s") from error
    finally:
        await relay.close()


def _links(cli: Cli) -> str:
    """Open the page to unsubscribe where mailbox providers do; it is nobody's, and looking at it changes nothing."""
    from overnight.ledger.outsiders import STAND_IN  # noqa: PLC0415
    from overnight.ports import tokens_of  # noqa: PLC0415

    public = cli.schedule.public_url
    url = tokens_of(cli.root, cli.schedule.environ, cli.clock).unsubscribe_url(public, STAND_IN)
    if not url:
        return f"readers leave by mail: mailbox providers cannot call {public}"
    code, page = _opened(url, public)
    if code == HTTPStatus.OK and "<h1>Unsubscribe?</h1>" in page:
        return f"{public} shows the page to unsubscribe"
    if "<h1>This link does not work</h1>" in page:
        raise OSError(f"at {public} a serve with another OVERNIGHT_SECRET answers: no link in our mails works")
    said = f"{public} answers {code} to the link to unsubscribe"
    if code in (HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS):
        raise Note(f"{said}: what stands before serve does not let this machine in, which says little of others")
    if code in (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT):
        raise OSError(f"{said}: the proxy there does not reach serve: is it running?")
    raise OSError(f"{said}: it does not lead to serve")


class _Stay(HTTPRedirectHandler):
    """A mail program that unsubscribes somebody goes nowhere else either (RFC 8058)."""

    def redirect_request(self, *_: Any) -> None:
        """Let it be an error."""


def _opened(url: str, public: str) -> tuple[int, str]:
    away = f"{public} does not answer from here, which says little of elsewhere"
    try:
        return asyncio.run(_in_time(partial(_page, url)))
    except TimeoutError as error:
        raise Note(f"{away}: its page does not come to an end") from error
    except (OSError, ValueError, HTTPException) as error:
        raise Note(f"{away}: {getattr(error, 'reason', error)}") from error


async def _in_time(work: "Callable[[], tuple[int, str]]") -> tuple[int, str]:
    async with asyncio.timeout(PAGE_TIMEOUT):
        return await in_own_thread("page", work)


def _page(url: str) -> tuple[int, str]:
    """What a page answers, of whatever code; `open` raises those that are errors."""
    asked = Request(url, headers={"User-Agent": f"overnight/{version('overnight')}"})  # noqa: S310  as above
    try:
        answer = build_opener(_Stay).open(asked, timeout=WEB_TIMEOUT)
    except HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.read(PAGE_MAX).decode(errors="replace")


def _reports(cli: Cli) -> str:
    from overnight.dependency import Dependencies  # noqa: PLC0415
    from overnight.storage import open_store  # noqa: PLC0415

    # Asked whatever the runs have met: who calls the doctor wants to know how it is now.
    store = open_store(cli.schedule.reports.to, cli.root, cli.schedule.environ, Dependencies({}, cli.clock))
    try:
        echo, traits = asyncio.run(_echo(store))
    except TimeoutError as error:
        raise OSError(
            f"{store.describe()} took longer than {STORE_TIMEOUT:g} s to take and give back a file"
        ) from error
    if echo != b"ok\n":
        raise OSError(f"{store.describe()} did not give back what was written")
    return ", ".join([f"{store.describe()} can be written and read", *traits])


async def _echo(store: "Store") -> "tuple[bytes | None, Sequence[str]]":
    async with asyncio.timeout(STORE_TIMEOUT):
        await store.put(".overnight-doctor", b"ok\n")
        return await store.get(".overnight-doctor"), await store.traits()


def _model(cli: Cli) -> str:
    from overnight.health import NO_KEY, has_key  # noqa: PLC0415

    if not cli.schedule.roles:
        return "no role asks one"
    if not has_key(cli.schedule):
        raise Note(NO_KEY)
    return asyncio.run(_listed(cli))


async def _listed(cli: Cli) -> str:
    """Ask the API what it knows of the models of the roles, which costs nothing."""
    from overnight.catalogue import models_of, refused, retiring  # noqa: PLC0415
    from overnight.model import Model  # noqa: PLC0415

    model = Model.open(cli.schedule.environ, clock=cli.clock, deadline=10)
    try:
        listed = {name: await model.listed(name) for name in models_of(cli.schedule)}
    finally:
        await model.close()
    if wrong := list(refused(cli.schedule, listed)):
        raise ConfigError("; ".join(wrong))
    soon = retiring(cli.schedule, listed, cli.clock.now().date())
    return "; ".join([f"the API takes the key and knows all {len(listed)} models of the roles", *soon])


def _clock(cli: Cli) -> str:
    """Compare with the clock of the API, which is asked for nothing but its date."""
    from overnight.health.reach import model_of  # noqa: PLC0415

    url = model_of(cli.schedule)
    if not url.startswith("http"):
        return "not compared: no other clock is asked"
    said = _date_of(url)
    if said is None:
        return f"not compared: {url.partition('://')[2]} tells no date"
    off = abs((cli.clock.now() - said).total_seconds())
    if off > SKEW:
        raise OSError(f"this machine's clock is {off:.0f} s off; jobs run at the wrong time and signatures are refused")
    return "agrees with another one, within a minute"


def _date_of(url: str) -> datetime | None:
    try:
        with urlopen(Request(url, method="HEAD"), timeout=WEB_TIMEOUT) as answer:  # noqa: S310  http or https, from the settings
            text = answer.headers.get("Date")
    except HTTPError as error:
        with error:
            text = error.headers.get("Date")
    except (URLError, OSError, ValueError):
        return None
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None


def _breakers(cli: Cli) -> str:
    from overnight.ledger.flow import held  # noqa: PLC0415

    found = cli.ledger.reading(held, cli.clock.now())
    told = ", ".join(map(str, found))
    if any(one.down for one in found):
        raise OSError(f"{told}: too many requests have failed")
    return told or "none is open"


def _channels(cli: Cli) -> str:
    from overnight.alerts.book import undelivered  # noqa: PLC0415

    if rows := cli.ledger.reading(undelivered):
        waiting = {row["channel"]: (counted(row["waiting"], "message"), row["error"]) for row in rows}
        raise OSError(", ".join(f"{name} has not taken {n}: {error}" for name, (n, error) in waiting.items()))
    names = [name for name in cli.schedule.alerts.to if _has_address(cli, name)]
    return f"alerts go to {', '.join(names)}" if names else "alerts go to nobody: see channels and alerts.to"


def _has_address(cli: Cli, name: str) -> bool:
    channel = cli.schedule.channels[name]
    return bool(channel.email or channel.webhook)


def _serve(cli: Cli) -> str:
    """Ask the schedulers of this project where they listen, or see whether one could listen where it does unasked."""
    from overnight.whereabouts import schedulers  # noqa: PLC0415

    found = schedulers(cli.root)
    if not found and not _is_free(PORT):
        raise Note(f"none runs here, and another program has port {PORT}: serve would have no page")
    return "; ".join(map(_answer_of, found)) or f"none runs here; port {PORT} is free for it"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _answer_of(one: "Whereabouts") -> str:
    """Whether it answers itself, and looks for due jobs. Raises OSError."""
    from overnight.whereabouts import ALIVE, MARK  # noqa: PLC0415

    who = f"process {one.pid}"
    if not one.url:
        raise OSError(f"{who} runs the jobs without a page: its port was taken when it began")
    try:
        with _NO_PROXY.open(f"{one.url}{ALIVE}", timeout=WEB_TIMEOUT) as answer:
            code, headers = answer.status, answer.headers
    except HTTPError as error:
        with error:
            code, headers = error.code, error.headers
    except (OSError, ValueError) as error:
        raise OSError(f"{who} does not answer at {one.url}: {error}") from error
    if headers.get(MARK) != one.mark:
        raise OSError(f"at {one.url}, where {who} should listen, another program answers")
    if code != HTTPStatus.OK:
        raise OSError(f"{who} at {one.url} has not looked for due jobs within three minutes")
    return f"{who} answers at {one.url}"


CHECKS = (
    Check("python", _python, "install Python 3.11 or newer"),
    Check("schedule.yaml", _schedule, "correct it, then: overnight validate"),
    Check("environment", _environment, "correct the variable in .env beside schedule.yaml, then: overnight doctor"),
    Check("time zone", _zones, "pip install tzdata, or install the system's"),
    Check("ledger", _ledger, "docs/ledger.md says what each message means"),
    Check("jobs", _jobs, "overnight validate names each error"),
    Check("disk", _disk, "make room, or: overnight vacuum"),
    Check("mail", _mail, "check MAIL_URL, the firewall and the relay's log"),
    Check(
        "links", _links, "pass /u/, /subscribe and /confirm/ on to serve, without a redirect: see docs/subscribers.md"
    ),
    Check("reports", _reports, "check REPORTS_TO, the AWS_ variables and the rights on the bucket"),
    Check("model", _model, "see to ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL in .env, and to the models of the roles"),
    Check("clock", _clock, "switch time synchronisation on: timedatectl set-ntp true"),
    Check("breakers", _breakers, "nothing, if the other side is well again: runs ask by themselves then"),
    Check("channels", _channels, "correct the channel in schedule.yaml; messages are tried again for a day"),
    Check("serve", _serve, "its log says why; end what should not be there, restart it, or: overnight serve --port N"),
)
