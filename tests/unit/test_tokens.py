"""Signed tokens: what another hand, purpose, time or length makes of them."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.clock import SystemClock
from overnight.tokens import CONFIRM_WITHIN, BadToken, ExpiredToken, Purpose, Tokens, reachable

PURPOSES: tuple[Purpose, ...] = ("unsubscribe", "confirm", "bounce")
ID = "s_ab12cd34ef56gh78"
BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class LateClock(SystemClock):
    """The real clock, put forward."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


@pytest.fixture
def clock() -> LateClock:
    return LateClock()


@pytest.fixture
def tokens(clock: LateClock) -> Tokens:
    return Tokens(b"the secret of this project", clock)


def test_a_token_is_read_as_the_value_it_was_made_of(tokens: Tokens) -> None:
    assert tokens.read("unsubscribe", tokens.make("unsubscribe", ID)) == ID
    assert tokens.make("unsubscribe", ID) == tokens.make("unsubscribe", ID), "two builds of a mail differ"


@given(st.data())
def test_no_other_character_anywhere_in_a_token_is_accepted(data: st.DataObject) -> None:
    tokens = Tokens(b"the secret of this project", SystemClock())
    purpose = data.draw(st.sampled_from(PURPOSES))
    token = tokens.make(purpose, ID)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(BASE64 + ".").filter(lambda character: character != token[place]))
    with pytest.raises(BadToken):
        tokens.read(purpose, token[:place] + other + token[place + 1 :])


def test_the_bits_to_spare_of_the_last_character_make_no_second_token(tokens: Tokens) -> None:
    token = tokens.make("unsubscribe", ID)
    for last in BASE64.replace(token[-1], ""):
        with pytest.raises(BadToken):
            tokens.read("unsubscribe", token[:-1] + last)


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", ID, f"{ID}.", "ü" * 60, "\0", "%00", f"{ID}.{'A' * 43}", "A" * 1_000_000, f"{ID}.x\n", "\ud800"],
    ids=lambda token: repr((token[:20], token[-1:], len(token))),
)
def test_what_is_no_token_is_refused(tokens: Tokens, token: str) -> None:
    for purpose in PURPOSES:
        with pytest.raises(BadToken):
            tokens.read(purpose, token)


def test_a_token_of_another_purpose_subscriber_or_project_is_refused(tokens: Tokens, clock: LateClock) -> None:
    token = tokens.make("unsubscribe", ID)
    value, _, signature = token.partition(".")
    for wrong in (tokens.make("bounce", ID), tokens.make("confirm", ID), f"s_other.{signature}", token[:-1], value):
        with pytest.raises(BadToken):
            tokens.read("unsubscribe", wrong)
    with pytest.raises(BadToken):
        Tokens(b"the secret of another project", clock).read("unsubscribe", token)


def test_a_confirmation_expires_by_our_clock_and_the_link_in_an_old_mail_does_not(
    tokens: Tokens, clock: LateClock
) -> None:
    confirm, unsubscribe = tokens.make("confirm", ID), tokens.make("unsubscribe", ID)
    clock.ahead = CONFIRM_WITHIN - timedelta(seconds=1)
    assert tokens.read("confirm", confirm) == ID
    clock.ahead = CONFIRM_WITHIN + timedelta(seconds=2)
    with pytest.raises(ExpiredToken):
        tokens.read("confirm", confirm)
    clock.ahead = timedelta(days=4000)
    assert tokens.read("unsubscribe", unsubscribe) == ID


def test_the_link_is_there_only_when_mailbox_providers_can_call_it(tokens: Tokens) -> None:
    url = tokens.unsubscribe_url("https://news.example.org/letters/", ID)
    assert url == f"https://news.example.org/letters/u/{tokens.make('unsubscribe', ID)}"
    assert tokens.unsubscribe_url("http://127.0.0.1:8650", ID) == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://news.example.org",  # RFC 8058 asks for https
        "http://127.0.0.1:8650",
        "https://127.0.0.1",
        "https://[::1]",
        "https://10.1.2.3",
        "https://169.254.169.254",
        "https://localhost:8650",
        "https://news.localhost",
        "https://news",
        "https://printer.local",
        "https://user:password@news.example.org",
        "https://[broken",
        "",
    ],
)
def test_no_one_can_reach(url: str) -> None:
    assert not reachable(url)


@pytest.mark.parametrize("url", ["https://news.example.org", "https://news.example.org:8443/x", "https://8.8.8.8"])
def test_anybody_can_reach(url: str) -> None:
    assert reachable(url)
