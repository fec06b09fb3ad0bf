"""What one log event costs: `redaction.py (ours|plain) (quiet|telling|mixed)`, in seconds per event.

`plain` is structlog's JSON renderer with the same level, time and context, and nothing that looks for secrets. An
event has 8 fields; `quiet` ones hold nothing that redaction looks at twice, `telling` ones quote an error that speaks
of keys, tokens and addresses; `mixed` is one telling event in ten, a night with many failures. Ids, durations and
errors change from event to event, as they do in a log; model, role and message stay.
"""

import io
import sys
import time
from collections.abc import Iterator
from typing import Any

import structlog
from figures import told

from overnight import logs
from overnight.redact import Redactor

EVENTS = 20_000
SECRETS = [f"a-known-secret-number-{number}-of-a-dozen" for number in range(12)]


class Nowhere(io.StringIO):
    """A stream that forgets: the disk is not what is measured."""

    def write(self, text: str) -> int:
        """Forget it."""
        return len(text)


def quiet(number: int) -> dict[str, Any]:
    return {
        "task_id": f"daily_email/2026-11-22/s_{number:06}",
        "run_id": "r_20261122070000abcdef01",
        "worker_id": f"w-{number % 50}",
        "role": "writer",
        "model": "claude-haiku-4-5",
        "status": "ok",
        "tokens": 900 + number % 500,
        "duration": number / 7,
    }


def telling(number: int) -> dict[str, Any]:
    rest = quiet(number)
    del rest["tokens"], rest["model"]
    error = f"401 at request req_{number:08}: the API key was refused, the token had expired at {number % 24:02}:00"
    return rest | {"status": "failed", "error": error, "url": f"https://api.example.com/v1/messages?page={number}"}


def events(kind: str) -> Iterator[dict[str, Any]]:
    for number in range(EVENTS):
        yield telling(number) if kind == "telling" or (kind == "mixed" and number % 10 == 0) else quiet(number)


def logger(kind: str) -> Any:
    if kind == "ours":
        logs.configure(level="info", stream=Nowhere(), redactor=Redactor(SECRETS), json=True)
        return logs.get()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.PrintLoggerFactory(Nowhere()),
        cache_logger_on_first_use=False,
    )
    return structlog.get_logger()


def main(who: str, kind: str) -> None:
    log, written = logger(who), list(events(kind))
    started = time.process_time()
    for event in written:
        log.info("task end", **event)
    told((time.process_time() - started) / EVENTS)


if __name__ == "__main__":
    main(*sys.argv[1:])
