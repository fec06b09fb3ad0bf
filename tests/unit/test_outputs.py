"""Checks on answers: a model points only to where its material points."""

import re
import string
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.errors import Invalid
from overnight.outputs import UnexpectedLinks, check_links, refuse_links

MATERIAL = {
    "stories": [
        {"title": "Harbour", "url": "https://news.example.org/harbour?id=7", "text": "See www.example.net/a_(b) too."},
        {"title": "Letters", "text": "Write to Ann.Doe@example.org, or read http://münchen.example/straße/."},
        {"title": "Maps", "url": "https://maps.example.org/#town", "text": "Not by https://ann@ftp.example.org/x."},
    ]
}


@dataclass(frozen=True)
class Draft:
    """An answer as a job's author declares it."""

    subject: str
    lines: list[str]


@pytest.mark.parametrize(
    "text",
    [
        "https://news.example.org/harbour?id=7",
        "HTTPS://NEWS.EXAMPLE.ORG:443/harbour?id=7",
        "http://news.example.org/harbour?id=7#",
        "https://maps.example.org/#town",
        "https://maps.example.org/",
        "[the harbour](https://news.example.org/harbour?id=7).",
        "<https://news.example.org/harbour?id=7>",
        "https://news.example.org/h%61rbour?id=7",
        "news.example.org/harbour?id=7",
        "https://example.net/a_(b)",
        "(see https://www.example.net/a_(b)), and so on",
        "https://xn--mnchen-3ya.example/stra%C3%9Fe",
        "mailto:ann.doe@example.org",
        "**ann.doe@EXAMPLE.ORG**",
        "ok &lt;https://news.example.org/harbour?id=7&gt;",
    ],
)
def test_a_link_of_the_material_passes_in_each_spelling(text: str) -> None:
    assert check_links(Draft("s", [text]), MATERIAL) == []


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.example/",
        "https://news.example.org@evil.example/harbour?id=7",
        "https://news.example.org:x@evil.example/",
        "https://news.example.org/harbour?id=8",
        "https://news.example.org/harbour",
        "https://news.example.org:8443/harbour?id=7",
        "https://news.example.org.evil.example/harbour?id=7",
        "https://nеws.example.org/harbour?id=7",
        "https:\\\\evil.example\\x",
        "https:/evil.example/x",
        "//evil.example/x",
        "www.evil.example",
        "evil.example/collect?q=1",
        "https://news.example.org/harbour?id=7#stolen%20words%20of%20the%20material%20in%20a%20fragment",
        "https://news.example.org/harbour?id=7#s3cret",
        "https://maps.example.org/#s3cret",
        "https://s3cret@news.example.org/harbour?id=7",
        "https://ann:s3cret@ftp.example.org/x",
        "http:evil.example/collect?q=1",
        "[x](\\\\evil.example\\collect)",
        "<a href=/\\evil.example/collect>",
        "[x](http:S3CRET~@evil.example/)",
        "[x](//S3CRET~@evil.example/)",
        "[x](/\\S3CRET~@evil.example/)",
        "[x](///evil.example/s3cret)",
        "[x](///evil.example/s3cret?u=https://maps.example.org/)",
        "[x](//8.8.8.8/s3cret)",
        "[x](\\\\8.8.8.8\\s3cret)",
        "[x](http:134744072/s3cret)",
        "[x](//0x8080808/s3cret)",
        "[x](//evil%2Eexample/s3cret)",
        "[x](https:[2606:4700::1111]/s3cret)",
        "[x](//evil.рф/s3cret)",
        f"http:{'s' * 70}@evil.example/x",
        "[x](http:a'S3CRET~@evil.example/)",
        "[x](//a|S3CRET~@evil.example/)",
        "[x](https:/a'S3CRET~@evil.example/)",
        "x'http:b@c/'http:a'S3CRET~@evil.example/",
        '[x](https://maps.example.org"S3CRET~@evil.example/)',
        "evil.example:8080/collect?q=1",
        "mallory@evil.example",
        "mailto:mallory@evil.example",
        "![x](https://news.example.org/harbour?id=7)",
        "![x][1]",
        '<img src="https://news.example.org/harbour?id=7">',
        "javascript:alert(1)",
        "[x]( JavaScript : alert(1))",
        "java\u200bscript:alert(1)",
        "javascript&#58;alert(1)",
        "data:text/html;base64,PHNjcmlwdD4=",
        "ｈｔｔｐｓ：／／evil.example/",
        "https://evil\u200b.example/",
    ],
)
def test_any_other_link_is_refused(text: str) -> None:
    assert check_links({"lines": [{"why": f"Read {text} now"}]}, MATERIAL) != []
    with pytest.raises(UnexpectedLinks, match="links that its material does not have") as error:
        refuse_links([text], MATERIAL)
    assert error.value.code == "links"
    assert isinstance(error.value, Invalid)


