"""Templates of mails: what is broken stops the run before the first message."""

import re
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from overnight.errors import Stop
from overnight.mail.templates import Templates, day, one_line, safe_url

PROJECT = Path(__file__).parents[2]
LEAVE = "mailto:u@example.org?subject=unsubscribe%20s_1"
LINK = re.compile(r"(?:https?|mailto):[^\s\"<>]+")


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
    assert one_line("=?utf-8?q?a=0D=0ABcc:_v=40x.com?=") == "= ?utf-8?q?a=0D=0ABcc:_v=40x.com?="


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
    links = {"unsubscribe_url": LEAVE, "unsubscribe_mailto": LEAVE, "archive_url": "https://example.org/archive/1.html"}
    values = {"edition": edition, "to": reader, **links}
    return {**values, "slot": "2026-11-22", "site": "The Site", "public_url": "", **context}


@pytest.mark.parametrize("context", [{}, {"to": None, "unsubscribe_url": "", "archive_url": ""}])
def test_both_parts_of_the_digest_have_the_same_links(context: dict[str, Any]) -> None:
    stories = [story(url=f"https://example.org/{n}?a=1&b=2") for n in range(5)]
    rendered = Templates(PROJECT).render("daily_email", digest("model", *stories, **context))
    assert rendered.html is not None
    in_html = {unescape(link) for link in re.findall(r'href="([^"]*)"', rendered.html)}
    assert in_html == set(LINK.findall(rendered.text))
    assert len(in_html) == (5 if context else 7)


def test_the_digest_is_about_its_reader_and_its_stories_in_both_parts() -> None:
    rendered = Templates(PROJECT).render("daily_email", digest())
    assert rendered.subject == "Buses and more"
    assert rendered.html is not None
    for part in (rendered.text, unescape(rendered.html)):
        for told in (
            "The Site",
            "22 November 2026",
            "Good morning Jane",
            "One thing.",
            "Night buses",
            "Sooner <home>.",
        ):
            assert told in part
    assert "Sooner &lt;home&gt;." in rendered.html


@pytest.mark.parametrize("template", sorted((PROJECT / "templates").glob("*.html.j2")), ids=lambda path: path.name)
def test_templates_have_what_mail_programs_and_readers_need(template: Path) -> None:
    source = template.read_text(encoding="utf-8")
    assert all(re.search(r'\balt="', image) for image in re.findall(r"<img\b[^>]*>", source)), "alt on each image"
    assert not re.search(r"=\s*\{\{", source), "an attribute without quotes can be broken out of"
    assert not re.search(r"href=\"\{\{(?![^}]*safe_url)", source), "a link is checked by safe_url"
    assert not re.search(r"\|\s*safe\b|autoescape", source), "everything is escaped"
    assert '<html lang="' in source
    assert 'name="color-scheme" content="light dark"' in source


def test_only_media_queries_stay_in_the_style_of_a_mail() -> None:
    html = Templates(PROJECT).render("daily_email", digest()).html
    assert html is not None
    styles = "".join(re.findall(r"<style>(.*?)</style>", html, re.DOTALL))
    assert re.sub(r"@media [^{]*\{(?:[^{}]*\{[^{}]*\})*\s*\}", "", styles).strip() == ""
    assert styles.count("@media") == 2
    assert 'style="' in html


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
    rendered = Templates(PROJECT).render("daily_email", digest(to=None, unsubscribe_url=""))
    assert rendered.html is not None
    assert "nsubscribe" not in rendered.text + rendered.html
