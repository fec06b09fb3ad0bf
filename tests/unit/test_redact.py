"""Redaction: what must vanish, what must survive."""

import html
import json
import uuid
from base64 import b64encode
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.redact import REDACTED, Redactor, is_sensitive

BODY = "Q7w9Zx2Lk4Vb8Nm3Rt6Yp1Hs5Jd0Fg7C"  # 32 characters nobody issued
KNOWN = 'p@ss/wörd "1"\n+%&'

SECRETS = [
    f"sk-ant-api03-{BODY}",
    f"sk-ant-oat01-{BODY}",
    f"sk-proj-{BODY}",
    f"sk-{BODY}",
    f"ghp_{BODY}",
    f"gho_{BODY}",
    f"github_pat_11{BODY}_{BODY}",
    f"glpat-{BODY[:20]}",
    "AKIAQ7W9ZX2LK4VB8NM3",
    "ASIAQ7W9ZX2LK4VB8NM3",
    f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{BODY}",
    f"xoxb-123456789012-{BODY}",
    f"xapp-1-{BODY}",
    f"AIza{BODY}abc",
    f"whsec_{BODY}",
    "sk_live_" + BODY,
    "rk_test_" + BODY,
    f"npm_{BODY}abcd",
    f"hf_{BODY}ab",
    f"SG.{BODY[:22]}.{BODY}",
]
SECRET_IN_CONTEXT = [
    ("Authorization: Bearer {}", BODY),
    ("authorization: Basic {}", b64encode(b"ann:hunter2hunter2").decode()),
    ("{{'Authorization': 'token {}'}}", BODY),
    ('{{"headers": {{"authorization": "Bearer {}"}}}}', BODY),
    ("curl -H 'Cookie: session={}; theme=dark'", BODY),
    ("Set-Cookie: sid={}; HttpOnly", BODY),
    ("sent with bearer {}", BODY),
    ("smtp://ann:{}@mail.example.org:587", "hunter2!x"),
    ("postgresql+psycopg://app:{}@db/overnight", "p%40ss:word"),
    ("redis://:{}@127.0.0.1:6379/0", "swordfish"),
    ("https://{}@github.com/acme/site.git", BODY),
    ("C: AUTH PLAIN {}", b64encode(b"\0ann\0hunter2").decode()),
    ("send: 'AUTH LOGIN {}'", b64encode(b"hunter2hunter2").decode()),
    ("GET https://b.s3.example.org/k?X-Amz-Date=20261122T000000Z&X-Amz-Signature={}&x=1", "9f" * 32),
    ("GET https://b.s3.example.org/k?AWSAccessKeyId=A&Signature={}", quote(b64encode(b"x" * 20))),
    ("https://example.org/login?access_token={}&next=/", BODY),
    ("password={}", "hunter2"),
    ("password: {}", "swordfish"),
    ("SMTP_PASSWORD='{}'", "correct horse battery"),
    ('{{"api_key": "{}"}}', "abcdefgh"),
    (r"body: {{\"client_secret\": \"{}\"}}", "abcdefgh"),
    ("aws_secret_access_key = {}", BODY + "/+abcdef"),
    ("token: {}", "a1b2c3d4"),
    ("Post to hooks.slack.com/services/{} failed", "T0001/B0002/" + BODY),
]
INNOCENT = [
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b by Ann",
    "123e4567-e89b-12d3-a456-426614174000",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "trace 4bf92f3577b34da6a3ce929d0e0e4736 span 00f067aa0ba902b7",
    "<20261122.070000.01ARZ3NDEKTSV4RRFFQ69G5FAV@news.example.org>",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "ann@example.org, bob+tag@example.org",
    "input_tokens=1200 output_tokens=88 max_tokens=1500",
    "task-usage-and-disk-usage-and-risk-assessments-over-the-years",
    "https://example.org/a/b?page=2&day=2026-11-22#top",
    "http://127.0.0.1:8650/runs?to=ann@example.org",
    "mailto:unsubscribe@example.org?subject=bye",
    "Unexpected token: '}' in line 3",
    "unexpected token: expected a comma",
    "a bearer certificates scheme needs basic authentication",
    "daily_email/2026-11-22/s_0042",
    "r_01K3ZJ5T8Q2W4E6R8T0Y2U4I6O",
    "set ANTHROPIC_API_KEY=${ANTHROPIC_API_KEY} in .env",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "the secret of good bread is time",
    "3 of 20 failed: 550 mailbox unavailable",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("context", ["{}", "found {} in the log", '{{"x": "{}"}}', "({}),", "x={};"])
def test_a_secret_of_a_known_format_vanishes(secret: str, context: str) -> None:
    text = Redactor().text(context.format(secret))
    assert REDACTED in text
    assert not _shares_a_run(secret, text)


@pytest.mark.parametrize(("context", "secret"), SECRET_IN_CONTEXT)
def test_a_secret_vanishes_where_its_context_names_it(context: str, secret: str) -> None:
    text = Redactor().text(context.format(secret))
    assert REDACTED in text
    assert secret[:12] not in text


@pytest.mark.parametrize("text", INNOCENT)
def test_identifiers_and_prose_survive(text: str) -> None:
    assert Redactor().text(text) == text
    assert Redactor().value({"x": [text]}) == {"x": [text]}


@pytest.mark.parametrize("newline", ["\n", "\\n"])
def test_a_private_key_vanishes_whole_even_when_its_end_was_cut_off(newline: str) -> None:
    key = newline.join(["-----BEGIN RSA PRIVATE KEY-----", BODY, BODY, "-----END RSA PRIVATE KEY-----"])
    assert Redactor().text(f"a {key} b") == f"a {REDACTED} b"
    assert Redactor().text(f"a {key[:60]}") == f"a {REDACTED}"


def test_the_rest_of_a_url_stays_readable() -> None:
    clean = Redactor().text("smtp://ann:hunter2@mail.example.org:587/?tls=yes failed")
    assert clean == f"smtp://ann:{REDACTED}@mail.example.org:587/?tls=yes failed"


@pytest.mark.parametrize(
    "form",
    [
        KNOWN,
        repr(KNOWN),
        json.dumps(KNOWN),
        json.dumps(KNOWN, ensure_ascii=False),
        quote(KNOWN, safe=""),
        quote_plus(KNOWN),
        b64encode(KNOWN.encode()).decode(),
        html.escape(KNOWN),
    ],
)
def test_a_known_value_vanishes_in_each_spelling(form: str) -> None:
    clean = Redactor([KNOWN]).text(f"sent {form}.")
    assert REDACTED in clean
    assert not _shares_a_run(form.strip("\"'"), clean, 8)


@given(st.binary(max_size=5), st.text("abcXYZ019-_!", min_size=8, max_size=40), st.binary(max_size=5))
def test_a_known_value_vanishes_from_the_middle_of_base64(before: bytes, secret: str, after: bytes) -> None:
    encoded = b64encode(before + secret.encode() + after).decode()
    assert REDACTED in Redactor([secret]).text(encoded)


@given(st.text(min_size=6, max_size=50).filter(lambda s: len(s.strip()) >= 6 and s.strip() not in REDACTED), st.text())
def test_no_known_value_is_left_anywhere(secret: str, around: str) -> None:
    clean = Redactor([secret]).text(f"{around}{secret}{around}")
    assert secret.strip() not in clean.replace(REDACTED, "\0")


def test_values_too_short_to_be_secrets_are_ignored() -> None:
    assert Redactor(["a", "", "the"]).text("the cat") == "the cat"


def test_a_secret_learnt_later_vanishes_too() -> None:
    redactor = Redactor()
    assert redactor.value({"made on first use": 1}) == {"made on first use": 1}
    redactor.learn("made on first use")
    assert redactor.value({"made on first use": "made on first use"}) == {REDACTED: REDACTED}


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "SMTP_PASSWORD",
        "passwd",
        "secret",
        "clientSecret",
        "token",
        "access_token",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "api_key",
        "apiKey",
        "x-api-key",
        "private_key",
        "aws_secret_access_key",
        "password_hash",
    ],
)
def test_a_value_under_a_telling_key_vanishes(key: str) -> None:
    assert is_sensitive(key)
    assert Redactor().value({"a": [{key: "x"}]}) == {"a": [{key: REDACTED}]}
    assert Redactor().value([(key, "x")]) == [(key, REDACTED)]


