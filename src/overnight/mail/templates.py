"""Templates of mails: `<stem>.subject.j2`, `<stem>.txt.j2` and, when there is one, `<stem>.html.j2`.

A template that is missing, broken or asks for a variable nobody gave stops the run: the first message is rendered
before the first connection, so nothing has gone out by then. The rules in `<style>` of the HTML are written to the
elements they are for, because some mail programs ignore them there; only `@media` stays.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from css_inline import CSSInliner, InlineError
from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
    meta,
    nodes,
)

from overnight.clock import token
from overnight.errors import OvernightError, Stop
from overnight.mail.blanks import Blank, Blanks, Computed, Escape, Gap, Pattern, Reader, fillable, written

SCHEMES = ("http", "https", "mailto")
_STEM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_BREAKS = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+")
_MONTHS = (  # not from the locale, which a mail must not depend on
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_NOT_IN_A_LINK = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\"<>\\]")
_TAG = re.compile(r"<[A-Za-z/!](?:[^\">]|\"[^\"]*\")*>")
_RAW = re.compile(r"<!--.*?-->|<(style|script)\b.*?</\1>", re.DOTALL)  # where nothing is escaped
_ATTRIBUTE = re.compile(r"([a-z-]+)=\"[^\"]*$")
# blocks that change what was written in them, before anybody looks at it
_UNSEEN: tuple[type[nodes.Node], ...] = (nodes.FilterBlock, nodes.EvalContextModifier)


@dataclass(frozen=True, slots=True)
class Rendered:
    """The parts of one mail; `html` is None when the mail has no HTML template."""

    subject: str
    text: str
    html: str | None
    images: Mapping[str, bytes] = field(default_factory=dict)  # PNG by name: `<img src="cid:NAME">`


@dataclass(frozen=True, slots=True)
class Draft:
    """The parts of one mail with places left open, for readers of whom the `conditions` hold."""

    subject: Pattern
    text: Pattern
    html: Pattern | None
    conditions: Mapping[Gap, bool]
    images: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, content: Rendered) -> "Draft":
        """A draft without open places."""
        html = None if content.html is None else Pattern((content.html,))
        return cls(Pattern((content.subject,)), Pattern((content.text,)), html, {}, content.images)


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
    """Join the words of a text by single blanks: what a model or a feed wrote fits into a subject.

    Control characters become blanks, and what a mail program would decode (`=?utf-8?…`) is broken up.
    """
    return " ".join(_BREAKS.sub(" ", str(text)).split()).replace("=?", "= ?")


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
        self._nonce = token(16)
        self._loader = FileSystemLoader(root / "templates")
        self._environment = Environment(
            loader=self._loader,
            undefined=StrictUndefined,
            # on for all HTML; `select_autoescape` would leave it off for .html.j2
            autoescape=lambda name: bool(name and name.endswith(".html.j2")),  # noqa: S701
            finalize=partial(written, self._nonce),
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(safe_url=fillable(safe_url), one_line=fillable(one_line), day=day)
        self._environment.tests["string"] = lambda value: isinstance(value, str | Blank)
        self._inliner = CSSInliner(keep_style_tags=False, keep_at_rules=True, load_remote_stylesheets=False)
        self._folder = root / "templates"
        self._unseen: dict[str, bool] = {}

    def check(self, stem: str, context: Mapping[str, Any]) -> None:
        """Raise Stop when a mail cannot be rendered from this context."""
        self.render(stem, context)

    def render(self, stem: str, context: Mapping[str, Any]) -> Rendered:
        """All parts of the mail `stem`; raises Stop naming file, line and cause."""
        subject, text, html = self._names(stem)
        return Rendered(
            subject=self._part(subject, context),
            text=self._part(text, context),
            html=None if html is None else self._part(html, context),
            images=context.get("images", {}),
        )

    def page(self, stem: str, context: Mapping[str, Any]) -> str | None:
        """Only the HTML of the mail; None when it has none. Raises Stop."""
        html = self._names(stem)[2]
        return None if html is None else self._part(html, context)

    def draft(self, stem: str, context: Mapping[str, Any], values: Mapping[str, str]) -> Draft:
        """All parts of the mail, rendered for all readers who are like the one with these `values`.

        The names in `values` are open places, `id`, `email` and `name` as attributes of `to`. Raises Computed when the
        templates do more with them than write them.
        """
        conditions: dict[Gap, bool] = {}

        def drafted(name: str) -> Pattern:
            if self._changes_unseen(name):
                raise Computed
            blanks = Blanks(self._nonce, values, [], conditions)
            opened = {one: blanks.blank(one) for one in values if one not in Reader.__slots__}
            try:
                text = self._part(name, {**context, **opened, "to": Reader(blanks)})
            except Stop as error:
                raise Computed from error  # is it the template or the blank? rendered for one reader, it will show
            return blanks.pattern(text, _escapes(text) if name.endswith(".html.j2") else lambda _: str)

        subject, text, html = self._names(stem)
        page = None if html is None else drafted(html)
        return Draft(drafted(subject), drafted(text), page, conditions, context.get("images", {}))

    def _names(self, stem: str) -> tuple[str, str, str | None]:
        if not _STEM.fullmatch(stem):
            raise Stop(f"{stem!r} is no name of a mail: use the file name before .subject.j2", code="template")
        html = f"{stem}.html.j2"
        return f"{stem}.subject.j2", f"{stem}.txt.j2", html if (self._folder / html).is_file() else None

    def _changes_unseen(self, name: str) -> bool:
        """Whether a template, or one it includes, has a block whose text is changed as a whole."""
        if name not in self._unseen:
            self._unseen[name] = False  # a template that includes itself ends here
            self._unseen[name] = any(self._reasons(name))
        return self._unseen[name]

    def _reasons(self, name: str) -> Iterator[bool]:
        try:
            tree = self._environment.parse(self._loader.get_source(self._environment, name)[0], name)
        except TemplateError:
            return  # told when it is rendered
        yield any(tree.find(kind) for kind in _UNSEEN)
        for other in meta.find_referenced_templates(tree):
            yield other is None or self._changes_unseen(other)

    def _part(self, name: str, context: Mapping[str, Any]) -> str:
        text = self._rendered(name, context).strip()
        if name.endswith(".subject.j2"):
            return text
        return (self._inlined(name, text) if name.endswith(".html.j2") else text) + "\n"

    def _inlined(self, name: str, html: str) -> str:
        if any(self._nonce in raw.group() for raw in _RAW.finditer(html)):
            raise Computed  # an open place where nothing is escaped, or where it would be a rule of style
        try:
            return self._inliner.inline(html)
        except (InlineError, UnicodeError) as error:
            raise Stop(f"templates/{name}: it cannot be read as HTML: {error}", code="template") from error

    def _rendered(self, name: str, context: Mapping[str, Any]) -> str:
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


def _escapes(html: str) -> Callable[[int], Escape]:
    """How a text is escaped at a place of this HTML: as the inliner, which quotes all attributes, has written others.

    Raises Computed for a place in an attribute that styles read.
    """
    tags = [one.span() for one in _TAG.finditer(html)]

    def escape(at: int) -> Escape:
        start = next((start for start, end in tags if start < at < end), None)
        if start is None:
            return _in_text
        attribute = _ATTRIBUTE.search(html, start, at)
        if attribute is None or attribute.group(1) in ("style", "class", "id"):
            raise Computed
        return _in_attribute

    return escape


def _in_text(value: str) -> str:
    text = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("\xa0", "&nbsp;")


def _in_attribute(value: str) -> str:
    return value.replace("&", "&amp;").replace('"', "&quot;").replace("\xa0", "&nbsp;")
