"""Signed tokens, and the public links that carry them: who holds one may do the one thing it was made for.

A token reads `value.signature` or `value.time.signature`, in characters that need no escaping in a link or an address.
The signature covers the purpose, so that a token for one thing is worth nothing for another.
"""

import base64
import hashlib
import ipaddress
import re
from datetime import timedelta
from functools import lru_cache
from hmac import compare_digest
from typing import Literal
from urllib.parse import urlsplit

from itsdangerous import BadSignature, SignatureExpired, Signer, TimestampSigner

from overnight.clock import Clock
from overnight.errors import Permanent

Purpose = Literal["unsubscribe", "confirm", "bounce", "session", "form"]

LENGTH_MAX = 512  # characters; ours have about 100, and nothing longer is worth a hash
CONFIRM_WITHIN = timedelta(days=3)  # a weekend; after that somebody signs up anew
SESSION = timedelta(hours=12)  # of an operator at the page: a night on call
_LIFETIME: dict[Purpose, timedelta] = {  # the others hold for ever: so does an old mail
    "confirm": CONFIRM_WITHIN,
    "session": SESSION,
    "form": SESSION,
}
_WORD = re.compile(r"[a-z0-9_-]+")
_SPELLED = "x."  # before an id in base32: with a dot, which no word has
_PRIVATE = (".localhost", ".local", ".internal", ".lan", ".test", ".invalid")


def word_of(id_: str) -> str:
    """An id as it stands in links, addresses and subjects, where case and most characters may get lost."""
    if _WORD.fullmatch(id_):
        return id_
    return _SPELLED + base64.b32encode(id_.encode()).decode().rstrip("=").lower()


def id_of(word: str) -> str:
    """The id for which a word stands. Raises ValueError."""
    if not word.startswith(_SPELLED):
        return word
    letters = word.removeprefix(_SPELLED).upper()
    return base64.b32decode(letters + "=" * (-len(letters) % 8)).decode()


class BadToken(Permanent):
    """The token was not made here for this purpose, or not in one piece; nothing was done."""


class ExpiredToken(BadToken):
    """The token was made here, but too long ago; ask for a new one."""


class Tokens:
    """Makes and reads the tokens of a project.

    The token itself is no key to anything: store and compare the value that `read` returns.
    """

    def __init__(self, secret: bytes, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock

    def make(self, purpose: Purpose, value: str) -> str:
        """The token of a value, an id: letters, digits, `_` and `-`. Without a lifetime it is always the same one."""
        return self._signer(purpose).sign(value).decode()

    def read(self, purpose: Purpose, token: str) -> str:
        """The value of a token. Raises BadToken, or ExpiredToken when its lifetime is over."""
        if len(token) > LENGTH_MAX or not token.isascii():
            raise BadToken(code="token")
        signer, lifetime = self._signer(purpose), _LIFETIME.get(purpose)
        try:
            if isinstance(signer, _Timed) and lifetime is not None:
                value = signer.unsign(token, max_age=int(lifetime.total_seconds()))
            else:
                value = signer.unsign(token)
        except SignatureExpired as error:
            raise ExpiredToken(code="token_expired") from error
        except BadSignature as error:
            raise BadToken(code="token") from error
        # the last character of base64 has bits to spare: three others would do as well
        if not compare_digest(Signer.sign(signer, token.rpartition(".")[0]), token.encode()):
            raise BadToken(code="token")
        return value.decode()

    def unsubscribe_url(self, public_url: str, subscriber_id: str) -> str:
        """The page on which this subscriber leaves; empty when mail programs could not reach it."""
        token = self.make("unsubscribe", word_of(subscriber_id))
        return f"{public_url.rstrip('/')}/u/{token}" if reachable(public_url) else ""

    def leaver(self, token: str) -> str:
        """The id of who leaves by this token. Raises BadToken."""
        try:
            return id_of(self.read("unsubscribe", token))
        except ValueError as error:
            raise BadToken(code="token") from error

    def confirm_url(self, public_url: str, value: str) -> str:
        """The page on which a sign-up is confirmed, wherever `public_url` points to: trying it out is done at home."""
        return f"{public_url.rstrip('/')}/confirm/{self.make('confirm', value)}"

    def _signer(self, purpose: Purpose) -> Signer:
        kind = _Timed if purpose in _LIFETIME else Signer
        # not the defaults of itsdangerous, which are SHA-1 and a plain concatenation of salt and key
        signer = kind(self._secret, f"overnight.{purpose}", key_derivation="hmac", digest_method=hashlib.sha256)
        if isinstance(signer, _Timed):
            signer.clock = self._clock
        return signer


@lru_cache(maxsize=16)  # asked for each mail
def reachable(public_url: str) -> bool:
    """Whether mailbox providers could call `public_url`: https, at a name or an address of the open internet."""
    try:
        parts = urlsplit(public_url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme != "https" or parts.username is not None:
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        name = host.rstrip(".")
        return "." in name and not name.endswith(_PRIVATE)


class _Timed(TimestampSigner):
    """Takes the time from our clock."""

    clock: Clock

    def get_timestamp(self) -> int:
        return int(self.clock.now().timestamp())
