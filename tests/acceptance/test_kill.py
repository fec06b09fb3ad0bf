"""A mailing is killed, again and again: by the books of relay and model nothing is lost and nothing doubled."""

from collections import Counter

import pytest

from tests.acceptance.conftest import ModelBooks, Project, RelayBooks, wait_until

pytestmark = pytest.mark.slow

PEOPLE = [f"reader{number:03}@example.org" for number in range(200)]
RUN = ("run", "daily_email", "--date", "2026-11-22", "--yes")
CONNECTIONS = 4  # of the relay's pool: as many messages can be under way at once


def test_a_mailing_killed_three_times_reaches_everybody_at_most_once(
    project: Project, smtp: RelayBooks, fake_model: ModelBooks
) -> None:
    project.env |= {"MAIL_URL": smtp.url} | fake_model.env
    project.schedule("smtp: { messages: 20/s }", "smtp: { messages: 1000/s }")
    project.subscribe(*PEOPLE)
    fake_model.faults({"fault": {"kind": "hang"}, "times": 1})
    smtp.rules(delay=0.03)

    def kill_when(count: int) -> None:
        """Start the run, and kill it once the relay has so many messages."""
        process = project.start(*RUN)
        wait_until(lambda: smtp.count() >= count or process.poll() is not None, f"{count} messages")
        project.kill(process)

    process = project.start(*RUN)
    wait_until(lambda: fake_model.bill() or process.poll() is not None, "the question to the editor")
    project.kill(process)
    assert smtp.count() == 0
    kill_when(20)
    kill_when(120)
    last = project.run("--json", *RUN)
    assert last.code in (0, 3), last.text

    shown = project.json("show", "daily_email", "--all")
    states = {who: item["state"] for who, item in project.states("daily_email").items()}
    assert set(states) == set(PEOPLE)
    assert set(states.values()) <= {"ok", "unknown"}
    unknown = {who for who, state in states.items() if state == "unknown"}
    assert len(unknown) <= 2 * CONNECTIONS
    assert len(shown["unknown_effects"]) == len(unknown), "each is named with its Message-ID"

    got = Counter({who: n for who, n in smtp.recipients().items() if who in PEOPLE})
    assert max(got.values()) == 1
    assert set(PEOPLE) - set(got) <= unknown, "who has nothing is named"
    ours = [mail for mail in smtp.mails() if mail["X-Recipient"] in PEOPLE]
    assert len({mail["Message-ID"] for mail in ours}) == len(ours)
    assert len({mail["Subject"] for mail in ours}) == 1, "all have read the same edition"

    bill = fake_model.bill()
    assert [entry["delivered"] for entry in bill] == [False, True], "one question was cut off, one was answered"
    calls = shown["shared_calls"]
    assert [(call["status"], call["request_id"]) for call in calls] == [
        ("unknown", None),
        ("ok", bill[1]["request_id"]),
    ]
    assert calls[1]["cost_nano"] == bill[1]["cost_nano"]
    assert calls[0]["cost_nano"] >= bill[0]["cost_nano"], "what may have been charged stays charged, at its worst"
    assert shown["slot"]["cost_nano"] == sum(call["cost_nano"] for call in calls)

    again = project.json(*RUN)
    assert again["items"]["total"] == 0
    assert sum(n for who, n in smtp.recipients().items() if who in PEOPLE) == sum(got.values())
