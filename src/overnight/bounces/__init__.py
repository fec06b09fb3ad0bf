"""Mail that comes back: bounces and people who leave, read from a maildir, an mbox or a pipe."""

from overnight.bounces.count import Counted, count
from overnight.bounces.notice import Reader
from overnight.bounces.place import opened

__all__ = ["Counted", "Reader", "count", "opened"]
