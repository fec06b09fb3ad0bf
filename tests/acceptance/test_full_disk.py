"""A disk that is full, or fails: nothing is done that cannot be recorded, and nothing is missing or double later."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.acceptance.conftest import COMMAND, Project, RelayBooks, Said

pytestmark = pytest.mark.slow

PEOPLE = [f"reader{number:03}@example.org" for number in range(120)]
RUN = ("run", "daily_email", "--date", "2026-11-22", "--yes")


@pytest.fixture
def mailing(project: Project, smtp: RelayBooks) -> Project:
    """Everybody gets an edition that needs no model, through a relay that keeps its own books."""
    project.env |= {"MAIL_URL": smtp.url}
    project.schedule("smtp: { messages: 20/s }", "smtp: { messages: 1000/s }")
    project.edit(
        "jobs/daily_email.py",
        "    answer = await run.agent(",
        "    return compose(plain_draft(stories), stories, 'plain')\n    answer = await run.agent(",
    )
    project.subscribe(*PEOPLE)
    return project


@pytest.fixture
def small_disk(mailing: Project) -> Iterator[Path]:
    """`var` on a file system of 1 MB of its own."""
    var, aside = mailing.root / "var", mailing.root / "aside"
    var.rename(aside)
    var.mkdir()
    with mounted(var):
        shutil.copytree(aside, var, dirs_exist_ok=True)
        yield var


@contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """A file system of 1 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this root may not mount: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def limited(project: Project, blocks: int) -> Said:
    """The run with `ulimit -f`: no file of it can grow beyond so many KiB. Python ignores the signal."""
    command = f"ulimit -f {blocks}; exec {COMMAND} {' '.join(RUN)}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=project.root,
        env=project.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


def whole(project: Project) -> bool:
    with closing(sqlite3.connect(project.root / "var" / "overnight.db")) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


def everybody_got_one(project: Project, smtp: RelayBooks) -> None:
    """Run it again: whoever is not named as unknown has exactly one mail."""
    last = project.run(*RUN)
    assert last.code in (0, 3), last.text
    got = smtp.recipients()
    unknown = {who for who, item in project.states("daily_email").items() if item["state"] == "unknown"}
    assert len(unknown) <= 8, "no more than were under way"
    assert {who for who in PEOPLE if got[who] != 1} <= unknown
    assert max(got[who] for who in PEOPLE) == 1


def test_a_full_disk_stops_the_run_with_one_attempt_to_tell(
    mailing: Project, small_disk: Path, smtp: RelayBooks
) -> None:
    free = shutil.disk_usage(small_disk).free
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * max(0, free - 220_000))
    said = mailing.run(*RUN)
    assert said.code == 1, said.text
    assert "the disk is full" in said.err or "cannot be written" in said.err
    assert whole(mailing)
    told = [mail for mail in smtp.mails() if mail["X-Recipient"] == "ops@example.org"]
    assert len(told) == 1, "one attempt"
    assert smtp.count() - 1 < len(PEOPLE)
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    everybody_got_one(mailing, smtp)


def test_a_file_that_may_not_grow_stops_the_run_and_loses_nothing(mailing: Project, smtp: RelayBooks) -> None:
    size = (mailing.root / "var" / "overnight.db").stat().st_size // 1024
    said = limited(mailing, size + 60)
    assert said.code == 1, said.text
    assert "nothing is tried a second time" in said.err or "the disk is full" in said.err
    assert whole(mailing)
    assert smtp.count() < len(PEOPLE)
    everybody_got_one(mailing, smtp)


def test_an_error_of_fsync_ends_the_process_and_is_not_tried_again(mailing: Project, smtp: RelayBooks) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    trace = mailing.root / "trace"
    inject = "inject=fsync,fdatasync:error=EIO:when=5"  # counted by thread: of the one that commits
    ledger = ["-P", str(mailing.root / "var" / "overnight.db-wal"), "-P", str(mailing.root / "var" / "overnight.db")]
    watched = ["-e", "trace=fsync,fdatasync", "-e", inject, *ledger]
    command = [strace, "-f", "-y", "-o", str(trace), *watched, str(COMMAND), *RUN]
    done = subprocess.run(
        command, cwd=mailing.root, env=mailing.env, capture_output=True, text=True, check=False, timeout=120
    )
    if "ptrace" in done.stderr:
        pytest.skip(f"this machine allows no strace: {done.stderr.splitlines()[0]}")
    assert done.returncode == 1, done.stderr
    assert "nothing is tried a second time" in done.stderr
    calls = trace.read_text().splitlines()
    failed = next(n for n, line in enumerate(calls) if "EIO" in line)
    later = [line for line in calls[failed + 1 :] if "overnight.db" in line and "exited" not in line]
    assert later == []
    assert whole(mailing)
    everybody_got_one(mailing, smtp)


def test_a_log_that_cannot_grow_loses_lines_and_not_the_job(mailing: Project, smtp: RelayBooks) -> None:
    log = mailing.root / "var" / "log" / "overnight.jsonl"
    log.unlink(missing_ok=True)
    log.parent.mkdir(exist_ok=True)
    log.symlink_to("/dev/full")
    assert mailing.json(*RUN)["items"]["ok"] == len(PEOPLE)
    assert smtp.count() == len(PEOPLE)


def test_a_page_of_the_outbox_that_cannot_be_written_is_told_and_the_run_is_what_it_was(project: Project) -> None:
    project.subscribe(*PEOPLE[:3])
    (project.root / "var" / "outbox" / "index.html").mkdir(parents=True)
    said = project.json(*RUN)
    assert (said["status"], said["items"]["ok"], len(project.outbox("daily_email"))) == ("ok", 3, 3)
    assert "the index of the outbox could not be written" in {line["message"] for line in project.log()}


def test_reports_that_do_not_fit_wait_in_the_spool_and_are_never_half_a_file(mailing: Project) -> None:
    reports = mailing.root / "elsewhere"
    reports.mkdir()
    mailing.env["REPORTS_TO"] = str(reports)
    with mounted(reports):
        (reports / "filler").write_bytes(b"x" * shutil.disk_usage(reports).free)
        assert mailing.json(*RUN)["items"]["ok"] == len(PEOPLE)
        assert [path for path in reports.rglob("*") if path.is_file() and path.stat().st_size] == [reports / "filler"]
        (reports / "filler").unlink()
        mailing.run("tick")
        assert (reports / "latest" / "success_rate.csv").read_bytes().endswith(b"\n")
