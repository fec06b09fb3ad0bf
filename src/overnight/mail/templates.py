"""Templates of mails: `<stem>.subject.j2`, `<stem>.txt.j2` and, when there is one, `<stem>.html.j2`.

A template that is missing, broken or asks for a variable nobody gave stops the run: the first message is rendered
before the first connection, so nothing has gone out by then.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
)

from overnight.errors import OvernightError, Stop

SCHEMES = ("http", "https", "mailto")
_STEM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_BREAKS = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+")
_MONTHS = (  # not from the locale, which a mail must not depend on
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_NOT_IN_A_LINK = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\"<>\\]")


@dataclass(frozen=True, slots=True)
class Rendered:
    """The parts of one mail; `html` is None when the mail has no HTML template."""

    subject: str
    text: str
    html: str | None
    images: Mapping[str, bytes] = field(default_factory=dict)  # PNG by name: `<img src="cid:NAME">`


def safe_url(url: object) -> str:
    """Return the link itself when it is plain http, https or mailto, otherwise nothing.

    Escaping does not help against `javascript:`; a template shows the words without a link instead.
    """
    text = str(url).strip()
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    target = parts.path if parts.scheme == "mailto" else parts.hostname
    return text if parts.scheme in SCHEMES and target and not _NOT_IN_A_LINK.search(text) else ""


def one_line(text: object) -> str:
    """Join the words of a text by single blanks, without control characters: what a model wrote fits into a subject."""
    return " ".join(_BREAKS.sub(" ", str(text)).split())


def day(instant: object) -> str:
    """Write an ISO date or time as `22 November 2026`; nothing when it is neither."""
    try:
        moment = datetime.fromisoformat(str(instant))
    except ValueError:
        return ""
    return f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}"


class Templates:
    """The templates in `<root>/templates`."""

    def __init__(self, root: Path) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(root / "templates"),
            undefined=StrictUndefined,
            # on for all HTML; `select_autoescape` would leave it off for .html.j2
            autoescape=lambda name: bool(name and name.endswith(".html.j2")),  # noqa: S701
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(safe_url=safe_url, one_line=one_line, day=day)
        self._folder = root / "templates"

    def check(self, stem: str, context: Mapping[str, Any]) -> None:
        """Raise Stop when a mail cannot be rendered from this context."""
        self.render(stem, context)

    def render(self, stem: str, context: Mapping[str, Any]) -> Rendered:
        """All parts of the mail `stem`; raises Stop naming file, line and cause."""
        if not _STEM.fullmatch(stem):
            raise Stop(f"{stem!r} is no name of a mail: use the file name before .subject.j2", code="template")
        html = f"{stem}.html.j2"
        return Rendered(
            subject=self._part(f"{stem}.subject.j2", context).strip(),
            text=self._part(f"{stem}.txt.j2", context).strip() + "\n",
            html=self._part(html, context).strip() + "\n" if (self._folder / html).is_file() else None,
        )

    def _part(self, name: str, context: Mapping[str, Any]) -> str:
        try:
            return self._environment.get_template(name).render(context)
        except OvernightError:
            raise
        except TemplateNotFound as error:
            raise Stop(
                f"templates/{error.name} does not exist: write it, or correct the name", code="template"
            ) from error
        except TemplateSyntaxError as error:
            raise Stop(f"templates/{error.name or name}:{error.lineno}: {error.message}", code="template") from error
        except UndefinedError as error:
            raise Stop(f"{self._where(name, error)}: {error.message}: give it to send()", code="template") from error
        except (
            TemplateError,
            ArithmeticError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
            AttributeError,
        ) as error:
            raise Stop(f"{self._where(name, error)}: {type(error).__name__}: {error}", code="template") from error

    def _where(self, name: str, error: BaseException) -> str:
        """File and line: the innermost frame of a template in the traceback, which Jinja rewrites to the source."""
        line, trace = 0, error.__traceback__
        while trace is not None:
            file = Path(trace.tb_frame.f_code.co_filename)
            if file.is_relative_to(self._folder):
                name, line = str(file.relative_to(self._folder)), trace.tb_lineno
            trace = trace.tb_next
        return f"templates/{name}:{line}" if line else f"templates/{name}"
