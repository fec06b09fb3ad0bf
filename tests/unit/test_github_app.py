"""A GitHub App against a server that knows what each token is for, and until when."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from overnight.compensation import Steps
from overnight.dependency import Dependencies
from overnight.effects import Effects
from overnight.errors import Permanent, Stop
from overnight.ledger import Ledger
from overnight.outcome import Scope
from overnight.ports import toolkit_of
from overnight.redact import Redactor
from overnight.schedule import loads
from overnight.tools import BUILT_IN
from overnight.tools.github_api import TOKEN
from overnight.tools.toolkit import Toolkit
from tests.calling import CALL, called
from tests.hub import APP, OTHER, REPO, Hub, hub
from tests.slots import ManualClock, begin, open_ledger

_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = _KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
PUBLIC = _KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

SCHEDULE = """
version: 1
roles: {{ r: {{ model: [claude-haiku-5-5], secrets: [{}], allow_mixed: true }} }}
jobs: {{ hello: {{ every: 1h }} }}
"""


@dataclass
class Desk:
    """An item whose role has no token but an app."""

    root: Path
    ledger: Ledger
    clock: ManualClock
    scope: Scope
    there: Hub
    redactor: Redactor
    kit: Toolkit

    async def use(self, name: str, repo: str = REPO, call: str = CALL, **asked: Any) -> Any:
        made = BUILT_IN[name]
        limits = {"repo": "acme/*"} | ({"base": ["main"], "head": ["*"]} if name == "github.pull" else {})
        steps = Steps(Effects(self.ledger, self.clock), self.scope)
        within = made.limits.model_validate(limits)
        return await called(self.kit, made, within, {"repo": repo, **asked}, of=steps, call=call)

    def bought(self) -> list[tuple[list[str], dict[str, str]]]:
        return [(each["repositories"], each["permissions"]) for each in self.there.tokens.values()]


@asynccontextmanager
async def desk(root: Path, key: str = PEM, *faults: str | int | None, allowed: str = TOKEN) -> AsyncIterator[Desk]:
    clock = ManualClock()
    ledger = open_ledger(root, clock)
    async with hub(*faults) as there:
        there.issue(1, "It rains", "In here.")
        there.app_key, there.now = PUBLIC.decode(), clock.now
        sides, redactor = Dependencies({}, clock), Redactor()
        environ = {"GITHUB_APP_ID": APP, "GITHUB_APP_PRIVATE_KEY": key, "GITHUB_API_URL": there.url}
        schedule = loads(SCHEDULE.format(allowed), environ)
        kit = toolkit_of(root, schedule, ledger, clock, sides, redactor)
        yield Desk(root, ledger, clock, begin(ledger), there, redactor, kit)
    ledger.close()


async def test_each_tool_gets_a_token_for_its_repository_and_its_rights_alone(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.use("github.issues")
        await at.use("github.issue", number=1)
        await at.use("github.comment", number=1, body="Thank you.")
        await at.use("github.pull", call="2" * 32, title="A fix", head="fix", base="main")
        await at.use("github.issues", OTHER)
        assert at.bought() == [
            (["site"], {"issues": "read"}),
            (["site"], {"issues": "write"}),
            (["site"], {"pull_requests": "write", "contents": "read"}),
            (["shop"], {"issues": "read"}),
        ]
        assert (at.there.bodies(), sum(at.there.open_pulls().values())) == ({"Thank you.": 1}, 1)


async def test_a_token_is_renewed_five_minutes_before_its_end(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.use("github.issues")
        at.clock.move(54 * 60)
        await at.use("github.issues")
        assert len(at.there.tokens) == 1
        at.clock.move(90)
        await at.use("github.issues")
        assert len(at.there.tokens) == 2


async def test_a_token_whose_sale_was_lost_is_bought_again(tmp_path: Path) -> None:
    async with desk(tmp_path, PEM, None, "lost") as at:
        await at.use("github.issues")
        assert len(at.there.tokens) == 2


async def test_the_key_may_be_a_file_or_one_line(tmp_path: Path) -> None:
    (tmp_path / "app.pem").write_text(PEM)
    for folder, key in (("a", str(tmp_path / "app.pem")), ("b", PEM.strip().replace("\n", "\\n"))):
        (tmp_path / folder).mkdir()
        async with desk(tmp_path / folder, key) as at:
            await at.use("github.issues")
            assert len(at.there.tokens) == 1


async def test_a_key_that_is_refused_or_none_stops_the_run_and_says_what_to_do(tmp_path: Path) -> None:
    strange = PEM.replace("MII", "MIX", 1)
    for number, key in enumerate((strange, "nowhere.pem")):
        (tmp_path / str(number)).mkdir()
        async with desk(tmp_path / str(number), key) as at:
            with pytest.raises(Stop, match="check GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY") as wrong:
                await at.use("github.issues")
            assert key not in str(wrong.value)
            assert wrong.value.__cause__ is None
            assert at.there.seen == []
    async with desk(tmp_path, PEM, 401) as at:
        with pytest.raises(Stop, match="check GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY"):
            await at.use("github.issues")


async def test_where_the_app_is_not_installed_or_may_not_it_says_so(tmp_path: Path) -> None:
    async with desk(tmp_path, PEM, None, 422) as at:
        with pytest.raises(Permanent, match="needs issues: read for acme/site"):
            await at.use("github.issues")
        with pytest.raises(Permanent, match="not installed for acme/none: install it there"):
            await at.use("github.issues", "acme/none")


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_key_jwt_and_token_are_told_to_the_redactor_and_kept_nowhere(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.use("github.comment", number=1, body="Thank you.")
        [token] = at.there.tokens
        line = PEM.splitlines()[3]
        assert at.redactor.known([f"a {token}.", line]) == ["a [redacted].", "[redacted]"]
        assert line not in repr(at.kit)
        assert token not in repr(at.kit)
        kept = contents(tmp_path)
        assert kept
        assert token.encode() not in kept
        assert line.encode() not in kept


async def test_a_role_without_the_secret_has_no_app_either(tmp_path: Path) -> None:
    async with desk(tmp_path, allowed="OTHER") as at:
        with pytest.raises(Stop, match="there is no token for GitHub"):
            await at.use("github.issues")
        assert at.there.seen == []
