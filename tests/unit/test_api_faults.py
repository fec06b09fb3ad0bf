"""Every fault of the model's API, one line each, over the wire: what it is called, what it costs, how often it is sent.

What the numbers of requests and the bill say is the server's word, not ours.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from overnight.dependency import Dependencies
from overnight.errors import Deferred, Invalid, OvernightError, Permanent, Stop, TooLong, Transient
from overnight.model import SMALLEST_WINDOW, Model, ModelRequest
from tests.agents import HAIKU, PLAIN, opened, status
from tests.unit.test_model import MESSAGE, REQUEST, Answering, failing, replying, served

SOME_KEY = "sham-key"


def usage(**counts: Any) -> dict[str, Any]:
    return {**MESSAGE, "usage": {**MESSAGE["usage"], **counts}}


def text(*pieces: Any) -> dict[str, Any]:
    return {**MESSAGE, "content": [{"type": "text", "text": piece} for piece in pieces]}


def body(content: bytes, kind: str = "application/json", status: int = 200, **headers: str) -> Answering:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=content, content_type=kind, status=status, headers=headers)

    return answer


# What has status 200 and is no answer: paid, at its worst price, as nobody knows better.
GARBAGE: dict[str, Answering] = {
    "nothing": body(b""),
    "blanks": body(b"  \n"),
    "html": body(b"<h1>Sign in</h1>", "text/html"),
    "html that says it is json": body(b"<h1>Sign in</h1>"),
    "half a message": body(b'{"id": "msg_1", "content": ['),
    "no utf-8": body(b'{"id": "\xff\xfe"}'),
    "null": replying(None),
    "a text": replying("sorry"),
    "a list": replying([MESSAGE]),
    "a number": replying(7),
    "another object": replying({"hello": "world"}),
    "an error inside 200": replying({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}),
    "no content": replying({**MESSAGE, "content": None}),
    "content that is a text": replying({**MESSAGE, "content": "hello"}),
    "no stop reason": replying({**MESSAGE, "stop_reason": None}),
    "no usage": replying({**MESSAGE, "usage": None}),
    "usage without input": replying(usage(input_tokens=None)),
    "negative usage": replying(usage(output_tokens=-5)),
    "negative cached usage": replying(usage(cache_read_input_tokens=-1)),
    "usage in words": replying(usage(output_tokens="many")),
    "usage in fractions": replying(usage(output_tokens=1.5)),
    "usage that is true": replying(usage(input_tokens=True)),
    "cached usage that is true": replying(usage(cache_creation_input_tokens=True)),
    "more than the books can hold": replying(usage(input_tokens=10**19)),
    "more than any model takes": replying(usage(output_tokens=10**12)),
    "more cached than any model takes": replying(usage(cache_read_input_tokens=10_000_001)),
    "more searches than anybody makes": replying(usage(server_tool_use={"web_search_requests": 10**12})),
    "too deep": body(b'{"a":' * 100_000),
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE)
async def test_a_200_that_is_no_message_is_lost_and_charged_in_full(tmp_path: Path, answer: Answering) -> None:
    async with opened(tmp_path) as bench, served(answer) as (model, posts):
        with pytest.raises(Deferred) as caught:
            await bench.ask(bench.agent(model=model))
        assert (caught.value.code, len(posts)) == ("garbled", 3)
        assert [row["status"] for row in bench.rows()] == ["unknown"] * 3
        assert all(row["cost_nano"] > 0 for row in bench.rows())
        assert bench.costs() == {bench.day()[0]}


# What is a message, but not an answer: paid by its usage, then asked once more.
USELESS: dict[str, tuple[dict[str, Any], str, int]] = {
    "no text": (text(), "empty", 2),
    "an empty text": (text(""), "empty", 2),
    "a text that is null": (text(None), "empty", 2),
    "a block of nothing": ({**MESSAGE, "content": [None]}, "empty", 2),
    "no json": (text("Sure! Here is the news."), "schema", 2),
    "half the json": (text('{"subject": "Ra'), "schema", 2),
    "json of another shape": (text('{"subject": 3}'), "schema", 2),
    "json with nan": (text('{"subject": NaN, "intro": ""}'), "schema", 2),
    "a refusal": ({**MESSAGE, "stop_reason": "refusal", "content": []}, "refusal", 1),
    "cut off": ({**MESSAGE, "stop_reason": "max_tokens"}, "truncated", 2),
    "out of context": ({**MESSAGE, "stop_reason": "model_context_window_exceeded"}, "truncated", 2),
    "a turn that pauses": ({**text(""), "stop_reason": "pause_turn"}, "empty", 2),
    "a tool nobody offered": ({**MESSAGE, "content": [{"type": "tool_use", "id": "t"}]}, "empty", 2),
}


@pytest.mark.parametrize(("reply", "code", "asked"), USELESS.values(), ids=USELESS)
async def test_a_message_that_is_no_answer_is_paid_and_invalid(
    tmp_path: Path, reply: dict[str, Any], code: str, asked: int
) -> None:
    async with opened(tmp_path) as bench, served(replying(reply)) as (model, posts):
        with pytest.raises(Invalid) as caught:
            await bench.ask(bench.agent(model=model))
        assert (caught.value.code, len(posts)) == (code, asked)
        assert {(row["status"], row["error_code"], row["output_tokens"]) for row in bench.rows()} == {
            ("failed", code, 5)
        }
        assert bench.day()[0] == sum(row["cost_nano"] for row in bench.rows()) > 0


# status, error_code -> what it means for the item, how often it is sent
REFUSALS: list[tuple[int, str | None, type[OvernightError], int]] = [
    (400, None, Permanent, 1),
    (400, "request_body_timeout", Permanent, 1),
    (401, None, Stop, 1),
    (402, "linked_organization_spend_limit_reached", Stop, 1),
    (402, None, Stop, 1),
    (403, None, Stop, 1),
    (404, None, Stop, 1),
    (407, None, Stop, 1),
    (408, None, Deferred, 3),
    (409, None, Deferred, 3),
    (413, None, TooLong, 1),
    (413, "request_body_too_large_after_decoding", TooLong, 1),
    (422, None, Permanent, 1),
    (429, None, Deferred, 3),
    (429, "ramp_limit_exceeded", Deferred, 3),
    (429, "enforced_spend_limit_reached", Stop, 1),
    (500, None, Deferred, 3),
    (501, None, Deferred, 3),
    (502, None, Deferred, 3),
    (503, None, Deferred, 3),
    (503, "cmek_context_unavailable", Deferred, 3),
    (511, None, Deferred, 3),
    (529, None, Deferred, 3),
    (599, None, Deferred, 3),
]


@pytest.mark.parametrize(("code", "error_code", "kind", "sent"), REFUSALS)
async def test_a_refusal_costs_nothing_and_is_sent_as_often_as_it_may_help(
    tmp_path: Path, code: int, error_code: str | None, kind: type[OvernightError], sent: int
) -> None:
    async with opened(tmp_path, status(code, error_code=error_code)) as bench:
        with pytest.raises(OvernightError) as caught:
            await bench.ask()
        assert (type(caught.value), caught.value.code) == (kind, error_code or f"http_{code}")
        assert (bench.posts, bench.fake.bill(), bench.costs(), bench.day()) == (sent, [], {0}, (0, 0))
        assert (await bench.ask(fallback=PLAIN)).source == "fallback"


async def test_504_may_have_been_carried_out_and_is_charged(tmp_path: Path) -> None:
    async with opened(tmp_path, {**status(504), "times": 1}) as bench:
        answer = await bench.ask()
        assert [row["status"] for row in bench.rows()] == ["unknown", "ok"]
        assert bench.costs() == {answer.cost_nano}


# What the other side asks for -> seconds that are waited at least and at most; None: deferred instead
WAITS: dict[str, tuple[dict[str, Any], float, float | None]] = {
    "seconds": ({"retry_after": 20}, 20, 22),
    "a fraction": ({"retry_after": "2.5"}, 2.5, 2.75),
    "milliseconds": ({"retry_after_ms": 1500}, 1.5, 1.65),
    "milliseconds win": ({"retry_after_ms": 1500, "retry_after": 600}, 1.5, 1.65),
    "a date": ({"retry_after_date": 30}, 29, 33),
    "a past date": ({"retry_after_date": -50}, 0, 1),
    "zero": ({"retry_after": 0}, 0, 1),
    "negative": ({"retry_after": -1}, 0, 1),
    "NaN": ({"retry_after": "NaN"}, 0, 1),
    "infinite": ({"retry_after": "inf"}, 0, 1),
    "words": ({"retry_after": "soon"}, 0, 1),
    "digits of another script": ({"retry_after": "１２"}, 0, 1),
    "nothing": ({}, 0, 1),
    "minutes": ({"retry_after": 600}, 600, None),
    "33 years": ({"retry_after": "1e9"}, 900, None),
    "a far date": ({"retry_after_date": 10**8}, 900, None),
}


@pytest.mark.parametrize(("asked", "least", "most"), WAITS.values(), ids=WAITS)
async def test_what_the_api_asks_to_wait_is_never_undercut_and_never_over_a_quarter_of_an_hour(
    tmp_path: Path, asked: dict[str, Any], least: float, most: float | None
) -> None:
    async with opened(tmp_path, {**status(429, **asked), "times": 1}) as bench:
        if most is not None:
            assert (await bench.ask()).source == "model"
            assert least <= sum(bench.clock.slept) <= most
            return
        with pytest.raises(Deferred) as caught:
            await bench.ask()
        assert caught.value.after is not None
        assert least <= caught.value.after <= 990
        assert (bench.posts, bench.clock.slept) == (1, [])


async def test_half_an_hour_of_overload_defers_every_item_and_costs_a_handful_of_requests(tmp_path: Path) -> None:
    async with opened(tmp_path, status(529)) as bench:
        agent = bench.agent(api=Dependencies({}, bench.clock).of("anthropic"))
        for _ in range(60):
            with pytest.raises(Deferred):
                await bench.ask(agent)
            bench.clock.slept.append(30)
        assert bench.posts <= 5 + 6, "five failures open the breaker, then one probe each time it has waited"
        bench.fake.set_faults([])
        bench.clock.slept.append(700)
        assert (await bench.ask(agent)).source == "model"


# What happens to the connection -> the code, and whether the server had accepted and billed the request
LINES: dict[str, tuple[str, str, bool]] = {
    "no answer at all": ("hang", "timeout", True),
    "headers, then nothing": ("hang_body", "timeout", True),
    "a byte now and then": ("trickle", "timeout", True),
    "cut before it is accepted": ("drop_before_accept", "connection_lost", False),
    "cut after it is accepted": ("drop_after_accept", "connection_lost", True),
    "cut in the body": ("drop_body", "connection_lost", True),
    "an overload inside 200": ("sse_overload", "garbled", True),
}


@pytest.mark.parametrize(("kind", "code", "billed"), LINES.values(), ids=LINES)
async def test_a_request_whose_end_nobody_knows_is_charged_at_its_worst(
    tmp_path: Path, kind: str, code: str, billed: bool
) -> None:
    async with opened(tmp_path, {"fault": {"kind": kind, "seconds": 60}, "times": 1}) as bench:
        environ = {"ANTHROPIC_API_KEY": SOME_KEY, "ANTHROPIC_BASE_URL": bench.fake.url}
        hurried = Model.open(environ, clock=bench.clock, deadline=1)
        answer = await bench.ask(bench.agent(model=hurried))
        lost, kept = bench.rows()
        assert (lost["status"], lost["error_code"], kept["status"]) == ("unknown", code, "ok")
        assert len(bench.fake.bill()) == 1 + billed
        assert lost["cost_nano"] > kept["cost_nano"]
        assert bench.costs() == {answer.cost_nano} == {bench.day()[0]}


async def refused(url: str, deadline: float = 5) -> OvernightError:
    """The error of one request to `url`."""
    model = Model.open({"ANTHROPIC_API_KEY": SOME_KEY, "ANTHROPIC_BASE_URL": url}, deadline=deadline)
    try:
        with pytest.raises(OvernightError) as caught:
            await model.create(REQUEST)
    finally:
        await model.close()
    assert SOME_KEY not in str(caught.value)
    return caught.value


@contextmanager
def black_hole() -> Iterator[str]:
    """An address at which nobody ever takes a connection: its queue is full."""
    with socket.socket() as hole, socket.socket() as first, socket.socket() as second:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        for each in (first, second):
            each.setblocking(False)
            each.connect_ex(hole.getsockname())
        yield f"http://127.0.0.1:{hole.getsockname()[1]}"


async def test_an_address_that_swallows_connections_was_sent_nothing() -> None:
    with black_hole() as url:
        error = await refused(url, deadline=1)
    assert (type(error), error.code) == (Transient, "connection")


@pytest.mark.parametrize(
    ("url", "says"),
    [("http://nonesuch.invalid", "nonesuch.invalid: "), ("http://127.0.0.1:1", "Connect call failed")],
    ids=["no such name", "nobody listens"],
)
async def test_a_server_that_cannot_be_reached_was_sent_nothing_and_the_reason_is_said(url: str, says: str) -> None:
    error = await refused(url)
    assert (type(error), error.code) == (Transient, "connection")
    assert says in str(error)


def certificate(folder: Path, name: str, days: int) -> ssl.SSLContext:
    """A server's context with a certificate for `name` that ends `days` from now; `server.pem` is what to trust."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signed = (
        x509.CertificateBuilder(own, own, key.public_key(), 7, now - timedelta(days=30), now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.key").write_bytes(private)
    (folder / "server.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@asynccontextmanager
async def listening(talk: Talk, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that talks like this to everybody; gives its port."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await talk(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(once, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def saying(answer: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return talk


@pytest.mark.parametrize(
    ("name", "days", "trusted", "says"),
    [
        ("localhost", -1, True, "expired"),
        ("elsewhere.example", 9, True, "Hostname mismatch"),
        ("localhost", 9, False, "self-signed"),
    ],
    ids=["expired", "for another host", "of nobody known"],
)
async def test_a_certificate_that_is_not_valid_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, days: int, trusted: bool, says: str
) -> None:
    context = certificate(tmp_path, name, days)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    async with listening(saying(b""), context) as port:
        error = await refused(f"https://localhost:{port}")
    assert (type(error), error.code) == (Stop, "certificate")
    assert says in str(error)


async def test_a_valid_certificate_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = certificate(tmp_path, "localhost", 9)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    async with listening(saying(b"HTTP/1.1 418 teapot\r\ncontent-length: 0\r\n\r\n"), context) as port:
        assert (await refused(f"https://localhost:{port}")).code == "http_418"


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.transport.abort()


async def test_a_line_cut_in_the_handshake_was_sent_nothing() -> None:
    async with listening(hang_up) as port:
        error = await refused(f"https://localhost:{port}")
    assert (type(error), error.code) == (Transient, "connection")


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n", Stop, "http_407"),
        (b"HTTP/1.1 502 Bad gateway\r\ncontent-length: 0\r\n\r\n", Transient, "proxy"),
    ],
)
async def test_what_a_proxy_refuses_never_reached_the_model(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, kind: type[OvernightError], code: str
) -> None:
    async with listening(saying(answer)) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        error = await refused("https://model.example")
    assert (type(error), error.code) == (kind, code)


