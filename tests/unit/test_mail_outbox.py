"""The outbox: a folder to which every message is delivered exactly once."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from overnight.errors import Permanent, Stop
from overnight.mail.form import build
from overnight.mail.message import Envelope, Heading, mailbox
from overnight.mail.outbox import Outbox, safe_name
from overnight.mail.templates import Rendered
from overnight.mail.transport import Letter

FOLDER = ("daily_email", "2026-11-22T07:00:00Z")


def letter(
    to: str = "jane@example.com", id_: str = "<abc@example.org>", name: str = "Jane", folder: tuple[str, str] = FOLDER
) -> Letter:
    reader = mailbox(to, name)
    envelope = Envelope(reader, id_, datetime(2026, 11, 22, 7, tzinfo=UTC))
    html = "<p>Hi</p>"
    data = build(Heading(mailbox("news@example.org")), envelope, Rendered("Hello <b>", "Hi\n", html))
    return Letter(id_, "news@example.org", to, data, folder, html)


async def intent() -> None:
    """Nothing to note."""


def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox", "outbox")


def files(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path / "outbox")) for path in (tmp_path / "outbox").rglob("*.*"))


def leftovers(tmp_path: Path) -> list[Path]:
    return list(tmp_path.rglob(".*.tmp"))


async def test_a_message_is_one_file_named_by_its_message_id(tmp_path: Path) -> None:
    box, mail = outbox(tmp_path), letter()
    assert not await box.delivered(mail)
    await box.send(mail, intent)
    assert await box.delivered(mail)
    assert files(tmp_path) == [
        "daily_email/2026-11-22T07-00-00Z/abc@example.org.eml",
        "daily_email/2026-11-22T07-00-00Z/abc@example.org.html",
    ]
    assert (tmp_path / "outbox" / files(tmp_path)[0]).read_bytes() == mail.data


async def test_the_intent_comes_before_the_file(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    async def note() -> None:
        seen.append(files(tmp_path))

    await outbox(tmp_path).send(letter(), note)
    assert seen == [[]]


async def test_twenty_at_once_make_one_file_and_leave_no_rest(tmp_path: Path) -> None:
    boxes = [outbox(tmp_path) for _ in range(20)]
    await asyncio.gather(*(box.send(letter(), intent) for box in boxes))
    assert len(files(tmp_path)) == 2
    assert not leftovers(tmp_path)


async def test_a_message_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    box = outbox(tmp_path)
    await box.send(letter(name="first"), intent)
    await box.send(letter(name="second"), intent)
    assert b"To: first" in (tmp_path / "outbox" / files(tmp_path)[0]).read_bytes()


async def test_an_address_in_dot_bounces_is_refused_before_any_intent(tmp_path: Path) -> None:
    box = outbox(tmp_path)
    box.folder.mkdir()
    (box.folder / ".bounces").write_text("gone@example.com\n\nJane@Example.com\n")
    asked: list[bool] = []

    async def note() -> None:
        asked.append(True)

    with pytest.raises(Permanent) as refused:
        await box.send(letter(), note)
    assert refused.value.code == "smtp_550"
    assert not asked


async def test_the_index_lists_what_is_there_and_escapes_it(tmp_path: Path) -> None:
    box = outbox(tmp_path)
    await box.send(letter(id_="<1@x>", name="<script>"), intent)
    await box.send(letter(id_="<2@x>", name="Zoë"), intent)
    await box.close()
    page = (box.folder / "daily_email" / "2026-11-22T07-00-00Z" / "index.html").read_text()
    assert "2 messages" in page
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "Hello &lt;b&gt;" in page
    assert "Zoë" in page
    assert 'href="1%40x.eml"' in page
    assert 'href="daily_email/2026-11-22T07-00-00Z/index.html"' in (box.folder / "index.html").read_text()


async def test_the_index_keeps_the_messages_of_earlier_runs(tmp_path: Path) -> None:
    for id_ in ("<1@x>", "<2@x>"):
        box = outbox(tmp_path)
        await box.send(letter(id_=id_), intent)
        await box.close()
    assert "2 messages" in (box.folder / "daily_email" / "2026-11-22T07-00-00Z" / "index.html").read_text()


async def test_an_index_that_cannot_be_written_is_told_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    box = outbox(tmp_path)
    await box.send(letter(), intent)
    (box.folder / "index.html" / "in the way").mkdir(parents=True)
    with capture_logs() as lines:
        await box.close()
    [line] = lines
    assert (line["log_level"], line["event"]) == ("warning", "the index of the outbox could not be written")
    assert f"correct the rights of {box.folder}" in line["remedy"]
    assert leftovers(tmp_path) == []


async def test_a_folder_that_cannot_be_written_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("a file is in the way")
    with pytest.raises(Stop, match="cannot"):
        await outbox(tmp_path).send(letter(), intent)


@pytest.mark.parametrize(
    "name", ["..", ".", "", "../../etc", "/etc/passwd", "a/b", "a\\b", ".hidden", "x" * 500, "ä\0"]
)
def test_any_name_becomes_one_plain_file_name(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert len(safe) <= 100
    assert not safe.startswith(".")
    assert not set(safe) & set("/\\\0")
