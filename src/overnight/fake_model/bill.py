"""The server's own books: what every accepted request costs, also when its answer never arrived.

The prices are written down here a second time on purpose: this bill is what the engine's accounts are checked against,
so the two must not share a table.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_LONG_PROMPT = 100_000  # tokens; above it a model with a second price charges that one for the whole request

# (input, output) in nano-USD per token, as on the public price list of November 2026; then the same for long prompts
_PRICES = {
    "claude-haiku-5-5": ((100, 500), (500, 2_500)),
    "claude-sonnet-5-5": ((2_000, 10_000), (2_000, 10_000)),
    "claude-opus-5-5": ((4_000, 20_000), (4_000, 20_000)),
    "claude-haiku-4-5": ((1_000, 5_000), (1_000, 5_000)),
    "claude-sonnet-4-6": ((3_000, 15_000), (3_000, 15_000)),
}
MODELS = tuple(_PRICES)


def cost_nano(model: str, input_tokens: int, output_tokens: int) -> int:
    """Price a request, in nano-USD; `model` is one of `MODELS`."""
    short, long = _PRICES[model]
    price_in, price_out = long if input_tokens > _LONG_PROMPT else short
    return input_tokens * price_in + output_tokens * price_out


@dataclass(slots=True)
class Entry:
    """One accepted request; `delivered` tells whether the whole answer was handed to an open connection."""

    request_id: str
    model: str
    input_tokens: int
    output_tokens: int
    cost_nano: int
    delivered: bool
    status: int


class Bill:
    """All accepted requests, in order, kept in memory and in a file of JSON lines when `path` is given.

    An entry is written when the request is accepted and once more when it is delivered: the last line of a request
    counts. The file survives a kill of the server; a server started on the same file goes on with it.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._entries = {line["request_id"]: Entry(**line) for line in read_bill(path)} if path else {}
        _cut_half_line(path or Path(os.devnull))
        self._file = Path(path or os.devnull).open("ab", buffering=0)  # noqa: SIM115  closed by close()

    def accept(self, request_id: str, model: str, input_tokens: int, output_tokens: int) -> Entry:
        """Charge for a request before anything of the answer is sent: what the file does not hold is not accepted."""
        cost = cost_nano(model, input_tokens, output_tokens)
        entry = Entry(request_id, model, input_tokens, output_tokens, cost, delivered=False, status=200)
        self._write(entry)
        self._entries[request_id] = entry
        return entry

    def deliver(self, entry: Entry) -> None:
        """Note that the answer has been sent."""
        entry.delivered = True
        self._write(entry)

    def entries(self) -> list[dict[str, Any]]:
        """Return the whole bill as JSON objects."""
        return [asdict(entry) for entry in self._entries.values()]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, entry: Entry) -> None:
        self._file.write(json.dumps(asdict(entry)).encode() + b"\n")  # one system call: a kill does not divide it


def _cut_half_line(path: Path) -> None:
    """Remove what a full disk has left of a last line, or the next entry would become part of it."""
    if path.is_file():
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)


def read_bill(path: Path) -> list[dict[str, Any]]:
    """Read the bill in a file, one object per request; empty without a file; a half-written last line is left out."""
    if not path.exists():
        return []
    lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    return list({entry["request_id"]: entry for entry in map(json.loads, lines)}.values())
