"""From a feed's HTML to plain text."""

import re
from html import unescape

import nh3

MAX_HTML = 20_000  # the cleaner is quadratic in nesting depth: 25 000 open <div> take 1 s
_TAGS = "|".join(sorted(nh3.ALLOWED_TAGS | {"script", "style", "iframe", "body", "html", "head", "button", "form"}))
_MARKUP = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_BLOCK = re.compile(r"(?=</?(?:p|div|br|hr|li|[uod]l|d[td]|h[1-6]|t[rdh]|table|pre|blockquote)\b)", re.IGNORECASE)
_HIDDEN_CONTENT = {"script", "style", "iframe", "noscript", "template", "noframes", "noembed"}
_INVISIBLE = re.compile(
    "["
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"  # control characters except white space
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction of writing: can turn a name or a link around
    "\ufeff\ud800-\udfff\U000e0000-\U000e007f"  # byte order mark, lone surrogates, tag characters
    "]"
)


def plain(value: str, *, is_html: bool) -> str:
    """One line of plain text; scripts and styles are dropped with their content.

    Text that does not claim to be HTML keeps `a < b` and `List[T]` as they are, unless it contains HTML tags.
    """
    value = _INVISIBLE.sub("", value[:MAX_HTML])
    if is_html or _MARKUP.search(value):
        spaced = _BLOCK.sub(" ", value)  # without it "<p>One</p><p>two</p>" would read "Onetwo"
        cleaned = nh3.clean(spaced, tags=set(), clean_content_tags=_HIDDEN_CONTENT)
        value = _INVISIBLE.sub("", unescape(cleaned))  # again: `&#x202e;` was a harmless entity until now
    return " ".join(value.split())


def cut(text: str, limit: int) -> str:
    """`text` in at most `limit` characters, ending with a whole word and an ellipsis if something is missing."""
    if len(text) <= limit:
        return text
    words, space, _ = text[:limit].rpartition(" ")
    return (words if space else text[: limit - 1]) + "…"
