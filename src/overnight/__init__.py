"""AI agents and e-mail as scheduled batch jobs that survive the night.

A job is one function of one item; see `jobs`. What it raises decides what happens to the item; see `errors`.
"""

from typing import TYPE_CHECKING, Any

from overnight.errors import Deferred, Downstream, Invalid, Permanent, Skip, Stop, Transient

if TYPE_CHECKING:
    from overnight.agent import Answer
    from overnight.jobs import Job, job
    from overnight.run import Run
    from overnight.subscribers import Subscriber, active_subscribers

__version__ = "0.1.0"

__all__ = [
    "Answer", "Deferred", "Downstream", "Invalid", "Job", "Permanent", "Run", "Skip", "Stop", "Subscriber", "Transient",
    "active_subscribers", "job",
]  # fmt: skip

_HOME = {
    "Answer": "agent", "Job": "jobs", "Run": "run", "Subscriber": "subscribers", "active_subscribers": "subscribers",
    "job": "jobs",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import on first use: `overnight --help` must not pay for a database library."""
    if name not in _HOME:
        raise AttributeError(f"module 'overnight' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  that is the point

    value = getattr(import_module(f"overnight.{_HOME[name]}"), name)
    globals()[name] = value
    return value
