"""The script of faults: which request is hit, and by what.

A list of rules, in YAML or JSON, from a file or `POST /_fake/faults`; the first rule that fires decides:

    - match: {contains: "t-3", nth: 1}          # empty: every request; also model, path, every
      fault: {kind: status, code: 529}
      times: 2                                  # default: no end
    - match: {prob: 0.2, seed: 7}               # one in five, and the same ones every time
      fault: {kind: drop_after_accept}
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from overnight.errors import ConfigError
from overnight.fake_model.faults import Fault
from overnight.fake_model.material import embedded, leaves


class Match(BaseModel):
    """Which requests; all given conditions hold. The last four choose among the requests the others let through.

    `prob` throws dice for each of them. The dice are a hash of `seed`, the rule's place in the list and the number of
    the request, so a second run of the same script hits the same numbers, whatever the other rules did.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    contains: str | None = None
    model: str | None = None
    path: str | None = None
    nth: int | None = Field(default=None, ge=1)
    every: int | None = Field(default=None, ge=1)
    prob: float = Field(default=1, ge=0, le=1)
    seed: int = 0

    def covers(self, path: str, body: Mapping[str, Any]) -> bool:
        """Whether a request is of this kind, counting and dice aside."""
        return (
            self.path in (None, path)
            and self.model in (None, body.get("model"))
            and (self.contains is None or self.contains in _readable(body))
        )

    def chosen(self, count: int, place: int) -> bool:
        """Whether the `count`-th covered request is one to hit, for the rule at `place` of the list."""
        return (
            self.nth in (None, count)
            and (self.every is None or count % self.every == 0)
            and _dice(self.seed, place, count) < self.prob
        )


class Rule(BaseModel):
    """One line of the script."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: Match = Match()
    fault: Fault
    times: int | None = Field(default=None, ge=1)


class Script:
    """A list of rules and how often each has been met and has fired."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._rules = list(rules)
        self._met = [0] * len(rules)
        self._fired = [0] * len(rules)

    def next_fault(self, path: str, body: Mapping[str, Any]) -> Fault | None:
        """Decide the fault for this request, if any. Every rule counts the request, the first that fires is used."""
        ready = [place for place, rule in enumerate(self._rules) if self._is_due(place, rule, path, body)]
        if not ready:
            return None
        self._fired[ready[0]] += 1
        return self._rules[ready[0]].fault

    def _is_due(self, place: int, rule: Rule, path: str, body: Mapping[str, Any]) -> bool:
        if not rule.match.covers(path, body):
            return False
        self._met[place] += 1
        return rule.match.chosen(self._met[place], place) and (rule.times is None or self._fired[place] < rule.times)


def parse(rules: Any, where: str) -> Script:
    """Make a script from decoded YAML or JSON. Raises `ConfigError` naming `where` it came from."""
    try:
        return Script(TypeAdapter(list[Rule]).validate_python(rules or []))
    except ValidationError as error:
        raise ConfigError(f"{where}: the list of faults is not valid: {error}", code="faults") from None


def load(path: Path) -> Script:
    """Read the script in a YAML or JSON file. Raises `ConfigError`."""
    try:
        rules = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ConfigError(f"{path}: cannot read the list of faults: {error}", code="faults") from None
    return parse(rules, str(path))


def _readable(body: Mapping[str, Any]) -> str:
    texts = list(leaves(body))
    return "\n".join([*texts, *(inner for text in texts for inner in leaves(embedded(text)))])


def _dice(seed: int, place: int, count: int) -> float:
    """Return a number in [0, 1)."""
    digest = hashlib.blake2b(f"{seed}/{place}/{count}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
