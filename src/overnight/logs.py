"""Logs: one line per event, in one order of keys, with redaction as the last step before the renderer.

Ours and the standard library's records (apscheduler, aiosmtplib, botocore, asyncio, warnings) take the same way:
context -> level -> timestamp -> exception -> plain values -> redaction -> one line per sink.
Logging never breaks a job: what cannot be printed is described, a closed pipe is dropped.
"""

import json as jsonlib
import logging
import math
import os
import re
import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TextIO

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.typing import EventDict, Processor

from overnight.clock import SystemClock, iso
from overnight.errors import ConfigError
from overnight.redact import Redactor

LEVELS = ("debug", "info", "warning", "error", "critical")
FIRST = ("task_id", "run_id", "worker_id", "role", "model", "status", "tokens", "cost", "duration")
LONGEST = 8_000  # characters of one value; ten megabytes of HTML in a log help nobody
SPARE = 4_096  # looked at beyond the cut, so that a secret lying across it is still recognised
WIDEST = 100  # entries of one list or mapping
DEEPEST = 8
CHATTY = (
    "apscheduler", "botocore", "boto3", "s3transfer", "urllib3", "aiohttp.access", "aiosmtplib", "asyncio", "anthropic",
    "httpx2", "httpcore", "httpcore2",
)  # fmt: skip

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_COLOURS = {
    "debug": "\x1b[2m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
_RESET = "\x1b[0m"
_CLOCK = SystemClock()
_encode = jsonlib.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Sink(Protocol):
    """A place that takes finished events; it never raises."""

    def write(self, event: EventDict) -> None:
        """Render and write one event."""
        ...


class From:
    """A sink that takes only events of a level and above."""

    def __init__(self, level: int, sink: Sink) -> None:
        self._names = {name for name in LEVELS if _level(name) >= level}
        self._sink = sink

    def write(self, event: EventDict) -> None:
        """Pass on what is important enough."""
        if event.get("level") in self._names:
            self._sink.write(event)


def configure(
    *,
    level: str,
    stream: TextIO,
    redactor: Redactor,
    json: bool | None = None,
    file: Path | None = None,
    shown: str | None = None,
) -> None:
    """Send all logs to `stream` (JSON lines, or readable lines on a terminal) and, as JSON lines, to `file`.

    `json=None` decides by `stream.isatty()`; `shown` is a level of its own for the stream.
    Raises `ConfigError` for an unknown level or a file that cannot be opened.
    May be called again; the last call counts.
    """
    number = _level(level)
    plain = not stream.isatty() if json is None else json
    visible: Sink = JsonStream(stream) if plain else Console(stream)
    sinks: list[Sink] = [visible if shown is None else From(_level(shown), visible)]
    if file is not None:
        sinks.append(JsonFile(file))
    chain = _chain(redactor)
    _start(number, chain, sinks)
    _take_over_stdlib(number, chain, sinks)


def get() -> Any:
    """Return a bound logger: `log.info("task end", status="ok")`; silent below warning until `configure` was called."""
    if not structlog.is_configured():
        _start(logging.WARNING, _chain(Redactor()), [JsonStream(sys.stderr)])
    return structlog.get_logger()


def bound(**values: object) -> AbstractContextManager[None]:
    """Every line inside the `with`, also of tasks started there, carries these values."""
    return bound_contextvars(**values)


def _level(name: str) -> int:
    if name.lower() not in LEVELS:
        raise ConfigError(f"LOG_LEVEL is {name!r}; use one of {', '.join(LEVELS)}")
    return logging.getLevelNamesMapping()[name.upper()]


def _chain(redactor: Redactor) -> list[Processor]:
    def redacted(_logger: Any, _method: str, event: EventDict) -> EventDict:
        clean: EventDict = redactor.value(event)
        return clean

    def plain(_logger: Any, _method: str, event: EventDict) -> EventDict:
        return {str(key): _plain(value, redactor) for key, value in event.items()}

    return [
        merge_contextvars,
        structlog.processors.add_log_level,
        _timestamp,
        structlog.processors.format_exc_info,  # a plain traceback: no locals, where the keys are
        plain,
        _ordered,
        redacted,
    ]


def _start(level: int, chain: list[Processor], sinks: list[Sink]) -> None:
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: Fan(sinks),
        cache_logger_on_first_use=False,  # loggers are made at import, before the operator's level is known
    )


