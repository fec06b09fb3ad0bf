"""A fuse against mailing real people from a test: while it is out, no SMTP connection is opened."""

from collections.abc import Iterator
from contextlib import contextmanager

from overnight.errors import Stop

_forbidden: list[str] = []  # why, one entry per `forbid_real` in force; a list because they nest


@contextmanager
def forbid_real(why: str = "real mail is forbidden here") -> Iterator[None]:
    """Refuse every SMTP connection of this process until the block ends."""
    _forbidden.append(why)
    try:
        yield
    finally:
        _forbidden.pop()


@contextmanager
def allow_real() -> Iterator[None]:
    """Lift all prohibitions for the block: for tests that talk to a mail server of their own."""
    kept = _forbidden[:]
    _forbidden.clear()
    try:
        yield
    finally:
        _forbidden[:] = kept


def check() -> None:
    """Raise Stop while real mail is forbidden."""
    if _forbidden:
        raise Stop(f"{_forbidden[-1]}: no SMTP connection was opened; use an outbox: transport", code="mail_forbidden")
