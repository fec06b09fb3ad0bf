"""A fake of the Anthropic Messages API on loopback: it costs nothing, answers to the point, and fails on request.

For `overnight demo` and for tests. It is the independent witness of what was asked and what it cost: it shares no code
with the engine's client, prices or prompts.
"""

from overnight.fake_model.bill import read_bill
from overnight.fake_model.rates import Limits
from overnight.fake_model.server import FakeModel, run_forever, serve

__all__ = ["FakeModel", "Limits", "read_bill", "run_forever", "serve"]