def _take_over_stdlib(level: int, chain: list[Processor], sinks: list[Sink]) -> None:
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, Bridge)]:
        root.removeHandler(handler)
    root.addHandler(Bridge(chain, Fan(sinks)))
    root.setLevel(level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))
    logging.captureWarnings(True)


def _timestamp(_logger: Any, _method: str, event: EventDict) -> EventDict:
    event["timestamp"] = iso(_CLOCK.now())
    return event


def _ordered(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """`event` becomes `message`; an author's own `message` is kept beside it."""
    rest = dict(event)
    head = {"timestamp": rest.pop("timestamp"), "level": rest.pop("level"), "message": rest.pop("event", "")}
    if "message" in rest:
        rest["message_"] = rest.pop("message")
    return head | {key: rest.pop(key) for key in FIRST if key in rest} | rest


def _plain(value: Any, redactor: Redactor, depth: int = 0) -> Any:
    """Reduce to what JSON can hold, of bounded size; other objects become text, which is what redaction reads."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, redactor)
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return _container(value, redactor, depth)
    return _text(_described(value), redactor)


def _number(value: float) -> int | float | str:
    if isinstance(value, int):
        return int(value) if value.bit_length() <= 1024 else f"<int of {value.bit_length()} bits>"
    return float(value) if math.isfinite(value) else str(float(value))  # JSON has no NaN


def _container(value: Any, redactor: Redactor, depth: int) -> Any:
    if depth >= DEEPEST:
        return f"<{type(value).__name__} nested too deep>"
    left_off = len(value) - WIDEST
    if isinstance(value, Mapping):
        pairs = list(value.items())[:WIDEST]
        mapping = {_plain_key(key, redactor): _plain(each, redactor, depth + 1) for key, each in pairs}
        return mapping | ({"…": f"[{left_off} more]"} if left_off > 0 else {})
    items = [_plain(each, redactor, depth + 1) for each in list(value)[:WIDEST]]
    return [*items, f"[{left_off} more]"] if left_off > 0 else items


def _plain_key(key: Any, redactor: Redactor) -> str:
    return _text(key if isinstance(key, str) else _described(key), redactor)


def _described(value: Any) -> str:
    """Text of any object, also of one whose repr raises."""
    try:
        if isinstance(value, datetime) and value.tzinfo is not None:
            return iso(value)
        if isinstance(value, (bytes, bytearray)):
            return bytes(value[: LONGEST + SPARE + 1]).decode("utf-8", "backslashreplace")
        return str(value) if isinstance(value, (BaseException, os.PathLike)) else repr(value)
    except Exception as error:  # noqa: BLE001  a foreign __repr__ may do anything
        return f"<{type(value).__name__}: its repr raised {type(error).__name__}>"


def _text(value: str, redactor: Redactor) -> str:
    """Bound the length and repair the UTF-8; a long text is redacted before the cut, or half a secret would survive."""
    cut = len(value) > LONGEST
    if cut:
        head = redactor.text(value[: LONGEST + SPARE])
        kept = head[: max(0, min(LONGEST, len(head) - min(SPARE, len(value) - LONGEST)))]
        value = f"{kept}… [truncated {len(value) - LONGEST} characters]"
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()


class Fan:
    """The end of the chain: hands a finished event to each sink. Thread-safe through the sinks."""

    def __init__(self, sinks: list[Sink]) -> None:
        self._sinks = sinks

    def msg(self, **event: Any) -> None:
        """Write the event everywhere."""
        for sink in self._sinks:
            sink.write(event)

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


class Bridge(logging.Handler):
    """Takes the standard library's records through our chain, so that no library bypasses the redaction."""

    def __init__(self, chain: list[Processor], fan: Fan) -> None:
        super().__init__()
        self._chain = chain
        self._fan = fan

    def emit(self, record: logging.LogRecord) -> None:
        """Write one foreign record."""
        event: Any = {"event": _message(record), "logger": record.name, "exc_info": record.exc_info}
        for step in self._chain:
            event = step(self._fan, record.levelname.lower(), event)
        self._fan.msg(**event)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001  arguments that do not fit the text are the library's mistake, not ours
        return f"{record.msg} {_described(record.args)}"


def _json_line(event: EventDict) -> str:
    """ASCII on purpose: line separators and control characters of all alphabets come out escaped."""
    return _encode(event) + "\n"


class _Stream:
    """A text stream that may close under us: then logging ends and the job goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def _put(self, line: str) -> None:
        with self._lock:
            try:
                self._stream.write(_encodable(line, self._stream.encoding))
                self._stream.flush()
            except BrokenPipeError:
                _to_nowhere(self._stream)
            except (OSError, ValueError):  # disk full, terminal gone, stream closed
                return


def _encodable(line: str, encoding: str | None) -> str:
    """Spell out what the terminal's alphabet lacks; a stream without an encoding takes every text."""
    return line if encoding is None or line.isascii() else line.encode(encoding, "backslashreplace").decode(encoding)


def _to_nowhere(stream: TextIO) -> None:
    """Point the stream at nothing: its reader is gone.

    What is still buffered would fail again at exit and turn the exit code into 120.
    """
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class JsonStream(_Stream):
    """JSON lines for pipes and files."""

    def write(self, event: EventDict) -> None:
        """Write one line."""
        self._put(_json_line(event))


class Console(_Stream):
    """Readable lines; colours only on a terminal and without NO_COLOR."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._coloured = stream.isatty() and not os.environ.get("NO_COLOR")

    def write(self, event: EventDict) -> None:
        """Write one line, and the lines of a traceback under it."""
        fields = dict(event)
        time, level, message = (str(fields.pop(key)) for key in ("timestamp", "level", "message"))
        trace = str(fields.pop("exception", ""))
        shown = f"{level:<8}"
        if self._coloured:
            shown = f"{_COLOURS.get(level, '')}{shown}{_RESET}"
        pairs = "".join(f"  {_escaped(key)}={_field(value)}" for key, value in fields.items())
        below = "".join(f"  | {_escaped(line)}\n" for line in trace.splitlines())
        self._put(f"{time[11:19]}Z {shown} {_escaped(message)}{pairs}\n{below}")


def _field(value: Any) -> str:
    if isinstance(value, str) and value and not any(each in value for each in ' ="\n'):
        return _escaped(value)
    return _escaped(jsonlib.dumps(value, ensure_ascii=False))


def _escaped(text: str) -> str:
    """No character of a log line moves the cursor, changes a colour or begins a line."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


class JsonFile:
    """JSON lines appended to a file that several processes share.

    One `write` of the whole line on an append-only descriptor keeps the lines of processes apart on a local disk. The
    file is never rotated here: `logrotate` with `copytruncate` does.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o640)
        except OSError as error:
            raise ConfigError(
                f"the log file {path} cannot be written ({error.strerror}); make its folder writable"
            ) from error

    def write(self, event: EventDict) -> None:
        """Write one line; a full disk loses the line, not the job."""
        with suppress(OSError):
            os.write(self._fd, _json_line(event).encode())

    def __del__(self) -> None:
        """Give the descriptor back when `configure` is called again."""
        with suppress(AttributeError, OSError):
            os.close(self._fd)
