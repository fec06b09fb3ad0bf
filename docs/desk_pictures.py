"""Pictures of the operator's page into docs/images: light and dark, on a phone and on a desk. Needs Chromium.

.venv/bin/python -m docs.desk_pictures FOLDER        makes a project in FOLDER with a made-up fortnight, and serves it
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

from tests.browser import Page, open_page

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("overnight")
FAULTS = [{"match": {"contains": "unanswerable"}, "fault": {"kind": "refusal"}}]
PORT = 8655
DESK = f"http://127.0.0.1:{PORT}"


def command(folder: Path, env: Mapping[str, str], *words: str) -> str:
    """What the command prints; runs that end partial are meant to."""
    done = subprocess.run([COMMAND, *words], cwd=folder, env=dict(env), capture_output=True, text=True, check=False)
    return done.stdout


@contextmanager
def started(folder: Path, env: Mapping[str, str], *words: str) -> Iterator[str]:
    """A server for the block; gives the first line it prints."""
    process = subprocess.Popen([COMMAND, *words], cwd=folder, env=dict(env), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str) -> None:
    """Until a server of ours answers, half a minute at most."""
    for _ in range(300):
        with suppress(URLError):
            urlopen(url).close()  # noqa: S310  our own server
            return
        time.sleep(0.1)


def furnish(folder: Path, env: Mapping[str, str]) -> None:
    """A project with thirteen made-up nights and one that was run."""
    subprocess.run([COMMAND, "init", str(folder)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, HERE / "fortnight.py", str(folder)], check=True)
    outbox = folder / "var" / "outbox"
    outbox.mkdir(parents=True)
    (outbox / ".bounces").write_text("bounce@example.net\n", encoding="utf-8")
    command(folder, env, "subscribers", "import", "content/subscribers.csv")
    command(folder, env, "run", "nightly_agents")
    file = folder / "schedule.yaml"
    text = file.read_text(encoding="utf-8").replace("window: 3d", "window: 365d")  # the sample stories are of one day
    file.write_text(text.replace("per_day: $10", "per_day: $1"), encoding="utf-8")
    command(folder, env, "run", "daily_email")


def places(folder: Path, env: Mapping[str, str]) -> dict[str, str]:
    """The pages that are shown."""
    shown = json.loads(command(folder, env, "--json", "show", "daily_email"))
    run_id = shown["run"]["id"]
    sent = next(item["key"] for item in shown["items"] if item["state"] == "ok")
    item = f"/runs/{run_id}/item?key={quote(sent, safe='')}"
    return {"overview": "/", "job": "/jobs/nightly_agents", "run": f"/runs/{run_id}", "mail": item, "costs": "/costs"}


async def shoot(page: Page, path: str, width: int, *, dark: bool) -> bytes:
    """One page as one device shows it."""
    await page.device(width, dark=dark)
    await page.go(DESK + path)
    await page.until("[...document.querySelectorAll('iframe')].every(frame => frame.contentWindow)")
    if path.count("item"):
        await page.rest(1)  # a frame of another origin does not say when it is ready
    return await page.picture(1500)


async def shoot_all(pages: Mapping[str, str], images: Path) -> None:
    async with open_page() as page:
        for name, path in pages.items():
            for width in (375, 1280):
                for scheme in ("light", "dark"):
                    picture = await shoot(page, path, width, dark=scheme == "dark")
                    (images / f"desk-{name}-{width}-{scheme}.png").write_bytes(picture)
        assert not page.complaints, page.complaints


def main(folder: Path, images: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "LC_ALL": "C.UTF-8"}
    faults = folder.with_suffix(".faults.json")
    faults.write_text(json.dumps(FAULTS), encoding="utf-8")
    with started(folder.parent, env, "fake-model", "--port", "0", "--faults", str(faults)) as model:
        env |= {"ANTHROPIC_BASE_URL": model, "ANTHROPIC_API_KEY": "demo-key-of-no-worth"}
        if not folder.exists():
            furnish(folder, env)
        with started(folder, env, "serve", "--port", str(PORT)):
            wait_for(f"{DESK}/livez")
            asyncio.run(shoot_all(places(folder, env), images))


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "images")
