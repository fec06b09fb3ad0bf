"""A GitHub App instead of a lasting token: tokens of an hour, each for one repository and with one tool's rights.

The key never leaves this machine: it signs a JWT of nine minutes, which buys the tokens. A token is kept in memory
until five minutes before its end; items that ask at the same moment may each buy one, which costs requests and no more.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from overnight.clock import Clock
from overnight.errors import Permanent, Stop, Transient
from overnight.tools.github_api import REPEATABLE, GitHub, path_of
from overnight.tools.port import Passes

ID, KEY = "GITHUB_APP_ID", "GITHUB_APP_PRIVATE_KEY"
MARGIN = timedelta(minutes=5)
AHEAD, LIFE = 60, 540  # seconds: clocks may differ; GitHub takes no JWT that lives longer than ten minutes
CHECK = f"check {ID} and {KEY} in .env"


@dataclass(frozen=True, slots=True)
class App:
    """The app `number`; `key` is PEM text or a path below `root`; `learn` is told what must never be shown."""

    number: str
    key: str = field(repr=False)
    root: Path
    base: str
    side: Any
    clock: Clock
    learn: Callable[[str], None]
    held: dict[tuple[str, ...], tuple[str, datetime]] = field(default_factory=dict, repr=False)

    async def token(self, repo: str, rights: Mapping[str, str]) -> str:
        """A token for this repository alone, with these rights alone, good for five more minutes at least.

        Raises Stop for a key that cannot be used, Permanent for a repository that the app may not touch so.
        """
        at = (repo.lower(), *(f"{name}:{level}" for name, level in sorted(rights.items())))
        token, until = self.held.get(at, ("", self.clock.now()))
        if until <= self.clock.now():
            token, _ = self.held[at] = await self._bought(repo, rights)
        return token

    async def _bought(self, repo: str, rights: Mapping[str, str]) -> tuple[str, datetime]:
        # A token that was made and never arrived expires unused: asking twice does no harm.
        api = GitHub(self.base, self._jwt, self.side, self.clock, CHECK, (*REPEATABLE, "POST"))
        try:
            found = await api.ask("GET", path_of(repo, "installation"))
        except Permanent as error:
            if error.code != "http_404":
                raise
            raise Permanent(f"the GitHub App is not installed for {repo}: install it there", code="no_app") from error
        body = {"repositories": [repo.partition("/")[2]], "permissions": dict(rights)}
        try:
            made = await api.ask("POST", f"/app/installations/{int(found['id'])}/access_tokens", body)
            token, until = str(made["token"]), datetime.fromisoformat(made["expires_at"])
        except Permanent as error:
            wanted = ", ".join(f"{name}: {level}" for name, level in rights.items())
            raise Permanent(f"{error}; the GitHub App needs {wanted} for {repo}", code=error.code) from error
        except (KeyError, TypeError, ValueError):  # not `from` it: what was sent may be in it
            raise Transient(f"GitHub's answer for the app in {repo} holds no token", code="garbled") from None
        self.learn(token)
        return token, until - MARGIN

    async def _jwt(self) -> str:
        import jwt  # noqa: PLC0415  late: it brings cryptography

        now = int(self.clock.now().timestamp())
        claims = {"iss": self.number, "iat": now - AHEAD, "exp": now + LIFE}
        pem = self._pem()
        self.learn(pem)
        try:
            signed = jwt.encode(claims, pem, algorithm="RS256")
        except (jwt.PyJWTError, ValueError, TypeError):  # not `from` it: the key may be in it
            raise Stop(f"{KEY} is no private key of a GitHub App; {CHECK}", code="github_app") from None
        self.learn(signed)
        return signed

    def _pem(self) -> str:
        if self.key.startswith("-----BEGIN"):
            return self.key.replace("\\n", "\n")
        try:
            return (self.root / self.key).read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            why = type(error).__name__
            raise Stop(f"the file that {KEY} names cannot be read ({why}); {CHECK}", code="github_app") from None


def passes_of(
    root: Path, environ: Mapping[str, str], base: str, sides: Any, clock: Clock, learn: Callable[[str], None]
) -> Passes | None:
    """The app of these variables; None without one."""
    number, key = environ.get(ID, "").strip(), environ.get(KEY, "").strip()
    return App(number, key, root, base, sides.of("github"), clock, learn) if number and key else None
