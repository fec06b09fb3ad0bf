"""What an operator reads after a reload."""

from overnight.schedule import loads
from overnight.schedule.diff import MOST, changes

BEFORE = """version: 1
budget: { per_day: $10 }
roles: { editor: { model: [m] } }
jobs:
  nightly: { cron: "30 2 * * *", params: { city: Paris } }
  gone: { at: "08:00" }
"""
AFTER = """version: 1
budget: { per_day: $20 }
roles: { editor: { model: [m, n] } }
jobs:
  nightly: { cron: "0 3 * * *", heartbeat: "https://ping.example.org/a-secret-uuid", params: { town: Lyon } }
  new: { at: "08:00" }
"""


def test_every_change_is_a_line_and_a_secret_address_is_not_shown() -> None:
    told = changes(loads(BEFORE, {}), loads(AFTER, {}))
    assert told == [
        "+ job new",
        "- job gone",
        '~ nightly.cron "30 2 * * *" -> "0 3 * * *"',
        "- nightly.params.city",
        '+ nightly.params.town "Lyon"',
        "~ nightly.heartbeat (not shown)",
        '~ budget.per_day "$10" -> "$20"',
        '~ roles.editor.model ["m"] -> ["m", "n"]',
    ]


def test_comments_and_order_are_no_change() -> None:
    assert changes(loads(BEFORE, {}), loads(BEFORE + "# a comment\n", {})) == []


def test_a_file_that_was_rewritten_is_not_told_word_by_word() -> None:
    many = "version: 1\njobs:\n" + "".join(f'  job{n}: {{ at: "08:00" }}\n' for n in range(50))
    told = changes(loads(BEFORE, {}), loads(many, {}))
    assert len(told) == MOST + 1
    assert told[-1].startswith("and ")
