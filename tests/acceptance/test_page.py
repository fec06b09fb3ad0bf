"""The operator's page of a real `serve`, driven by a real browser; what its policy blocks fails the test."""

import shutil
import time
from typing import Any

import pytest

from tests.acceptance.conftest import Project, wait_until
from tests.browser import CHROMIUM, Page, open_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

EVIL = "<img src=x onerror=document.title=1>"
JOB = f"""
import asyncio

from overnight import Permanent, Run, job


@job(items=lambda run: [f"k{{n:02}}" for n in range(40)])
async def slow(name: str, run: Run) -> str:
    await asyncio.sleep(0.25)
    if name == "k07" and not (run.root / "well").exists():
        raise Permanent("{EVIL}" + "x" * 300, code="no")
    return "{EVIL}"
"""
FITS = "document.documentElement.scrollWidth <= window.innerWidth"
NAMED = "one => one.labels?.length || one.ariaLabel || one.title || one.textContent.trim()"
USED = "button, select, a, input:not([type=hidden]), svg[role=img], iframe"
LABELLED = f"[...document.querySelectorAll('{USED}')].every({NAMED})"
BADGE = "document.querySelector('h1 .badge')?.textContent"
DONE = "Number(document.querySelector('.progress strong')?.textContent || 0)"


@pytest.fixture
def site(project: Project) -> Project:
    """A project with a slow job, and two subscribers of whom one bounces."""
    shutil.rmtree(project.root / "var", ignore_errors=True)
    (project.root / "jobs" / "slow.py").write_text(JOB)
    project.schedule("\n  hello: #", '\n  slow: { at: "03:00", concurrency: 2 }\n  hello: #')
    project.schedule("window: 3d", "window: 3650d")
    project.subscribe("ada@example.org", "bounce@example.org")
    (project.root / "var" / "outbox").mkdir(parents=True)
    (project.root / "var" / "outbox" / ".bounces").write_text("bounce@example.org\n")
    return project


def served(project: Project) -> str:
    project.start("serve", "--port", "0")
    wait_until(lambda: any(line["message"] == "serving" for line in project.log()), "serve to start")
    url: str = next(line["url"] for line in project.log() if line["message"] == "serving")
    return url


async def click(page: Page, label: str) -> None:
    """Press a button as a person would, by its name."""
    name = f"[...document.querySelectorAll('button')].find(b => (b.ariaLabel || b.textContent) === {label!r})"
    await page.until(f"!!{name}")
    await page.computed(f"{name}.click()")


async def watched(page: Page, until: str) -> list[int]:
    """The numbers of finished items that the page has shown until its status was this; it was never loaded anew."""
    await page.until(f"location.pathname.startsWith('/runs/r_') && {BADGE} !== undefined")
    await page.computed("window.same = true")
    seen: list[int] = []
    end = time.monotonic() + 60
    while (badge := await page.computed(BADGE)) != until:
        assert time.monotonic() < end, (badge, seen)
        seen.append(await page.computed(DONE))
        await page.rest(0.1)
    assert await page.computed("window.same === true")
    return sorted(set(seen))


async def test_run_now_watch_it_retry_what_failed_and_see_the_mail(site: Project) -> None:
    url = served(site)
    async with open_page() as page:
        await page.device(1280, dark=False)
        await page.go(f"{url}/")
        await click(page, "Run slow now")
        seen = await watched(page, "partial")
        assert len([n for n in seen if 0 < n < 40]) >= 2, seen
        failed = await page.computed("document.body.innerText")
        assert EVIL in failed
        first = await page.computed("location.pathname")
        (site.root / "well").touch()
        await click(page, "Retry failed")
        await page.until(f"location.pathname.startsWith('/runs/r_') && location.pathname !== {first!r}")
        await watched(page, "ok")
        assert [run["kind"] for run in site.json("runs", "--job", "slow")] == ["retry", "manual"]
        await page.go(f"{url}/")
        await click(page, "Run daily_email now")
        await watched(page, "partial")
        run_id = str(await page.computed("location.pathname")).rpartition("/")[2]
        sent = next(one["key"] for one in site.json("show", run_id)["items"] if one["state"] == "ok")
        await page.go(f"{url}/runs/{run_id}/item?key={sent}")
        await page.rest(1)
        targets: Any = (await page.call("Target.getTargets"))["targetInfos"]
        [frame] = [one for one in targets if one["type"] == "iframe"]  # of an origin of its own, hence a target
        assert frame["url"].startswith(f"{url}/runs/{run_id}/mail?key={sent}&ref=")
        await fits(page, url, [f"/runs/{run_id}", f"/runs/{run_id}/item?key={sent}", first, f"{first}?items=all"])
        assert page.complaints == []


async def fits(page: Page, url: str, more: list[str]) -> None:
    """No page is wider than a phone, and whatever can be used has a name."""
    await page.device(375, dark=True)
    for path in ("/", "/jobs/slow", "/runs", "/costs", "/schedule", "/alerts", *more):
        await page.go(f"{url}{path}")
        assert await page.computed(FITS), path
        assert await page.computed(LABELLED), path
