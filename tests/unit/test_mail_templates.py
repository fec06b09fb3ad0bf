"""Templates of mails: what is broken stops the run before the first message."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from overnight.errors import Stop
from overnight.mail.templates import Templates, day, one_line, safe_url

PROJECT = Path(__file__).parents[2]


def templates(root: Path, **files: str) -> Templates:
    folder = root / "templates"
    folder.mkdir()
    for name, text in {"subject": "Hello", "txt": "Hi", **files}.items():
        (folder / f"m.{name}.j2").write_text(text, encoding="utf-8")
    return Templates(root)


def test_html_is_escaped_and_text_is_not(tmp_path: Path) -> None:
    rendered = templates(tmp_path, subject="{{ x }}", txt="{{ x }}", html="<p>{{ x }}</p>").render(
        "m", {"x": "<script>alert(1)</script> & co"}
    )
    assert rendered.subject == "<script>alert(1)</script> & co"
    assert rendered.text == "<script>alert(1)</script> & co\n"
    assert rendered.html is not None
    assert "<body><p>&lt;script&gt;alert(1)&lt;/script&gt; &amp; co</p></body>" in rendered.html


def test_a_mail_without_an_html_template_is_plain(tmp_path: Path) -> None:
    assert templates(tmp_path).render("m", {}).html is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one\n{{ nam }}", r"templates/m\.txt\.j2:2: 'nam' is undefined"),
        ("one\n\n{{ to.nam }}", r"templates/m\.txt\.j2:3: .* has no attribute 'nam'"),
        ("one\n{% if %}", r"templates/m\.txt\.j2:2: "),
        ("{{ 1 / 0 }}", r"templates/m\.txt\.j2:1: ZeroDivisionError"),
        ("{{ range(10) + 'a' }}", r"templates/m\.txt\.j2:1: TypeError"),
        ("{% include '/etc/passwd' %}", r"templates//etc/passwd does not exist"),
        ("{% include '../secret' %}", r"templates/\.\./secret does not exist"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", r"RecursionError"),
    ],
)
def test_a_broken_template_stops_the_run_and_names_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Stop, match=message) as stopped:
        templates(tmp_path, txt=text).check("m", {"to": SimpleNamespace(name="x")})
    assert stopped.value.code == "template"


@pytest.mark.parametrize("stem", ["missing", "../m", "/etc/passwd", ""])
def test_a_missing_template_stops_the_run(tmp_path: Path, stem: str) -> None:
    with pytest.raises(Stop):
        templates(tmp_path).render(stem, {})


@pytest.mark.parametrize("url", ["https://example.org/a?b=c#d", "http://example.org", "mailto:a@example.org?subject=x"])
def test_ordinary_links_pass(url: str) -> None:
    assert safe_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "//example.org",
        "/relative",
        "https://",
        "https://example.org/a b",
        'https://example.org/"onclick=',
        "https://example.org/\x00",
        "http://[::1",
        "",
        None,
    ],
)
def test_other_links_vanish(url: Any) -> None:
    assert safe_url(url) == ""


def test_what_a_model_wrote_fits_on_one_line() -> None:
    assert one_line(" a\r\nb\u2028c\x00d ") == "a b c d"


def test_a_date_is_written_for_people_and_nonsense_is_left_out() -> None:
    assert day("2026-11-22") == day("2026-11-22T07:00:00.000Z") == "22 November 2026"
    assert day("") == day(None) == day("rehearsal-1") == ""


def story(**changes: str) -> SimpleNamespace:
    values = {"title": "Night buses", "url": "https://example.org/1", "why": "Sooner <home>.", "topic": "city"}
    return SimpleNamespace(**{**values, "feed": "The Site", "published": "2026-11-21T18:30:00.000Z", **changes})


def digest(source: str = "model", *stories: SimpleNamespace, **context: Any) -> dict[str, Any]:
    edition = SimpleNamespace(
        subject="Buses\nand more", intro="One thing.", stories=stories or [story()], source=source
    )
    reader = SimpleNamespace(id="s_1", email="jane@example.com", name="Jane")
    values = {"edition": edition, "to": reader, "unsubscribe_mailto": "mailto:u@example.org?subject=unsubscribe%20s_1"}
    return {**values, "slot": "2026-11-22", "site": "The Site", "public_url": "", **context}


def test_both_parts_of_the_digest_have_the_same_links() -> None:
    rendered = Templates(PROJECT).render("daily_email", digest())
    assert rendered.subject == "Buses and more"
    for link in ("https://example.org/1", "mailto:u@example.org?subject=unsubscribe%20s_1"):
        assert rendered.html is not None
        assert link in rendered.text
        assert f'href="{link}"' in rendered.html
    assert "Jane" in rendered.text
    assert "Sooner &lt;home&gt;." in rendered.html
    assert "<img" not in rendered.html


@pytest.mark.parametrize(("source", "said"), [("fallback", True), ("model", False), ("replayed", False)])
def test_an_edition_without_an_editor_says_so_in_both_parts(source: str, said: bool) -> None:
    rendered = Templates(PROJECT).render("daily_email", digest(source))
    assert rendered.html is not None
    assert ("put together without our editor" in rendered.text) is said
    assert ("put together without our editor" in rendered.html) is said


def test_a_dangerous_link_in_a_feed_is_shown_as_words() -> None:
    rendered = Templates(PROJECT).render("daily_email", digest("model", story(url="javascript:alert(1)")))
    assert rendered.html is not None
    assert "javascript" not in rendered.text + rendered.html
    assert "Night buses" in rendered.html


def test_the_digest_goes_to_an_operator_without_a_subscription() -> None:
    rendered = Templates(PROJECT).render("daily_email", digest(to=None, unsubscribe_mailto=""))
    assert rendered.html is not None
    assert "nsubscribe" not in rendered.text + rendered.html
