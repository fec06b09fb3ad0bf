"""The archive: a page is kept once, before anybody is told its address."""

from pathlib import Path

from overnight.archive import Archive
from overnight.storage import Folder, Spool

PAGE = b"<html>news</html>"
NAME = "daily_email/2026-11-22.2/"


async def test_a_page_goes_through_the_spool_into_the_store_once(tmp_path: Path) -> None:
    archive = Archive.spooled(tmp_path / "spool", "https://news.example.org/archive/")
    url = archive.keep("daily_email", "2026-11-22.2", PAGE)
    assert archive.keep("daily_email", "2026-11-22.2", PAGE) == url
    spool = Spool(tmp_path / "spool", Folder(tmp_path / "reports"))
    assert len(spool.waiting()) == 1
    assert (await spool.drain()).left == 0
    path = url.removeprefix("https://news.example.org/")
    assert path.startswith(f"archive/{NAME}")
    assert (tmp_path / "reports" / path).read_bytes() == PAGE
    assert archive.keep("daily_email", "2026-11-22.2", b"other") != url


def test_without_an_address_the_page_is_kept_and_no_mail_links_to_it(tmp_path: Path) -> None:
    assert Archive.spooled(tmp_path / "spool", "").keep("daily_email", "2026-11-22", PAGE) == ""
    assert list((tmp_path / "spool").rglob("*.html"))


def test_a_disk_without_room_costs_the_page_and_not_the_mail(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    assert Archive.spooled(tmp_path / "spool", "https://x.example.org").keep("daily_email", "2026-11-22", PAGE) == ""


def test_a_rehearsal_shows_the_link_and_keeps_nothing(tmp_path: Path) -> None:
    archive = Archive.shown("https://news.example.org/archive")
    assert archive.keep("../daily", "a/b", PAGE).startswith("https://news.example.org/archive/-daily/a-b/")
    assert list(tmp_path.iterdir()) == []
