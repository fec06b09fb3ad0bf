"""The mailing, tested with the bench: the real batch, retry and ledger; nothing is mailed, no model is asked."""

from jobs.daily_email import Draft, Line, daily_email
from overnight import Subscriber
from overnight.testing import Bench

ANN = Subscriber("s_ann", "ann@example.org", "Ann")
BOB = Subscriber("s_bob", "bob@example.org", "Bob")


def test_one_bounce_does_not_cancel_the_mailing(bench: Bench) -> None:
    """The others get their mail, with what the editor wrote once for all."""
    bench.feed("The mill is open again")
    bench.script.answers = [
        Draft("The mill and more", "One story today.", [Line("story-0", "It was closed for years.")])
    ]
    bench.bouncing = {BOB.email}
    batch = bench.batch(daily_email, ANN, BOB, params={"feeds": ["feed.xml"], "window": "3d"})
    assert batch.states == {"s_ann": "ok", "s_bob": "failed"}
    assert [(mail.to, mail.subject) for mail in bench.outbox] == [("ann@example.org", "The mill and more")]
