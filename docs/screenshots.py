"""Render the mails of a demo into docs/images: light and dark, as on a phone and on a desk. Needs Chromium.

overnight demo && .venv/bin/python -m docs.screenshots overnight-demo
"""

import asyncio
import sys
from pathlib import Path

from tests.browser import open_page

IMAGES = Path(__file__).parent / "images"
HEIGHT = 1300  # pixels of the page that are shown


def mails(outbox: Path) -> dict[str, str]:
    """The HTML of one mail of each kind."""
    digests = [path.read_text() for path in sorted(outbox.glob("daily_email/*/*@*.html"))]
    metrics = next(outbox.glob("metrics_digest/*/*@*.html")).read_text()
    return {"daily_email": next(html for html in digests if "Ada Brandt" in html), "metrics_digest": metrics}


async def shoot(html: str, width: int, *, dark: bool) -> bytes:
    async with open_page() as page:
        await page.show(html, width, dark=dark)
        return await page.picture(HEIGHT)


if __name__ == "__main__":
    for name, html in mails(Path(sys.argv[1]) / "var" / "outbox").items():
        for width in (375, 800) if name == "daily_email" else (800,):
            for scheme in ("light", "dark"):
                picture = asyncio.run(shoot(html, width, dark=scheme == "dark"))
                (IMAGES / f"{name}-{width}-{scheme}.png").write_bytes(picture)
