"""The daily mail as other programs see it: a browser, a spam filter, and what is known of mail programs."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from overnight import project
from overnight.clock import SystemClock
from overnight.effects import Effects
from overnight.feeds import Feed, read
from overnight.ledger import Ledger
from overnight.mail import Mailer, MailSettings
from overnight.outcome import Scope
from overnight.subscribers import Subscriber
from tests.browser import CHROMIUM, Page, open_page
from tests.mailcheck import check

project.attach(Path(__file__).parents[2])

from jobs.daily_email import Edition, compose, plain_draft  # noqa: E402  a job of the project

PROJECT = Path(__file__).parents[2]
CANIEMAIL = PROJECT / "tests" / "caniemail"
SCOPE = Scope("daily_email", "2026-11-22", "s_1", "r_1")
ADA = Subscriber("s_abcdefghijklmnop", "ada@example.com", "Ada Brandt")
LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 2
# What no rule can be written for, and why the mail is right without it.
KNOWN = {
    "<style> element": "without it the mail is the light one, in its wide sizes",
    "@media": "the same",
    "<body> element": "it becomes a div; its background is on the table as well, and its margin is none",
    "display:none": "the intro is then also the first line, in small letters",
    "role attribute": "a screen reader then says that there is a table",
    "height property": "said of line-height, too: there is no height",
    "word-break": "only for a word longer than the line",
}
# Each text that is seen: its contrast with the nearest background (WCAG 2), and its size.
LOOK = """(() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = at => { for (; at; at = at.parentElement) { const c = channels(getComputedStyle(at).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), texts = [];
  while (walker.nextNode()) {
    const node = walker.currentNode, at = node.parentElement;
    if (!node.data.trim() || !at.getClientRects().length) continue;
    const style = getComputedStyle(at), a = light(channels(style.color)), b = light(ground(at));
    const range = document.createRange(); range.selectNodeContents(node);
    texts.push({text: node.data.trim().slice(0, 40), size: parseFloat(style.fontSize),
      contrast: (Math.max(a, b) + .05) / (Math.min(a, b) + .05), right: range.getBoundingClientRect().right});
  }
  return {texts, width: document.documentElement.scrollWidth};
})()"""


@pytest.fixture
def edition() -> Edition:
    """What the feeds of a new project give."""
    sources = [Feed(f"content/{name}.xml", topic) for name, topic in (("feed", "city"), ("science", "science"))]
    stories = asyncio.run(read(sources, root=PROJECT)).entries
    assert len(stories) > 5
    return compose(plain_draft(stories), stories, "model")


@pytest.fixture
def mailer(tmp_path: Path) -> Any:
    """The mailer of the project with an address that can be called, and an archive."""
    clock = SystemClock()
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db", clock=clock)
    chosen = MailSettings(
        "outbox:outbox", "The Site <news@example.org>", "unsubscribe@example.org", "https://news.example.org"
    )
    yield Mailer.open(
        chosen, root=PROJECT, secret=b"secret", effects=Effects(ledger, clock), ledger=ledger, clock=clock,
        zone=ZoneInfo("Europe/Paris"), keep=lambda _job, _slot, _page: "https://news.example.org/archive/1.html",
    )  # fmt: skip
    ledger.close()


def html_of(mailer: Mailer, edition: Edition, to: Subscriber = ADA) -> str:
    html = mailer.letter(SCOPE, to, "daily_email", {"edition": edition}, archive=True).html
    assert html is not None
    return html


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    async with open_page() as opened:
        yield opened


@pytest.mark.slow
async def test_every_text_is_seen_in_light_and_dark_and_nothing_is_wider_than_the_screen(
    mailer: Mailer, edition: Edition, page: Page
) -> None:
    hostile = replace(edition.stories[0], title=LONG, why=f"{LONG} " * 3, topic=LONG[:60], feed=LONG, url="")
    shown = replace(edition, source="fallback", subject=LONG[:150], stories=[hostile, *edition.stories])
    for some, to in ((edition, ADA), (shown, replace(ADA, name=LONG))):
        html = html_of(mailer, some, to)
        for width in (320, 375, 800):
            for dark in (False, True):
                await page.show(html, width, dark=dark)
                found = await page.computed(LOOK)
                assert found["width"] <= width
                assert len(found["texts"]) > 3 * len(some.stories)
                for text in found["texts"]:
                    assert text["contrast"] >= 4.5, (text, dark)
                    assert text["size"] >= 13, text
                    assert text["right"] <= width, (text, width)


@pytest.mark.slow
def test_what_mail_programs_do_not_know_is_known_to_us(mailer: Mailer, edition: Edition) -> None:
    node = shutil.which("node")
    if node is None or not (CANIEMAIL / "node_modules").is_dir():
        pytest.skip("caniemail is not installed: npm install --prefix tests/caniemail")
    html = html_of(mailer, replace(edition, source="fallback"))
    said = subprocess.run(
        [node, CANIEMAIL / "check.mjs"], input=html, capture_output=True, text=True, check=True
    ).stdout
    found = [json.loads(line) for line in said.splitlines()]
    assert found, "the dark mode alone is not known everywhere"
    errors = {issue["title"] for issue in found if issue["kind"] == "errors"}
    assert errors - KNOWN.keys() == set()
    assert KNOWN.keys() - errors == set(), "no longer true: take it out"


@pytest.mark.slow
def test_a_spam_filter_has_nothing_against_the_daily_mail(mailer: Mailer, edition: Edition) -> None:
    filter_ = shutil.which("spamassassin")
    if filter_ is None:
        pytest.skip("spamassassin is not installed")
    mail = mailer.letter(SCOPE, ADA, "daily_email", {"edition": edition}, archive=True).data
    check(mail)
    said = subprocess.run([filter_, "-L", "-t"], input=mail, capture_output=True, check=True).stdout.decode()
    score = next(line for line in said.splitlines() if line.startswith("X-Spam-Status:"))
    assert float(score.partition("score=")[2].split()[0]) <= 0.0, said
