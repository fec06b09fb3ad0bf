"""Return paths: a bounce is mapped to its subscriber, and to nobody when it was not ours."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.mail.transport import Letter
from overnight.mail.verp import leaving_subject, leaving_subscriber, return_path, subscriber_of
from overnight.tokens import id_of, word_of

SECRET = b"a secret of the tests"
BOUNCES = "bounces@example.org"
ID = "s_abcdefghijklmnop"


def test_a_return_path_names_its_subscriber_in_any_case() -> None:
    path = return_path(SECRET, BOUNCES, ID)
    assert path.startswith(f"bounces+{ID}.")
    assert path == return_path(SECRET, BOUNCES, ID)
    for returned in (path, path.upper(), f"<{path}>"):
        assert subscriber_of(SECRET, BOUNCES, returned) == ID


@pytest.mark.parametrize(
    "forged",
    [
        "bounces@example.org",
        "bounces+@example.org",
        f"bounces+{ID}@example.org",
        f"bounces+{ID}.0123456789abcdef@example.org",
        return_path(b"another secret", BOUNCES, ID),
        return_path(SECRET, BOUNCES, ID).replace("example.org", "example.net"),
        return_path(SECRET, "b@example.org", ID),
        return_path(SECRET, BOUNCES, ID)[1:],
        return_path(SECRET, BOUNCES, ID).replace("s_a", "s_b"),
        return_path(SECRET, BOUNCES, ID).replace("@", "\u00e9@"),
        "",
        "@",
        "bounces+.@example.org",
        "bounces+x..0123456789abcdef@example.org",
        "bounces+x.1.0123456789abcdef@example.org",
        return_path(SECRET, BOUNCES, "User.42").replace("x.", ""),
    ],
)
def test_an_address_we_did_not_make_names_nobody(forged: str) -> None:
    assert subscriber_of(SECRET, BOUNCES, forged) is None


@pytest.mark.parametrize("id_", ["u1", "User.42", "a@b.org", "Jane", "\u00e9", "x.y", "a.b\r\nRCPT TO:<x@y>"])
def test_any_id_of_a_reader_comes_back_as_it_was(id_: str) -> None:
    path = return_path(SECRET, BOUNCES, id_)
    assert re.fullmatch(r"bounces\+[a-z0-9_.-]+@example\.org", path)
    assert ".." not in path
    for returned in (path, path.upper()):
        assert subscriber_of(SECRET, BOUNCES, returned) == id_
    subject = leaving_subject(SECRET, id_)
    for returned in (subject, f"RE: {subject.upper()}"):
        assert leaving_subscriber(SECRET, returned) == id_


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200))
def test_a_word_stands_for_one_id(id_: str) -> None:
    assert re.fullmatch(r"(x\.)?[a-z0-9_-]+", word_of(id_))
    assert id_of(word_of(id_)) == id_
    assert leaving_subscriber(SECRET, leaving_subject(SECRET, id_)) == id_


@pytest.mark.parametrize("id_", ["", "x" * 41, "A" * 30])
def test_an_id_that_fits_into_no_address_gets_the_plain_one(id_: str) -> None:
    assert return_path(SECRET, BOUNCES, id_) == BOUNCES


def test_a_long_mailbox_for_bounces_is_kept_within_the_limit_of_a_local_part() -> None:
    long = "b" * 40 + "@example.org"
    assert return_path(SECRET, long, ID) == long


def test_a_letter_says_for_the_notification_which_mail_and_whom_it_is_about() -> None:
    letter = Letter("<0123abcd@example.org>", BOUNCES, "a+b=c@example.org", b"", ("daily", "2026-11-22"))
    assert letter.envid == "0123abcd"
    assert letter.orcpt == "rfc822;a+2Bb+3Dc@example.org"


@pytest.mark.parametrize("how", ["{}", "Re: {}", "Fwd: RE: {} ", "=  {}\r\n"])
def test_who_leaves_by_mail_is_known_by_the_subject(how: str) -> None:
    subject = leaving_subject(SECRET, ID)
    assert leaving_subscriber(SECRET, how.format(subject)) == ID
    assert leaving_subscriber(SECRET, how.format(subject.upper())) == ID


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "unsubscribe",
        f"unsubscribe {ID}",
        leaving_subject(b"another secret", ID),
        leaving_subject(SECRET, ID).replace("s_a", "s_b"),
        leaving_subject(SECRET, ID)[:-1],
        "unsubscribe " + return_path(SECRET, BOUNCES, ID).partition("+")[2].partition("@")[0],
    ],
)
def test_a_subject_we_did_not_make_takes_nobody_out(subject: str) -> None:
    assert leaving_subscriber(SECRET, subject) is None
