"""The documentation builds without a warning, and every link leads somewhere: in the site as in the files."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


class Links(HTMLParser):
    """Where the elements of a page lead, and which places it has."""

    def __init__(self) -> None:
        super().__init__()
        self.leads: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.leads += [value for name in ("href", "src") if (value := given.get(name))]
        self.places |= {value for name in ("id", "name") if (value := given.get(name))}

    @classmethod
    def of(cls, path: Path) -> "Links":
        found = cls()
        found.feed(path.read_text(encoding="utf-8"))
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. A warning is a failure."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "zensical.toml", folder)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, "No issues found" in done.stdout + done.stderr) == (0, True), done.stdout + done.stderr
    return folder / "site"


@pytest.mark.slow
def test_the_site_has_every_page_and_no_link_of_it_leads_nowhere(site: Path) -> None:
    pages = {path: Links.of(path) for path in site.rglob("*.html")}
    of_docs = {
        path.relative_to(ROOT / "docs").with_suffix(".html") for path in PAGES if path.is_relative_to(ROOT / "docs")
    }
    assert {path.relative_to(site) for path in pages} == of_docs | {Path("404.html")}
    wrong = []
    for path, links in pages.items():
        for lead in links.leads if path.name != "404.html" else ():
            parts = urlsplit(lead)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = parts.scheme or (
                target.is_file() and (not parts.fragment or parts.fragment in pages[target].places)
            )
            wrong += [] if there or lead == "#" or parts.fragment.startswith("__") else [(path.name, lead)]
    assert wrong == []


def test_the_menu_has_every_page_once() -> None:
    named = re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text(encoding="utf-8"))
    assert sorted(named) == sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md"))


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = r'<(?:script|img|iframe)[^>]+src="?(https?:[^" >]+)|<link[^>]+href="?(https?:[^" >]+)'
    assert [found for path in site.rglob("*.html") for found in re.findall(loaded, path.read_text("utf-8"))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    leads = re.findall(r'\]\(([^)\s]+)\)|src="([^"]+)"', text)
    wrong = []
    for lead in ("".join(groups) for groups in leads):
        parts = urlsplit(lead)
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not parts.scheme and not (target.exists() and (not parts.fragment or parts.fragment in headings(target))):
            wrong.append(lead)
    assert wrong == []


def headings(page: Path) -> set[str]:
    """The names of its headings, as GitHub and Zensical make them."""
    found = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", one.lower())) for one in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_list_or_table_stands_apart_from_the_text_before_it(page: Path) -> None:
    """GitHub would show it all the same; the site would run it into the paragraph."""
    text = re.sub(r"```.*?```", "an example", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.findall(r"(?m)^(?![-|#*] ?|\s|\d+\. |<).+\n(?:- |\d+\. |\| ).*", text) == []