@pytest.mark.parametrize(
    "text",
    [
        "JavaScript: the good parts",
        "the data: 5 rows, 3 columns",
        "at 10:30 a.m./p.m., in the U.S./U.K.",
        "version 1.2/3.4 and/or e.g. this",
        "overnight.redact is a module",
        "100% sure! [sic] (really)",
        "a file: main.py",
        "C:\\Users\\ann",
        "https: it is safer than http:",
        "a \\\\ in TeX and a // in C",
        "// todo: it listens on http:8080, and https:443 (not http:)",
        "//todo, //div[@class='x'], and https:it's safer",
    ],
)
def test_prose_is_left_alone(text: str) -> None:
    assert check_links(text, {}) == []


def test_a_link_of_another_item_is_unexpected() -> None:
    assert check_links("https://a.example/", {"url": "https://b.example/"}) == ["https://a.example/"]


def test_a_long_list_of_links_is_told_in_a_few_words() -> None:
    with pytest.raises(UnexpectedLinks) as error:
        refuse_links([f"https://evil.example/{number:0500}" for number in range(1000)], {})
    assert len(str(error.value)) < 1000
    assert len(error.value.found) == 1000


@given(st.text(st.characters(exclude_characters="./\\:@!<&#", exclude_categories=["Cs", "Cc"])))
def test_a_text_without_links_is_never_refused(text: str) -> None:
    plain = "".join(each for each in text if each.isascii() or each.isalpha())
    assert check_links(plain, {}) == []


words = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)


@given(
    st.lists(words, min_size=1, max_size=3),
    st.lists(words | st.sampled_from(["é", "a b", "x_(y)"]), max_size=3),
    st.sampled_from(["{}", "[x]({})", "see {}.", "<{}>", "({})", "{}/", "{}#", "{}, and"]),
    st.booleans(),
)
def test_any_link_of_the_material_passes(hosts: list[str], path: list[str], context: str, upper: bool) -> None:
    host = ".".join([*hosts, "example"])
    url = f"https://{host}/" + "/".join(each.replace(" ", "%20") for each in path)
    shown = url.replace(host, host.upper()) if upper else url
    assert check_links(context.format(shown), {"url": url}) == []


@given(st.text(max_size=60), words)
def test_a_link_to_a_host_nobody_named_is_found_wherever_it_stands(around: str, host: str) -> None:
    before = re.sub(r"[^\s.,;]", "x", around)
    assert check_links(f"{before} https://{host}.evil.example/ {around}", {}) != []


@pytest.mark.parametrize("unit", ["http://", "![", "a@", "a.", "www.a", "//a.b", "http:a'", "//a'", "data:", "(", "]("])
def test_a_hostile_answer_is_checked_in_time(unit: str) -> None:
    assert isinstance(check_links(unit * (60_000 // len(unit)), {}), list)


def test_an_address_is_known_also_where_a_mail_address_follows_without_a_blank() -> None:
    material = '{"url":"https://a.example","to":"ann@b.example"}'
    assert check_links("https://a.example, ann@b.example", {"text": material}) == []
    assert check_links(material, {"text": material}) == []
