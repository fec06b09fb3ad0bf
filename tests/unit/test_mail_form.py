"""Forms: one rendering serves many readers, and each gets, byte for byte, what rendering for them alone would give."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overnight.errors import Permanent, Stop
from overnight.mail.blanks import Computed
from overnight.mail.form import HTML_MAX, Form, build
from overnight.mail.message import Envelope, Heading, mailbox
from overnight.mail.press import KEPT, Order, Press
from overnight.mail.templates import Draft, Rendered, Templates

PROJECT = Path(__file__).parents[2]
HEADING = Heading(mailbox("news@example.org", "The Site"), "<daily.example.org>", "a:b:c:example")
DATE = datetime(2026, 11, 22, 7, tzinfo=UTC)
MAIL = "mailto:unsubscribe@example.org?subject=unsubscribe%20s_1.0123456789abcdef"
NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=255),
    st.text("<>&\"'=.?_-\xa0 éß漢😀", max_size=120),
    st.sampled_from(
        ["", "Jane", "x" * 255, "漢" * 255, "=?utf-8?q?x?=", "&amp;", "</td>", '" onload="x', "a\xa0b", "."]
    ),
)


@dataclass(frozen=True)
class Someone:
    """A reader."""

    id: str
    email: str
    name: str


def reader(name: str = "Jane", id_: str = "s_1", email: str = "jane@example.com") -> Someone:
    return Someone(id_, email, name)


def personal(to: Someone, url: str = MAIL) -> dict[str, str]:
    return {"id": to.id, "email": to.email, "name": to.name, "unsubscribe_url": url, "unsubscribe_mailto": MAIL}


def envelope(to: Someone, url: str = MAIL) -> Envelope:
    return Envelope(mailbox(to.email, to.name), f"<{to.id}@example.org>", DATE, (url,))


def folder(root: Path, subject: str = "News", text: str = "Hi {{ to.name }}\nbye", html: str = "") -> Templates:
    (root / "templates").mkdir(exist_ok=True)
    for kind, source in (("subject", subject), ("txt", text), ("html", html)):
        if source:
            (root / "templates" / f"m.{kind}.j2").write_text(source, encoding="utf-8")
    return Templates(root)


def both(templates: Templates, stem: str, context: dict[str, Any], first: Someone, to: Someone) -> tuple[bytes, bytes]:
    """The mail for `to` from the form that was made for `first`, and rendered for `to` alone."""
    draft = templates.draft(stem, context, personal(first))
    form = Form(HEADING, draft)
    if not form.fits(personal(to)):
        form = Form(HEADING, templates.draft(stem, context, personal(to)))
    alone = templates.render(stem, {**context, **personal(to), "to": to})
    assert form.html(personal(to)) == alone.html
    return form.fill(envelope(to), personal(to)), build(HEADING, envelope(to), alone)


def edition(**changes: Any) -> dict[str, Any]:
    story = {"title": "Night <buses> & more", "url": "https://example.org/1?a=1&b=2", "why": "Sooner “home”. " * 9}
    rest = {"topic": "city", "feed": "The Site", "published": "2026-11-21T18:30:00.000Z", "id": "1"}
    written = SimpleNamespace(
        subject="Buses & more", intro="One thing.", stories=[SimpleNamespace(**story, **rest)] * 3, source="model"
    )
    values = {"edition": written, "slot": "2026-11-22", "site": "The Site", "public_url": "", "archive_url": ""}
    return {**values, **changes}


@given(first=NAMES, name=NAMES)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_everybody_gets_the_bytes_that_rendering_for_them_alone_would_give(first: str, name: str) -> None:
    first, name = first.strip(), name.strip()
    try:
        mailbox("a@example.com", name)
    except Permanent:
        return
    filled, alone = both(_OURS, "daily_email", edition(), reader(first), reader(name))
    assert filled == alone
    assert max(len(line) for line in filled.split(b"\r\n")) <= 100


_OURS = Templates(PROJECT)


@pytest.fixture(scope="module")
def corners(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """Templates that put the name into every corner."""
    html = """<p title="to {{ to.name }} > {{ to.id }}">{{ "x" * 60 }} {{ to.name }}
    <a href="{{ unsubscribe_url | safe_url }}">
    {% if to.name | one_line %}{{ to.name | one_line }}{% else %}you{% endif %}</a>{{ to.email }}</p>"""
    text = """{{ 'y' * 70 }} {{ to.name }}
