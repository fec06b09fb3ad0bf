"""`heartbeat:` of a job: the address of a service that misses pings, in the form the service wants."""

import re
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

_CHOICE = re.compile(r"\{([^{}|]*)\|([^{}|]*)\|([^{}|]*)\}")
_FORMS = "write https://host/path, or with three words for start, success and failure: ?state={run|complete|fail}"


class Addresses(NamedTuple):
    """What is called when a run starts, has succeeded and has failed; an empty one is not called."""

    start: str
    success: str
    failure: str


def addresses(template: str) -> Addresses:
    """The three addresses of a template: `{start|success|failure}` words in it, or `/start` and `/fail` added.

    An empty word leaves its call out. Raises ValueError for what is no template; its text is not shown, for it is
    a secret of its service.
    """
    if not template:
        return Addresses("", "", "")
    plain = _CHOICE.sub("", template, count=1)
    if not _is_web(plain) or "{" in plain or "}" in plain:
        raise ValueError(f"is no address to ping; {_FORMS}")
    choice = _CHOICE.search(template)
    if choice is None:
        return Addresses(_below(template, "/start"), template, _below(template, "/fail"))
    before, after = template[: choice.start()], template[choice.end() :]
    return Addresses(*(f"{before}{word}{after}" if word else "" for word in choice.groups()))


def checked(template: str) -> str:
    """Return the template itself. Raises ValueError."""
    addresses(template)
    return template


def _is_web(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", text)


def _below(url: str, name: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + name))