@pytest.mark.parametrize(
    ("status", "kind"), [(301, Stop), (302, Transient), (303, Transient), (307, Transient), (308, Stop)]
)
async def test_nobody_is_followed_elsewhere(status: int, kind: type[OvernightError]) -> None:
    """A login page is gone in the morning; a server that has moved is for the operator."""
    async with served(body(b"", status=status, location="/v1/messages")) as (model, posts):
        with pytest.raises(OvernightError, match=r"elsewhere|ANTHROPIC_BASE_URL") as caught:
            await model.create(REQUEST)
    assert (type(caught.value), len(posts)) == (kind, 1)


@pytest.mark.parametrize(
    ("size", "kind"), [(1_000, Permanent), (SMALLEST_WINDOW + 1, TooLong)], ids=["fits", "may be too long"]
)
async def test_a_bare_400_may_mean_too_long_only_for_what_could_be(size: int, kind: type[Permanent]) -> None:
    """The API has no code for a prompt that is too long, and its words are not asked."""
    long = ModelRequest(HAIKU, "", ({"role": "user", "content": "x" * size},), 50)
    async with served(failing(400)) as (model, _):
        with pytest.raises(Permanent) as caught:
            await model.create(long)
    assert type(caught.value) is kind


async def test_more_tokens_than_the_model_can_write_is_said_with_the_role_and_the_words_of_the_api(
    tmp_path: Path,
) -> None:
    told = "max_tokens: 9000 > 8192, which is the most this model can write"
    async with opened(tmp_path, status(400, message=told)) as bench:
        with pytest.raises(Permanent, match=r"the role 'editor', max_tokens 300: .*request req_") as caught:
            await bench.ask()
        assert told in str(caught.value)