@pytest.mark.parametrize(
    "key",
    [
        "input_tokens",
        "output_tokens",
        "tokens",
        "max_tokens",
        "token_count",
        "task_id",
        "message_id",
        "run_id",
        "key",
        "author",
        "secretary",
        "secret_name",
        "cookie_consent",
        "cache_key",
        "password_changed",
        "token_type",
    ],
)
def test_counts_and_ids_are_no_secrets(key: str) -> None:
    assert not is_sensitive(key)
    event = {key: 12, "other": {key: "x"}}
    assert Redactor().value(event) is event


def test_an_absent_secret_stays_visibly_absent() -> None:
    assert Redactor().value({"token": None, "password": False}) == {"token": None, "password": False}


class Pair(NamedTuple):
    """A tuple with names."""

    left: str
    right: str


def test_the_structure_of_a_value_survives() -> None:
    secret = SECRETS[0]
    value: Any = {"a": [secret, 1, None, (2.5, secret)], secret: Pair("x", secret), "b": b"raw " + secret.encode()}
    assert Redactor().value(value) == {
        "a": [REDACTED, 1, None, (2.5, REDACTED)],
        REDACTED: Pair("x", REDACTED),
        "b": f"raw {REDACTED}",
    }


def test_a_structure_that_contains_itself_ends() -> None:
    loop: list[Any] = [SECRETS[0]]
    loop.append(loop)
    assert SECRETS[0] not in repr(Redactor().value(loop))


@given(st.text() | st.from_regex(r"[?&a-z_]*(token|key|://|auth )[=:@ ]{0,9}[\S ]*", fullmatch=True))
def test_redaction_is_idempotent(text: str) -> None:
    redactor = Redactor(["hunter22"])
    once = redactor.text(text)
    assert redactor.text(once) == once


@given(st.recursive(st.none() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)))
def test_any_structure_is_redacted_without_an_error(value: Any) -> None:
    Redactor(["hunter22"]).value(value)


@given(st.uuids() | st.builds(uuid.uuid4))
def test_a_uuid_is_never_mangled(identifier: uuid.UUID) -> None:
    assert Redactor().text(f"{identifier} {identifier.hex}") == f"{identifier} {identifier.hex}"


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "sk-",
        "eyJ",
        "eyJaaaaaaaa.",
        "://",
        "://a:",
        "?token=",
        "password",
        "password:",
        'token="\\',
        "auth plain ",
        "-----BEGIN PRIVATE KEY-----",
        "-----",
        "bearer ",
        "xox",
        "a_",
        "cookie: ",
        "x@",
        "�",
        "\\",
        "sg.",
        " ",
    ],
)
def test_a_hostile_megabyte_is_finished(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    for hostile in (text, "password " + text, text + "@token=x://"):
        assert isinstance(Redactor(["hunter22"]).text(hostile), str)


def _shares_a_run(secret: str, text: str, length: int = 12) -> bool:
    return any(secret[i : i + length] in text for i in range(len(secret) - length + 1))
