"""The web side of `serve`: few pages for everybody, by token, and the rest for this machine only."""

from overnight.web.private import Heart
from overnight.web.server import serving

__all__ = ["Heart", "serving"]
