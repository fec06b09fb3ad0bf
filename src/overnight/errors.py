"""What can go wrong, as a tree; the class decides what the engine does.

    OvernightError
    ├── Transient       try again: 429, 5xx, a lost connection          -> retry with backoff
    │   └── Deferred    tried enough for now                            -> item becomes `retry(next_at)`
    ├── Permanent       will never work for this item: 550, 400, 404    -> item fails
    │   ├── Denied      a role may not do this                          -> the model is told, else item fails
    │   └── TooLong     more at once than the other side takes: 413     -> in parts with `split=`, else item fails
    ├── Invalid         an answer of the wrong shape                    -> stricter prompt, then fallback, then fails
    ├── Downstream      a later step refused: undo this item's effects  -> item fails
    ├── Unknown         nobody can tell whether it happened             -> item is `unknown`, settled by policy
    ├── Skip            nothing to do for this item                     -> item is `skipped(reason)`
    ├── Stop            the whole run cannot go on: 401, broken template-> in flight finishes, rest stays pending
    ├── Refused         the engine will not start this (exit 4)
    ├── ConfigError     a file of the operator is wrong (exit 2)
    └── Fenced          another process has taken over this slot        -> this one writes nothing more

Any other exception is a `bug`: the item fails and somebody is told.
This module imports nothing of ours.
"""

from typing import Literal

ErrorClass = Literal["transient", "permanent", "invalid", "downstream", "bug"]


class OvernightError(Exception):
    """The root of all errors the engine raises on purpose.

    `code` is a short stable word for reports (`smtp_550`, `http_404`, `timeout`); the message is for a person and
    says what to do.
    """

    error_class: ErrorClass = "permanent"

    def __init__(self, message: str = "", *, code: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").partition("\n")[0])
        self.code = code or type(self).__name__.lower()


class Transient(OvernightError):
    """It may work in a moment; `after` (seconds) is what the other side asked us to wait."""

    error_class = "transient"

    def __init__(self, message: str = "", *, code: str = "", after: float | None = None) -> None:
        super().__init__(message, code=code)
        self.after = after


class Deferred(Transient):
    """Retries are spent for now; the sweep takes the item up again after `after` seconds.

    `within` (seconds) is for how long that is worth doing; without it, until the job's next slot, a day at most.
    """

    def __init__(
        self, message: str = "", *, code: str = "", after: float | None = None, within: float | None = None
    ) -> None:
        super().__init__(message, code=code, after=after)
        self.within = within


class Permanent(OvernightError):
    """It will never work for this item."""


class Denied(Permanent):
    """It is outside of what a role may do; the model is told, and goes on."""


class TooLong(Permanent):
    """It is, or may be, more at once than the other side takes; less of it may work."""


class Invalid(OvernightError):
    """The answer does not have the shape that was asked for."""

    error_class = "invalid"


class Downstream(OvernightError):
    """A later system refused; the effects of this item are to be undone."""

    error_class = "downstream"


class Unknown(OvernightError):
    """The connection was lost after the request was accepted: it may have happened."""

    error_class = "transient"


class Skip(OvernightError):
    """There is nothing to do for this item; the message is the reason in the report."""


class Stop(OvernightError):
    """The whole run cannot go on: in-flight items finish, the rest stays pending, one alert is sent."""


class Refused(OvernightError):
    """The engine will not start this now (budget, overlap, pause, lock)."""


class Fenced(OvernightError):
    """Another process has taken over this slot; nothing more may be written here."""


class ConfigError(OvernightError):
    """A file of the operator is wrong; the message names file, line and column where there is one."""
