"""A job with effects of its own: done once over kills and retries, undone when a later step refuses."""

from pathlib import Path

import pytest

from tests.acceptance.conftest import Project, wait_until

pytestmark = pytest.mark.slow

BOOKING = '''
"""Book a room and a car for each guest; the other side is a folder."""
import asyncio
from pathlib import Path

from overnight import Downstream, Run, job

DESK = Path("desk")


def open_(name: str):
    async def do() -> str:
        with (DESK / "asked").open("a") as file:
            file.write(f"open {name}\\n")
        (DESK / name).write_text("booked")
        while (DESK / "hang").exists():
            await asyncio.sleep(0.01)
        return name

    return do


async def close(name: str) -> None:
    with (DESK / "asked").open("a") as file:
        file.write(f"close {name}\\n")
    if (DESK / "closed").exists():
        raise ConnectionError("the desk is closed")
    (DESK / name).unlink()


@job(items=lambda run: ["ann", "bob"], key=str)
async def booking(guest: str, run: Run) -> None:
    await run.effect("room", open_(f"{guest}-room"), undo=close)
    await run.effect("car", open_(f"{guest}-car"), undo=close)
    if (DESK / "broke").exists():
        raise Downstream("the card was refused")
'''


@pytest.fixture
def desk(project: Project) -> Path:
    """The folder that the job books in."""
    (project.root / "jobs" / "booking.py").write_text(BOOKING, encoding="utf-8")
    with (project.root / "schedule.yaml").open("a", encoding="utf-8") as file:
        file.write('  booking: { at: "03:00", concurrency: 1 }\n')
    folder = project.root / "desk"
    folder.mkdir()
    return folder


def asked(desk: Path) -> list[str]:
    return (desk / "asked").read_text(encoding="utf-8").splitlines()


def test_a_later_refusal_undoes_what_stands_and_what_is_stuck_is_told_and_settled(project: Project, desk: Path) -> None:
    (desk / "broke").touch()
    project.json("run", "booking", code=1)
    assert asked(desk)[:4] == ["open ann-room", "open ann-car", "close ann-car", "close ann-room"]
    assert not list(desk.glob("*-*")), "nothing stands"

    (desk / "closed").touch()
    project.json("retry", "booking", code=1)
    shown = project.json("show", "booking")
    assert [(e["key"], e["name"], e["detail"]) for e in shown["stuck_effects"]] == [
        (guest, what, f'"{guest}-{what}"') for guest in ("ann", "bob") for what in ("room", "car")
    ]
    assert "room of booking/" in "".join(alert["message"] for alert in project.json("alerts"))
    assert {alert["rule"] for alert in project.json("alerts")} & {"stuck", "not_undone"} == {"not_undone"}
    said = project.run("show", "booking").out
    assert 'STUCK    ann  room "ann-room": could not be undone' in said
    run_id = shown["run"]["id"]
    project.json("settle", run_id, "ann", "unsent")
    assert {e["key"] for e in project.json("show", "booking")["stuck_effects"]} == {"bob"}

    (desk / "closed").unlink()
    (desk / "broke").unlink()
    (desk / "asked").unlink()
    project.json("retry", "booking")
    assert asked(desk) == [
        "open ann-room", "open ann-car", "close bob-room", "open bob-room", "close bob-car", "open bob-car",
    ]  # fmt: skip


def test_a_kill_in_the_middle_of_an_effect_leaves_one_unknown_that_is_named(project: Project, desk: Path) -> None:
    (desk / "hang").touch()
    process = project.start("run", "booking")
    wait_until((desk / "ann-room").exists, "the first effect")
    project.kill(process)
    (desk / "hang").unlink()

    project.json("run", "booking", code=3)
    assert asked(desk) == ["open ann-room", "open bob-room", "open bob-car"], "it is not done again unasked"
    [unknown] = project.json("show", "booking")["unknown_effects"]
    assert (unknown["key"], unknown["name"]) == ("ann", "room")
    project.json("settle", "booking", "ann", "unsent")
    project.json("run", "booking")
    assert asked(desk)[3:] == ["open ann-room", "open ann-car"]
