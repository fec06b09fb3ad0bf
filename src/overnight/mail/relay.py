"""Which relay, how to reach it, and what it is trusted with: the URL of `mail: transport`."""

import ipaddress
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from overnight.errors import ConfigError

_PORTS = {"smtp": 587, "smtps": 465, "smtp+starttls": 587}
_OPTIONS = frozenset({"starttls", "connections", "timeout"})


@dataclass(frozen=True, slots=True)
class Relay:
    """Where and how to connect.

    `starttls`: required; otherwise it is used when offered, but not on this machine, where nobody listens and the
    certificate of a mail server vouches for itself. `timeout` in seconds for each command.
    """

    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    starttls: bool = False
    connections: int = 4
    timeout: float = 60.0

    @classmethod
    def parse(cls, url: str) -> Self:
        """`smtp://user:pass@host:port`, `smtps://…` (TLS from the start), `smtp+starttls://…` (required).

        Options: `?starttls=required|auto`, `connections=4`, `timeout=60`. Raises ConfigError, without the password.
        """
        try:
            parts = urlsplit(url)
            options = {
                name: values[-1] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()
            }
            if not parts.hostname or parts.scheme not in _PORTS or options.keys() - _OPTIONS:
                raise ValueError  # noqa: TRY301
            starttls = {"required": True, "auto": False}[options.get("starttls", "auto")]
            return cls(
                host=parts.hostname,
                port=parts.port or _PORTS[parts.scheme],
                user=unquote(parts.username or ""),
                password=unquote(parts.password or ""),
                tls=parts.scheme == "smtps",
                starttls=starttls or parts.scheme == "smtp+starttls",
                connections=max(1, int(options.get("connections", "4"))),
                timeout=float(options.get("timeout", "60")),
            )
        except (ValueError, KeyError):
            raise ConfigError(
                "mail: transport: not a URL of a mail relay; write smtp://user:password@host:587, smtps://… or "
                "smtp+starttls://…, with ?starttls=required|auto, connections=N, timeout=SECONDS"
            ) from None

    @property
    def place(self) -> str:
        """For people: `smtp relay.example.org:587`."""
        return f"smtp {self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether the relay is on this machine, where nobody can listen on the wire."""
        if self.host == "localhost":
            return True
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False
