"""The fence around untrusted text: the model gets it unchanged and can tell where it ends.

The text is wrapped, never filtered: filters let most attacks through and damage much honest text. Nobody who writes
the text can close the fence, because its name holds 128 random bits and the text cannot contain such a tag at all.
A fence only helps the model; what holds an obedient model back is what its role may do.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from overnight.errors import Permanent

_TAG = re.compile(r"<(?=/?untrusted-)", re.IGNORECASE)
_FENCE = re.compile(r'<untrusted-([0-9a-f]{32}) source="([^"\n]*)">\n(".*")\n</untrusted-\1>')
_SOURCE = re.compile(r"[\w .:/-]{1,200}", re.ASCII)
_NONCE = re.compile(r"[0-9a-f]{32}")

_REMEDY = "give plain values: None for NaN, text for bytes, a dataclass or a dict for an object"

# Flags of regions are written with tag characters, families with joiners: honest text, taken away before looking.
_HONEST = re.compile(
    "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f"
    "|(?<=[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d(?=[\u2190-\u2bff\U0001f000-\U0001faff])"
    "|(?<=[\u0600-\u077f\u08a0-\u08ff\u0900-\u0dff\u0e80-\u109f\u1780-\u18af])[\u200c\u200d]"
)
_INVISIBLE = re.compile(
    "[\U000e0000-\U000e007f]"  # tags: a whole alphabet nobody sees
    "|[\u202a-\u202e\u2066-\u2069]"  # text that is read in another order than it is shown
    "|[\u200b-\u200d\u2060-\u2064\ufeff]"  # zero width
    "|[\ufe00-\ufe0f\U000e0100-\U000e01ef]{3}"  # bytes hidden in variation selectors
)

# What is escaped: surrogates alone, which cannot be sent, what may be read as the end of a line, and what nobody sees.
# All other letters stay as they are: escaped they would cost several times the tokens.
_ESCAPED = re.compile(f"[\x7f-\x9f\u2028\u2029\ud800-\udfff]|{_INVISIBLE.pattern}")


def as_json(data: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the data of a question as JSON has it, and its text. Raises Permanent for what JSON cannot hold."""
    try:
        return _as_json(data)
    except (ValueError, RecursionError) as error:  # pydantic's are ValueErrors
        wrong = next((f"data[{key!r}]" for key in data if not _is_json({key: data[key]})), "data")
        raise Permanent(f"{wrong} cannot be sent as JSON ({error}): {_REMEDY}", code="data") from error


def _as_json(data: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    plain = to_jsonable_python(data)
    return plain, json.dumps(plain, ensure_ascii=False, allow_nan=False)


def _is_json(data: Mapping[str, Any]) -> bool:
    try:
        return bool(_as_json(data))
    except (ValueError, RecursionError):
        return False


def fence(data: Any, source: str, nonce: str) -> str:
    """Wrap JSON-able `data` as one JSON string literal on a line of its own, between tags named by `nonce`.

    `nonce` is 32 hexadecimal digits, fresh for each request; `source` says where the data is from. The data's text is
    in the literal unchanged: `unfence` returns it. Raises ValueError for another nonce, a source that is no plain
    word, or data that JSON cannot hold.
    """
    if not _NONCE.fullmatch(nonce):
        raise ValueError("a nonce is 32 hexadecimal digits: clock.token(16)")
    if not _SOURCE.fullmatch(source):
        raise ValueError(f"{source!r} cannot name a source: use letters, digits and . : / -")
    inside = json.dumps(data, ensure_ascii=False, allow_nan=False)
    literal = _ESCAPED.sub(_escaped, json.dumps(inside, ensure_ascii=False))
    harmless = _TAG.sub(r"\\u003c", literal)
    return f'<untrusted-{nonce} source="{source}">\n{harmless}\n</untrusted-{nonce}>'


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def unfence(text: str) -> Any:
    """Return the data of the first fence in `text`. Raises ValueError when there is none."""
    found = _FENCE.search(text)
    if found is None:
        raise ValueError("there is no complete fence in this text")
    return json.loads(json.loads(found[3]))


def suspicious(text: str) -> bool:
    """Tell whether `text` holds characters that people do not see and models read.

    Joiners inside emoji and in scripts that need them, and flags, are honest.
    """
    found = not text.isascii() and _INVISIBLE.search(text)  # most texts hold none, and need no second look
    return bool(found) and _INVISIBLE.search(_HONEST.sub("", text)) is not None
