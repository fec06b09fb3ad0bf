"""Render the mails into docs/images: light and dark, as on a phone and on a desk. Needs Chromium.

overnight demo && .venv/bin/python -m docs.screenshots overnight-demo

The subscribers' digest is that of the demo, the operators' that of a new project with a made-up fortnight.
"""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.browser import open_page

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("overnight")
CUT = 1300  # pixels that are shown of the subscribers' digest; the operators' is shown whole


def daily_email(outbox: Path) -> str:
    """The HTML of the digest that one reader of the demo gets."""
    digests = [path.read_text() for path in sorted(outbox.glob("daily_email/*/*@*.html"))]
    return next(html for html in digests if "Ada Brandt" in html)


def metrics_digest() -> str:
    """The HTML of what operators get after a fortnight."""
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        subprocess.run([COMMAND, "-q", "init", site], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([sys.executable, HERE / "fortnight.py", site], check=True)
        subprocess.run([COMMAND, "-q", "--config", site, "run", "metrics_digest"], check=True)
        return next((site / "var" / "outbox").glob("metrics_digest/*/*@*.html")).read_text()


async def shoot(html: str, width: int, height: int | None, *, dark: bool) -> bytes:
    async with open_page() as page:
        await page.show(html, width, dark=dark)
        return await page.picture(height)


if __name__ == "__main__":
    mails = {"daily_email": daily_email(Path(sys.argv[1]) / "var" / "outbox"), "metrics_digest": metrics_digest()}
    for name, html in mails.items():
        height = CUT if name == "daily_email" else None
        for width in (375, 800):
            for scheme in ("light", "dark"):
                picture = asyncio.run(shoot(html, width, height, dark=scheme == "dark"))
                (HERE / "images" / f"{name}-{width}-{scheme}.png").write_bytes(picture)
