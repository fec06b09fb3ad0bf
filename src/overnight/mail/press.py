"""What is printed for many is set once: forms by edition, and the page of each edition in the archive."""

import pickle  # only written, to tell whether two editions are the same; never read
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from overnight.mail.blanks import Computed, Reader
from overnight.mail.form import Form
from overnight.mail.message import Heading
from overnight.mail.templates import Draft, Templates

KEPT = 64  # editions of which the forms are kept: some 60 kB each

Keep = Callable[[str, str, bytes], str]


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be printed: a template with its context, for one reader of those who get the same.

    `personal` are the values by name in which readers differ, `to` the reader; `archive` is the job and the slot under
    which a page without any reader is kept, or None.
    """

    heading: Heading
    template: str
    context: Mapping[str, Any]
    personal: Mapping[str, str]
    to: Any
    archive: tuple[str, str] | None = None


@dataclass(slots=True)
class _Edition:
    """One template with one context, as far as it has been printed; `page` is its address in the archive."""

    page: str = ""
    forms: list[Form] = field(default_factory=list)
    computed: bool = False


@dataclass(slots=True)
class Press:
    """Keeps the forms of the editions used last. `keep(job, slot, page)` archives a page and returns its address."""

    templates: Templates
    keep: Keep
    _editions: dict[tuple[object, ...], _Edition] = field(default_factory=dict)

    def form(self, order: Order) -> Form:
        """The form that fits this reader: an old one, or a new one. Raises Stop (`template`), Permanent (`header`)."""
        edition = self._edition(order)
        if order.to is None or edition.computed or any(value != value.strip() for value in order.personal.values()):
            return self._single(order, edition)
        for form in edition.forms:
            if form.fits(order.personal):
                return form
        try:
            draft = self.templates.draft(order.template, _context(order, edition), order.personal)
        except Computed:
            edition.computed = True
            return self._single(order, edition)
        edition.forms.append(Form(order.heading, draft))
        return edition.forms[-1]

    def _single(self, order: Order, edition: _Edition) -> Form:
        """The mail for this reader alone."""
        context = {**_context(order, edition), **_links(order), "to": order.to}
        return Form(order.heading, Draft.of(self.templates.render(order.template, context)))

    def _edition(self, order: Order) -> _Edition:
        """Told apart by the values of the context, not by the objects: a job may change those from item to item."""
        try:
            values = pickle.dumps(order.context, protocol=5)
        except (pickle.PicklingError, TypeError, AttributeError, RecursionError):
            return _Edition(self._page(order), computed=True)
        key = (order.heading, order.template, order.archive, values)
        edition = self._editions.pop(key, None) or _Edition(self._page(order))
        self._editions[key] = edition  # at the end: the first is the one that was used longest ago
        if len(self._editions) > KEPT:
            del self._editions[next(iter(self._editions))]
        return edition

    def _page(self, order: Order) -> str:
        if order.archive is None:
            return ""
        nobody = {**order.context, **dict.fromkeys(_links(order), ""), "to": None, "archive_url": ""}
        html = self.templates.page(order.template, nobody)
        return "" if html is None else self.keep(*order.archive, html.encode())


def _links(order: Order) -> dict[str, str]:
    """The personal values that are variables of their own, not parts of `to`."""
    return {name: value for name, value in order.personal.items() if name not in Reader.__slots__}


def _context(order: Order, edition: _Edition) -> dict[str, Any]:
    return {**order.context, "archive_url": edition.page}
