"""The public pages as HTML: one template, no script, nothing from elsewhere."""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined, Template


@dataclass(frozen=True, slots=True)
class Page:
    """What a page says, and what it asks for: a button, or with `asks_address` an address as well."""

    title: str
    text: str
    button: str = ""
    asks_address: bool = False
    address: str = ""
    error: str = ""


def response(page: Page, site: str, status: int = 200) -> web.Response:
    """The page as an answer that nobody keeps, frames or runs anything in."""
    html = _template().render(page=page, site=site, style=_style())
    return web.Response(text=html, status=status, content_type="text/html", headers=_headers())


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("overnight.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")


@cache
def _style() -> str:
    return (files("overnight.web") / "templates" / "page.css").read_text(encoding="utf-8")


@cache
def _headers() -> dict[str, str]:
    """The style is allowed by its hash; forms go to where they came from."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",  # the address of the page is the token
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "X-Robots-Tag": "noindex",
    }
