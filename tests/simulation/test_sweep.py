"""Whatever step of a run fails or kills it: run again, everybody has the mail, nobody twice, and the money is right.

Each day every seventh step, another one than the day before, so that within seven days each was: the steps of a
mail come in sixes. OVERNIGHT_SWEEP=3 is a certain day's, OVERNIGHT_SWEEP=all has all steps, in some minutes.
"""

import os
from datetime import UTC, datetime

import pytest

from tests.simulation.sweep import SUBSCRIBERS, Swept, Way, steps_of, sweep

pytestmark = pytest.mark.slow

OUTBOX, RELAY = "outbox:var/outbox", "smtp://relay.test:25"
STRIDE = 7
CHOSEN = os.environ.get("OVERNIGHT_SWEEP") or str(datetime.now(UTC).toordinal() % STRIDE)
ON_DISK = {"commit", "write", "fsync", "link", "rename"}
STOPPED, KILLED = 1, -9


def swept(way: Way, mail: str) -> list[Swept]:
    """The results of the chosen steps."""
    steps = steps_of(mail).total()
    assert steps > 150  # those of twenty mails at least
    every = range(1, steps + 1)
    return [sweep(n, way, mail) for n in (every if CHOSEN == "all" else every[int(CHOSEN) :: STRIDE])]


def wrong(found: Swept) -> list[str]:
    """What must hold after every fault."""
    return [
        *found.troubles,
        *exits(found),
        *(f"{id_} arrived {count} times" for id_, count in found.mails.items() if count > 1),
        *([] if found.billed <= found.booked else [f"{found.billed} billed, {found.booked} booked"]),
        *([] if found.reported else ["the report does not show it"]),
        *([] if found.requests <= 2 else [f"the model was asked {found.requests} times for one edition"]),
    ]


def exits(found: Swept) -> list[str]:
    """What is wrong about the exit codes: a run that says it is well has left nothing but what waits for a person."""
    codes = [code for code, _ in found.ends]
    dead, stopped = codes.count(KILLED), codes.count(STOPPED)
    may_stop = found.fault.way == "fails" and found.fault.step in ON_DISK
    return [
        *(f"exit code {code}" for code in codes if code not in (0, 3, STOPPED, KILLED)),
        *([] if dead == (found.fault.way == "dies") else [f"{dead} runs were killed"]),
        *([] if stopped <= may_stop else [f"{stopped} runs were stopped by {found.fault.step}"]),
        *("0, with open items" for code, left in found.ends if code == 0 and left != found.states["unknown"]),
        *("3, and nothing was open" for code, left in found.ends if code == 3 and not left),
    ]


@pytest.mark.parametrize("way", ["fails", "dies"])
def test_with_an_outbox_everybody_gets_the_mail_exactly_once(way: Way) -> None:
    for found in swept(way, OUTBOX):
        assert (wrong(found), found.states, len(found.mails)) == ([], {"ok": SUBSCRIBERS}, SUBSCRIBERS), found


@pytest.mark.parametrize("way", ["fails", "dies"])
def test_with_a_relay_everybody_gets_the_mail_once_or_is_named(way: Way) -> None:
    for found in swept(way, RELAY):
        named = found.states["unknown"]
        assert (wrong(found), found.states["ok"] + named) == ([], SUBSCRIBERS), found
        assert named == len(found.unknown) <= 4, found  # as many as there are connections


def test_each_kind_of_step_is_among_them() -> None:
    both = {"commit", "write", "fsync", "rename", "model", "put"}
    assert set(steps_of(OUTBOX)) == both | {"link"}
    assert set(steps_of(RELAY)) == both | {"connect", "mail", "rcpt", "data"}
