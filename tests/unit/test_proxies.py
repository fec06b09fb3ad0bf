"""The way out through a proxy: pings, alerts and GitHub take it, whether it stands in the environment or in `.env`."""

import asyncio
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner

from overnight.alerts import Alarm, Alerter, Channel
from overnight.cli import cli
from overnight.dependency import Dependencies
from overnight.errors import Transient
from overnight.health.reach import model_of
from overnight.heartbeat import beating
from overnight.ledger.controls import notice
from overnight.proxies import NAMES, adopt, proxy_for
from overnight.redact import Redactor
from overnight.schedule import loads
from overnight.tools.github_api import GitHub
from tests.slots import ManualClock, open_ledger, rows


@pytest.fixture(autouse=True)
def _environment_as_before() -> Iterator[None]:
    with patch.dict(os.environ):
        yield


@dataclass
class Proxy:
    """Notes the first line and the header fields of what it is asked, and answers with `status`."""

    status: int = 200
    url: str = ""
    asked: list[tuple[str, list[str]]] = field(default_factory=list)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.asked.append((first.rpartition(" ")[0], fields))
        writer.write(f"HTTP/1.1 {self.status} As asked\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    @property
    def lines(self) -> list[str]:
        return [line for line, _ in self.asked]


@asynccontextmanager
async def proxy(status: int = 200) -> AsyncIterator[Proxy]:
    it = Proxy(status)
    server = await asyncio.start_server(it.take, "127.0.0.1", 0)
    it.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield it


@pytest.fixture(autouse=True)
def _without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        for each in (name, name.upper()):
            monkeypatch.setenv(each, "")  # so that it is put back
            monkeypatch.delenv(each)


async def _ping(scheme: str, _root: Path) -> None:
    async with beating(f"{scheme}://out.example/uuid", "greet", ManualClock(), Redactor()) as heart:
        heart.outcome = (True, "well")


class Nobody:
    """Is asked to send no mail."""

    async def send(self, *_: Any) -> str:
        raise AssertionError

    async def send_unnoted(self, *_: Any) -> str:
        raise AssertionError


async def _alert(scheme: str, root: Path) -> None:
    ledger = open_ledger(root, ManualClock())
    channels = (Channel("chat", "webhook", f"{scheme}://out.example/uuid"),)
    alerter = Alerter(ledger, ledger.clock, Nobody(), Redactor(), timedelta(days=1), channels)
    await alerter.raise_all([Alarm("bug", "greet", "a bug")])
    assert "uuid" not in str(rows(ledger, notice)), "the address is a secret"
    ledger.close()


async def _github(scheme: str, _root: Path) -> None:
    clock = ManualClock()
    settings = {"GITHUB_API_URL": f"{scheme}://out.example"}
    api = GitHub.open(settings, "the-token", Dependencies({}, clock), clock)
    try:
        await api.ask("POST", "/uuid", {})
    except Transient as error:  # and not Unknown: nothing has left this machine
        assert error.code == "connection"  # noqa: PT017  only with https


Out = Callable[[str, Path], Awaitable[None]]


@pytest.mark.parametrize("out", [_ping, _alert, _github])
@pytest.mark.parametrize(
    ("scheme", "asked"), [("http", "POST http://out.example/uuid"), ("https", "CONNECT out.example:443")]
)
async def test_what_goes_out_goes_through_the_proxy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, out: Out, scheme: str, asked: str
) -> None:
    async with proxy(200 if scheme == "http" else 502) as it:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", it.url.replace("//", "//me:secret@"))
        await out(scheme, tmp_path)
    assert set(it.lines) == {asked}
    basic = f"Proxy-Authorization: Basic {b64encode(b'me:secret').decode()}"
    assert all(basic in fields for _, fields in it.asked)


async def test_a_password_in_netrc_goes_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("default login me password of-another-site\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with proxy() as it:
        monkeypatch.setenv("HTTP_PROXY", it.url)
        for out in (_ping, _alert, _github):
            await out("http", tmp_path)
    told = [one for _, fields in it.asked for one in fields if one.startswith("Authorization")]
    assert told == ["Authorization: Bearer the-token"]


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_which_proxy_stands_before_an_address(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost,.internal.example")
    assert proxy_for("https://out.example/x") == "http://proxy.example:3128"
    assert proxy_for("https://me:secret@out.example:8443/x") == "http://proxy.example:3128"
    for near in ("https://127.0.0.1:8650/", "https://localhost/", "https://a.internal.example/x", "https:///x"):
        assert proxy_for(near) is None
    monkeypatch.setenv(name, "socks5://proxy.example")
    assert proxy_for("https://out.example/") is None, "that is none for HTTP"


def test_a_proxy_in_env_file_counts_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "schedule.yaml").write_text("version: 1\njobs: { greet: { every: 1d } }\n")
    (tmp_path / ".env").write_text("HTTPS_PROXY=http://in-the-file:1\nHTTP_PROXY=http://in-the-file:2\nOTHER=x\n")
    monkeypatch.setenv("HTTP_PROXY", "http://in-the-environment:2")
    said = CliRunner().invoke(cli, ["--config", str(tmp_path), "next"])
    assert said.exit_code == 0, said.output
    assert proxy_for("https://out.example/") == "http://in-the-file:1"
    assert proxy_for("http://out.example/") == "http://in-the-environment:2"
    assert "OTHER" not in os.environ
    schedule = loads("version: 1\nroles: { r: { model: [m] } }\njobs: { greet: { every: 1d } }\n", {})
    assert model_of(schedule) == "http://in-the-file:1", "health tries what is really asked"


def test_only_variables_about_proxies_are_adopted() -> None:
    adopt({"https_proxy": "http://p:1", "OVERNIGHT_SECRET_OF_A_TEST": "x"})
    assert os.environ["https_proxy"] == "http://p:1"
    assert "OVERNIGHT_SECRET_OF_A_TEST" not in os.environ
