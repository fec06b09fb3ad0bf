"""The jobs of this project, tested with the bench: real batch, retry and ledger; no mail, no model, no waiting."""

from jobs.daily_email import Draft, Line, daily_email
from jobs.hello import Person, hello
from overnight import Subscriber
from overnight.testing import Bench

ANN = Subscriber("s_ann", "ann@example.org", "Ann")
BOB = Subscriber("s_bob", "bob@example.org", "Bob")


def test_everybody_is_greeted(bench: Bench) -> None:
    """Each item has its outcome."""
    assert bench.batch(hello, Person("Ada")).results == {"Ada": f"Good morning Ada, today is {bench.slot}."}


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
