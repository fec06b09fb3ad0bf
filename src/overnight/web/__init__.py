"""The web side of `serve`: few pages for everybody, by token, and the operator's desk for this machine only."""

from overnight.health import Heart
from overnight.web.server import serving

__all__ = ["Heart", "serving"]