async def test_no_length_of_answer_makes_the_sdk_raise_an_error_of_its_own() -> None:
    async with served(replying()) as (model, posts):
        await model.create(ModelRequest(HAIKU, "", REQUEST.messages, 128_000))
    assert posts[0]["max_tokens"] == 128_000


async def test_usage_of_a_model_without_a_price_is_charged_as_the_one_that_was_asked(tmp_path: Path) -> None:
    reply = {**text('{"subject": "s", "intro": "i"}'), "model": "claude-nonesuch-9"}
    async with opened(tmp_path) as bench, served(replying(reply)) as (model, _):
        answer = await bench.ask(bench.agent(model=model))
        assert answer.cost_nano > 0
        assert bench.costs() == {answer.cost_nano}


async def test_a_key_that_is_exchanged_in_the_night_is_told_once_and_the_next_run_has_the_new_one(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as bench:
        agent = bench.agent()
        assert (await bench.ask(agent)).source == "model"
        bench.fake.set_faults([status(401)])
        for number in range(5):
            with pytest.raises(Stop, match="ANTHROPIC_API_KEY"):
                await bench.ask(agent, data={"n": number})
        assert bench.fake.requests()["/v1/messages"] == {"200": 1, "401": 1}
        bench.fake.set_faults([])
        assert (await bench.ask(data={"n": 0})).source == "model"