.
{% set n = to.name %}{{ n }}: {{ unsubscribe_mailto }}
{{ to.name | default('z') }}."""
    return folder(tmp_path_factory.mktemp("corners"), text=text, html=html)


@given(name=NAMES.filter(lambda name: name == name.strip()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
def test_a_name_is_escaped_where_it_stands(corners: Templates, name: str) -> None:
    try:
        mailbox("a@example.com", name)
    except Permanent:
        return
    filled, alone = both(corners, "m", {}, reader("Jane"), reader(name))
    assert filled == alone
    assert max(len(line) for line in filled.split(b"\r\n")) <= 100


def test_a_name_in_the_subject_makes_a_subject_for_each(tmp_path: Path) -> None:
    templates = folder(tmp_path, subject="{{ to.name }}, your news")
    form = Form(HEADING, templates.draft("m", {}, personal(reader("Jane"))))
    for name in ("Jane", "Jörg", "李雷", "a, b"):
        data = form.fill(envelope(reader(name)), personal(reader(name)))
        assert message_from_bytes(data, policy=default)["Subject"] == f"{name}, your news"
    for name in ("x\r\nBcc: v@x.com", "=?utf-8?q?a=0D=0ABcc:_v=40x.com?=", "\x00", "a\u2028b"):
        with pytest.raises(Permanent):
            form.fill(envelope(reader("Jane")), personal(reader(name)))


COMPUTES = [
    "{{ to.name | upper }}",
    "{{ to.name | length }}",
    "{{ to.name[0] }}",
    "{{ 'Hi ' ~ to.name }}",
    "{{ 'Hi ' + to.name }}",
    "{{ to.name + '!' }}",
    "{{ '%s' | format(to.name) }}",
    "{{ '%s!' % to.name }}",
    "{{ 'Hi x'.replace('x', to.name) }}",
    "{{ [to.name, 'x'] | join }}",
    "{{ [to.name] }}",
    "{{ {'a': to.name} }}",
    "{{ {to.name: 1} }}",
    "{{ to }}",
    "{{ to.topics }}",
    "{{ to.name.rstrip('.') }}",
    "{{ to.name | int }}",
    "{{ to.name | e }}",
    "{{ to.name | safe }}",
    "{{ to.name | wordwrap(10) }}",
    "{{ to.name | truncate(3) }}",
    "{% if to.name == 'Jane' %}x{% endif %}",
    "{% if 'J' in to.name %}x{% endif %}",
    "{% if to.name in ['Jane'] %}x{% endif %}",
    "{% if to.name is iterable %}x{% endif %}",
    "{% for letter in to.name %}{{ letter }}{% endfor %}",
    "{% filter upper %}{{ to.name }}{% endfilter %}",
    "{% filter wordwrap(20) %}Hi {{ to.name }}{% endfilter %}",
    "{% autoescape true %}{{ to.name }}{% endautoescape %}",
    "{% set x %}Hi {{ to.name }}{% endset %}{{ x | wordwrap(9) }}",
    "{% macro hi() %}Hi {{ to.name }}{% endmacro %}{{ hi() | upper }}",
    "{% include 'filtered.j2' %}",
    "{% include [to.name, 'filtered.j2'] %}",
]


@pytest.mark.parametrize("source", COMPUTES)
def test_a_template_that_computes_with_a_name_is_rendered_for_each(tmp_path: Path, source: str) -> None:
    templates = folder(tmp_path, text=f"a {source} b")
    (tmp_path / "templates" / "filtered.j2").write_text("{% filter upper %}{{ to.name }}{% endfilter %}")
    with pytest.raises(Computed):
        templates.draft("m", {}, personal(reader()))
    press = Press(templates, _nowhere)
    for name in ("Jane", "Annabella Long", "x" * 50):
        to = replace(reader(name), id=f"s_{len(name)}")
        order = Order(HEADING, "m", {}, personal(to), _Chosen(**vars(to), topics=("city",)))
        alone = templates.render("m", {**personal(to), "to": order.to})
        assert press.form(order).fill(envelope(to), personal(to)) == build(HEADING, envelope(to), alone)


@dataclass(frozen=True)
class _Chosen(Someone):
    topics: tuple[str, ...]


def _nowhere(_job: str, _slot: str, _page: bytes) -> str:
    return ""


@pytest.mark.parametrize(
    "where",
    [
        "<style>p { color: {{ to.name }} }</style>",
        "<!-- {{ to.name }} -->",
        "<script>{{ to.name }}</script>",
        "<p style='color: {{ to.name }}'></p>",
        "<p class='{{ to.name }}'></p>",
    ],
)
def test_where_nothing_is_escaped_no_place_is_left_open(tmp_path: Path, where: str) -> None:
    with pytest.raises(Computed):
        folder(tmp_path, html=f"<html><body>{where}<p>x</p></body></html>").draft("m", {}, personal(reader()))


def test_a_story_cannot_open_a_place(tmp_path: Path) -> None:
    templates = folder(tmp_path, text="Hi {{ to.name }}: {{ story }}\nbye")
    for story in (f"{templates._nonce}0000", templates._nonce, f"{templates._nonce.upper()}0000"):
        with pytest.raises(Computed):
            templates.draft("m", {"story": story}, personal(reader()))
    assert Templates(tmp_path)._nonce != templates._nonce


def test_readers_with_and_without_a_name_get_forms_of_their_own(tmp_path: Path) -> None:
    press = Press(folder(tmp_path, text="{% if to.name %}Hi {{ to.name }}{% else %}Hello{% endif %},\nnews"), _nowhere)
    forms = [press.form(Order(HEADING, "m", {}, personal(reader(name)), reader(name))) for name in ("Ann", "", "Bob")]
    assert forms[0] is forms[2]
    assert forms[0] is not forms[1], "she has no name"
    assert b"\r\nHello,\r\n" in forms[1].fill(envelope(reader("")), personal(reader("")))


def test_a_context_that_was_changed_in_place_is_another_edition(tmp_path: Path) -> None:
    press = Press(folder(tmp_path, text="{{ facts.who }} {{ to.name }}\nbye"), _nowhere)
    facts: dict[str, str] = {}
    for name in ("Ann", "Bob"):
        facts["who"] = name
        form = press.form(Order(HEADING, "m", {"facts": facts}, personal(reader(name)), reader(name)))
        assert f"{name} {name}".encode() in form.fill(envelope(reader(name)), personal(reader(name)))


def test_a_context_that_cannot_be_told_apart_is_rendered_for_each(tmp_path: Path) -> None:
    press = Press(folder(tmp_path, text="{{ f() }} {{ to.name }}\nbye"), _nowhere)
    for name in ("Ann", "Bob"):
        form = press.form(Order(HEADING, "m", {"f": lambda n=name: n}, personal(reader(name)), reader(name)))
        assert f"{name} {name}".encode() in form.fill(envelope(reader(name)), personal(reader(name)))


def test_no_more_forms_are_kept_than_are_of_use(tmp_path: Path) -> None:
    press = Press(folder(tmp_path), _nowhere)
    for n in range(KEPT + 5):
        press.form(Order(HEADING, "m", {"n": n}, personal(reader()), reader()))
    assert len(press._editions) == KEPT


def test_the_edition_that_is_in_use_is_kept_however_many_others_come(tmp_path: Path) -> None:
    pages: list[str] = []

    def keep(job: str, slot: str, _page: bytes) -> str:
        pages.append(slot)
        return ""

    press = Press(folder(tmp_path, html="<p>Hi</p>"), keep)
    for n in range(KEPT * 2):
        for slot in ("long", f"short {n}"):
            press.form(Order(HEADING, "m", {}, personal(reader()), reader(), ("daily", slot)))
    assert pages.count("long") == 1


def test_the_page_of_an_edition_is_kept_once_before_the_first_mail_and_names_nobody(tmp_path: Path) -> None:
    kept: list[tuple[str, str, bytes]] = []

    def keep(job: str, slot: str, page: bytes) -> str:
        kept.append((job, slot, page))
        return "https://example.org/archive/1.html"

    link = "<a href='{{ archive_url | safe_url }}'>here</a>"
    html = f"<p>{{% if to %}}Hi {{{{ to.name }}}} {link} {{% endif %}}{{{{ unsubscribe_url }}}}</p>"
    press = Press(folder(tmp_path, html=html), keep)
    for name in ("Ann", "Bob", ""):
        order = Order(HEADING, "m", {}, personal(reader(name)), reader(name), ("daily", "2026-11-22"))
        assert 'href="https://example.org/archive/1.html"' in str(press.form(order).html(order.personal))
    ((job, slot, page),) = kept
    assert (job, slot) == ("daily", "2026-11-22")
    assert [word for word in (b"Ann", b"Bob", b"Hi", b"unsubscribe") if word in page] == []


def test_html_that_gmail_would_cut_is_refused() -> None:
    def form(size: int, heading: Heading = HEADING) -> Form:
        return Form(heading, Draft.of(Rendered("x", "x\n", "x" * size)))

    form(HTML_MAX)
    with pytest.raises(Stop, match=r"has 100,001 bytes, and Gmail hides") as stopped:
        form(HTML_MAX + 1)
    assert stopped.value.code == "template"
    form(HTML_MAX + 1, Heading(HEADING.sender))  # operators read all of it
