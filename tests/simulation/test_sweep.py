"""Whatever step of a run fails or kills it: run again, everybody has the mail, nobody twice, and the money is right.

In CI every seventh step, and all of them with OVERNIGHT_SWEEP=all.
"""

import os

import pytest

from tests.simulation.sweep import SUBSCRIBERS, Swept, Way, length, sweep

pytestmark = pytest.mark.slow

OUTBOX, RELAY = "outbox:var/outbox", "smtp://relay.test:25"
STRIDE = 1 if os.environ.get("OVERNIGHT_SWEEP") == "all" else 7


def swept(way: Way, mail: str) -> list[Swept]:
    """The results for every N, or every seventh."""
    steps = length(mail)
    assert steps > 100  # commits, fsyncs and links of twenty mails at least
    return [sweep(n, way, mail) for n in range(1, steps + 1, STRIDE)]


def wrong(found: Swept) -> list[str]:
    """What must hold after every fault."""
    return [
        *found.troubles,
        *(f"{id_} arrived {count} times" for id_, count in found.mails.items() if count > 1),
        *([] if found.billed <= found.booked else [f"{found.billed} billed, {found.booked} booked"]),
        *([] if found.reported else ["the report does not show it"]),
        *([] if found.requests <= 2 else [f"the model was asked {found.requests} times for one edition"]),
    ]


@pytest.mark.parametrize("way", ["fails", "dies"])
def test_with_an_outbox_everybody_gets_the_mail_exactly_once(way: Way) -> None:
    for found in swept(way, OUTBOX):
        assert (wrong(found), found.states, len(found.mails)) == ([], {"ok": SUBSCRIBERS}, SUBSCRIBERS), found.fault


@pytest.mark.parametrize("way", ["fails", "dies"])
def test_with_a_relay_everybody_gets_the_mail_once_or_is_named(way: Way) -> None:
    for found in swept(way, RELAY):
        named = found.states["unknown"]
        assert (wrong(found), found.states["ok"] + named) == ([], SUBSCRIBERS), found.fault
        assert named == len(found.unknown) <= 4, found.fault  # as many as there are connections
