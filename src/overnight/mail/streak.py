"""Equal refusals in a row are about us, not about ten readers: the mailing stops, and none of them is suppressed."""

import re
from dataclasses import dataclass, field

from overnight.errors import Permanent, Stop

EQUAL = 10  # refusals; a list with so many dead mailboxes in a row is worth a look, too
_STATUS = re.compile(r"\b[45]\.\d{1,3}\.\d{1,3}\b")


@dataclass(slots=True)
class Streak:
    """The latest refusals with one code; `refs` are the mails that were refused. A success ends it."""

    code: str = ""
    refs: dict[str, str] = field(default_factory=dict)
    _stop: Stop | None = None

    def check(self) -> None:
        """Raise the Stop that was decided on."""
        if self._stop is not None:
            raise Stop(str(self._stop), code=self._stop.code)

    def succeeded(self) -> None:
        """A mail was taken."""
        self.code = ""
        self.refs.clear()

    def refused(self, error: Permanent, ref: str, subscriber_id: str) -> None:
        """A mail was refused. Raises Stop for the tenth in a row that was so with the same code."""
        status = _STATUS.search(str(error))
        code = f"{error.code} {status[0] if status else ''}".strip()
        if code != self.code:
            self.succeeded()
            self.code = code
        self.refs[ref] = subscriber_id
        if len(self.refs) >= EQUAL:
            self._stop = Stop(
                f"{EQUAL} mails in a row were refused alike, the last: {error}; look at what is common to them, nobody "
                "was suppressed for it; then `overnight retry`",
                code=error.code,
            )
            raise self._stop
