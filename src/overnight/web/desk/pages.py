"""Templates to answers: whatever a template prints is redacted first and escaped then."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from overnight.health import TOKEN
from overnight.pricing import NANO
from overnight.runner import Workplace
from overnight.triggers import compact
from overnight.web.desk.gate import HEADERS, Caller

NONE = "n/a"
STATIC = {"desk.css": "text/css", "desk.js": "text/javascript", "desk.svg": "image/svg+xml"}
NOBODY = {"form_token": "", "inside": False}


@dataclass(slots=True)
class Pages:
    """Makes the pages of a workplace."""

    current: Callable[[], Workplace]
    _environment: Environment = field(init=False)

    def __post_init__(self) -> None:
        """The templates; each is read when it is first needed."""
        self._environment = Environment(
            loader=PackageLoader("overnight.web", "templates/desk"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=self._clean,
        )
        self._environment.filters.update(
            money=money,
            count=count,
            share=share,
            took=took,
            when=self._when,
            ago=self._ago,
            path=_path,
            query=_query,
            cut=self._cut,
        )
        self._environment.globals.update({name.replace(".", "_"): address(name) for name in STATIC})

    def response(
        self, name: str, caller: Caller | None, values: Mapping[str, Any], status: int = 200, active: str = ""
    ) -> web.Response:
        """The template `name` as an answer that nobody keeps, frames or runs anything foreign in."""
        plain = NOBODY if caller is None else {"form_token": _as_it_is(caller.form_token), "inside": True}
        html = self._environment.get_template(f"{name}.html.j2").render(
            active=active,
            zone=str(self.current().schedule.timezone),
            asks_token=bool(self.current().schedule.environ.get(TOKEN)),
            **{**plain, **values},
        )
        return web.Response(text=html, status=status, content_type="text/html", headers=HEADERS)

    def failed(self, status: int, title: str, text: str) -> web.Response:
        """The page that says why there is no other."""
        return self.response("failed", None, {"title": title, "text": text}, status)

    def cleaned(self, text: str) -> str:
        """The text without secrets, for what is no template."""
        return self.current().redactor.text(text)

    def _cut(self, text: str, most: int) -> str:
        """The beginning of a text: cleaned first, for nobody would know half a secret."""
        return self.cleaned(text)[:most]

    def _clean(self, value: Any) -> Any:
        return self.cleaned(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    def _when(self, at: datetime | None, form: str = "%a %d %b %H:%M") -> str:
        return "—" if at is None else f"{at.astimezone(self.current().schedule.timezone):{form}}"

    def _ago(self, at: datetime) -> str:
        """How long ago, or until when, as in `2h10m`."""
        return span(abs(self.current().clock.now() - at))


def _as_it_is(token: str) -> Markup:
    """A token has no character that needs escaping; one that the redactor has altered would be refused."""
    return Markup(token)  # noqa: S704


def money(nano: int | None) -> str:
    """`$4.06`, below ten cents `$0.0075`: rounded, for the eye; the reports have all digits."""
    if nano is None:
        return NONE
    usd = Decimal(nano) / NANO
    if not nano or usd >= Decimal("0.1"):
        return f"${usd:,.2f}"
    return f"${usd:.4f}" if usd >= Decimal("0.0001") else "< $0.0001"


def count(number: float | None) -> str:
    """`1,892`."""
    return NONE if number is None else f"{number:,.0f}"


def share(part: float | None) -> str:
    """`99.6 %`."""
    return NONE if part is None else f"{part:.1%}".replace("%", "\u00a0%")


def took(ms: float | None) -> str:
    """A duration in words: `740 ms`, `2.7 s`, `3m`."""
    if ms is None:
        return NONE
    if ms < 1000:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.1f} s" if ms < 60_000 else span(timedelta(milliseconds=ms))


def span(length: timedelta) -> str:
    """`2h10m`: in whole minutes, or seconds below one."""
    seconds = int(length.total_seconds())
    return compact(seconds - seconds % 60 if seconds >= 60 else seconds)


def _path(text: str) -> str:
    return quote(text, safe="")


def _query(values: Mapping[str, Any]) -> str:
    return urlencode({name: value for name, value in values.items() if value not in ("", None)})


@cache
def _static(name: str) -> bytes:
    return (files("overnight.web") / "templates" / "desk" / name).read_bytes()


def address(name: str) -> str:
    """Where a file of the page is; a new version has a new address."""
    return f"/static/{name}?v={hashlib.sha256(_static(name)).hexdigest()[:12]}"


async def static(request: web.Request) -> web.StreamResponse:
    """The style sheet or the script: the same for everybody, and no secret."""
    name = request.match_info["name"]
    if name not in STATIC:
        raise web.HTTPNotFound
    headers = {**HEADERS, "Cache-Control": "max-age=86400"}
    return web.Response(body=_static(name), content_type=STATIC[name], charset="utf-8", headers=headers)
