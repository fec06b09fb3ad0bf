"""A headless Chromium, driven over its debugging port: pictures of a page, and what it computes of it."""

import asyncio
import base64
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
)  # fmt: skip
PATIENCE = 60  # seconds for a busy machine


@dataclass
class Page:
    """One tab."""

    socket: aiohttp.ClientWebSocketResponse
    complaints: list[str] = field(default_factory=list)  # of the console: what a policy has blocked, what has failed
    _numbers: Any = field(default_factory=lambda: count(1))

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the tab."""
        number = next(self._numbers)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self.socket.receive_json(timeout=PATIENCE)
            self._listen(message)
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                result: dict[str, Any] = message["result"]
                return result

    def _listen(self, message: dict[str, Any]) -> None:
        told = message.get("params", {})
        if message.get("method") == "Log.entryAdded" and told["entry"]["level"] in ("warning", "error"):
            self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"]))

    async def device(self, width: int, *, dark: bool) -> None:
        """Look like a device of this width in this colour scheme."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def go(self, url: str) -> None:
        """Load a page, and listen from then on to what the console says of it."""
        for domain in ("Log", "Runtime", "Page"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)
        await self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    async def until(self, script: str) -> None:
        """Wait until an expression in the page is true; also over a navigation."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(AssertionError):  # the page is just going away
                    if await self.computed(script):
                        return
                await asyncio.sleep(0.05)

    async def rest(self, seconds: float) -> None:
        """Give the page a moment, and hear what the console says."""
        await asyncio.sleep(seconds)
        await self.computed("1")

    async def show(self, html: str, width: int, *, dark: bool) -> None:
        """Lay out a mail as a device of this width would; an unbroken page, as high as it needs."""
        await self.device(width, dark=dark)
        frame = (await self.call("Page.getFrameTree"))["frameTree"]["frame"]["id"]
        await self.call("Page.setDocumentContent", frameId=frame, html=html)

    async def computed(self, script: str) -> Any:
        """The value of an expression in the page."""
        got = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in got, got
        return got["result"].get("value")

    async def picture(self, height: int | None = None) -> bytes:
        """A PNG of the page, whole or cut."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], height or 10_000), "scale": 1}
        got = await self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(got["data"])


@asynccontextmanager
async def open_page() -> AsyncIterator[Page]:
    """Start Chromium for the block."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            port = await asyncio.wait_for(_port(Path(profile) / "DevToolsActivePort"), PATIENCE)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    tabs = json.loads(await answer.text())
                address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    yield Page(socket)
        finally:
            process.kill()
            await process.wait()


async def _port(file: Path) -> int:
    while True:
        with suppress(FileNotFoundError, IndexError):
            return int(file.read_text().split()[0])  # noqa: ASYNC240  a line
        await asyncio.sleep(0.05)
