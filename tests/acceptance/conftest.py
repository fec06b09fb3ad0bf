"""A project made by `overnight init`, the installed command, and the other side in processes of its own.

Nothing here builds a part of the engine by hand: what a test knows, it knows from the command's answers, from the bytes
on disk, from the relay's spool and from the model's bill.
"""

import csv
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.serving import ROOT, Place
from tests.mailcheck import check
from tests.warm import Warm

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("overnight")
CHECKED = 200  # mails of each outbox whose form is looked at
PATIENCE = 60.0  # seconds until a wait for another process is given up


@dataclass(frozen=True)
class Said:
    """What a call of the command came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document of `--json`."""
        return json.loads(self.out)

    @property
    def text(self) -> str:
        """Everything a person would see."""
        return self.out + self.err


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for something another process does."""
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"waited {PATIENCE:g} s for {what}")
        time.sleep(0.005)


@dataclass
class Project:
    """A folder with schedule.yaml, and the command called in it."""

    root: Path
    env: dict[str, str]
    warm: Warm
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Said:
        """Call the command and wait for it."""
        env = self.env | dict(env or {})
        done = self.warm.call(arguments, cwd=cwd or self.root, env=env, seconds=PATIENCE * 2)
        assert "Traceback" not in done.stderr, done.stderr
        return Said(done.returncode, done.stdout, done.stderr)

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Call the command with --json; the document, once the exit code is the expected one."""
        said = self.run("--json", *arguments)
        assert said.code == code, said.text
        return said.document

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Call the command and do not wait."""
        process = subprocess.Popen(
            [str(COMMAND), *arguments],
            cwd=self.root,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.processes.append(process)
        return process

    def kill(self, process: subprocess.Popen[str]) -> None:
        """End it with SIGKILL, in the middle of whatever it does."""
        assert process.poll() is None, "it ended before it could be killed"
        process.kill()
        process.wait()

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace one piece of text in a file, as an operator would."""
        path = self.root / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{file} has {text.count(old)} times {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def schedule(self, old: str, new: str) -> None:
        """Replace one piece of text in schedule.yaml."""
        self.edit("schedule.yaml", old, new)

    def subscribe(self, *people: str) -> None:
        """Import subscribers without topics, from `name@example.org` addresses."""
        file = self.root / "people.csv"
        with file.open("w", encoding="utf-8", newline="") as text:
            rows = csv.writer(text)
            rows.writerow(["email", "name", "topics"])
            rows.writerows([address, address.partition("@")[0].title(), ""] for address in people)
        assert self.json("subscribers", "import", str(file))["added"] == len(people)

    def states(self, job: str) -> dict[str, dict[str, Any]]:
        """The items of the slot that a job has run last, by the subscriber's address."""
        addresses = {who["id"]: who["email"] for who in self.json("subscribers", "list")}
        return {addresses.get(item["key"], item["key"]): item for item in self.json("show", job)["items"]}

    def outbox(self, job: str) -> list[EmailMessage]:
        """The mails in the outbox folder, of a `job` or of one `job/slot`."""
        return [read_mail(path) for path in sorted((self.root / "var" / "outbox" / job).rglob("*.eml"))]

    def log(self) -> list[dict[str, Any]]:
        """The log file, line by line."""
        file = self.root / "var" / "log" / "overnight.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def runs_recorded(self) -> int:
        """How many runs the ledger has; also when the command cannot be asked."""
        file = self.root / "var" / "overnight.db"
        if not file.exists():
            return 0
        with closing(sqlite3.connect(file)) as connection:
            return int(connection.execute("SELECT count(*) FROM run").fetchone()[0])

    def let_time_pass(self) -> None:
        """Make deferred items due, and what has failed too often worth a probe: the minutes that a test cannot wait."""
        with closing(sqlite3.connect(self.root / "var" / "overnight.db")) as connection, connection:
            connection.execute("UPDATE item SET next_at = '2000-01-01T00:00:00.000Z' WHERE state = 'retry'")
            connection.execute("UPDATE breaker SET opened_until = '2000-01-01T00:00:00.000Z' WHERE state = 'open'")


def read_mail(path: Path) -> EmailMessage:
    """One message, parsed."""
    message = message_from_bytes(path.read_bytes(), policy=default)
    assert isinstance(message, EmailMessage)
    return message


def text_of(mail: EmailMessage) -> str:
    """The plain part, decoded."""
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


@dataclass
class RelayBooks:
    """The relay's side: what it has, what it was asked, and the rules it follows."""

    spool: Path
    rules_file: Path
    url: str

    def rules(self, **rules: Any) -> None:
        """Change how the relay behaves, from now on."""
        new = self.rules_file.with_suffix(".new")
        new.write_text(json.dumps(rules), encoding="utf-8")
        new.rename(self.rules_file)

    def count(self) -> int:
        """How many messages it has taken."""
        return len(list(self.spool.glob("*.eml")))

    def mails(self) -> list[EmailMessage]:
        """All of them, in order."""
        return [read_mail(path) for path in sorted(self.spool.glob("*.eml"))]

    def recipients(self) -> Counter[str]:
        """How many messages each address has got."""
        return Counter(str(mail["X-Recipient"]) for mail in self.mails())

    def asked(self) -> Counter[str]:
        """How often each address was named to it."""
        log = self.spool / "asked.log"
        return Counter(log.read_text(encoding="utf-8").split() if log.exists() else [])


@dataclass
class ModelBooks:
    """The model's side: its bill, and the faults it follows."""

    url: str
    bill_file: Path

    def bill(self) -> list[dict[str, Any]]:
        """Every request it has accepted."""
        bill: list[dict[str, Any]] = self._asked("bill")
        return bill

    def requests(self) -> dict[str, int]:
        """How many questions got which HTTP status."""
        counts: dict[str, int] = self._asked("requests").get("/v1/messages", {})
        return counts

    def faults(self, *rules: Mapping[str, Any]) -> None:
        """Replace the faults."""
        self._asked("faults", json.dumps(rules).encode())

    def _asked(self, what: str, body: bytes | None = None) -> Any:
        with urllib.request.urlopen(f"{self.url}/_fake/{what}", body) as answer:  # noqa: S310  our own server
            return json.load(answer)

    @property
    def env(self) -> dict[str, str]:
        """What points the command here."""
        return {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": "sham-key-of-a-test"}


def environment(home: Path) -> dict[str, str]:
    """A clean environment: nothing of the developer's keys gets in."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8"}


@contextmanager
def started(command: Sequence[str], env: Mapping[str, str]) -> Iterator[str]:
    """Run a server until the end of the block; gives the first line it prints."""
    process = subprocess.Popen(list(command), env=dict(env), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line, f"{command} did not start"
        yield line
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """The process of which most calls of the command are forks."""
    process = Warm(tmp_path_factory.mktemp("warm"))
    yield process
    process.close()


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `overnight init` writes; made once, because each test gets a copy."""
    home = tmp_path_factory.mktemp("fresh")
    subprocess.run([COMMAND, "init", home / "site"], cwd=home, env=environment(home), check=True)
    return home / "site"


@pytest.fixture(scope="session")
def package_index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where pip, as this machine has set it up, can get no package."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--retries", "1"]
    download = ["download", "--no-deps", "--dest", str(tmp_path_factory.mktemp("downloaded")), "cronsim"]
    done = subprocess.run([*pip, *download], capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        pytest.skip(f"no package index can be reached: {done.stderr.strip()[-200:]}")


@pytest.fixture
def project(fresh: Path, warm: Warm, tmp_path: Path) -> Iterator[Project]:
    """A fresh project."""
    root = shutil.copytree(fresh, tmp_path / "site")
    made = Project(root, environment(tmp_path), warm)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    for path in islice((root / "var").glob("outbox/*/*/*.eml"), CHECKED):
        check(path.read_bytes())


@pytest.fixture
def fake_model(tmp_path: Path) -> Iterator[ModelBooks]:
    """`overnight fake-model`, with its bill in a file."""
    bill = tmp_path / "bill.jsonl"
    command = [str(COMMAND), "fake-model", "--port", "0", "--bill", str(bill)]
    with started(command, environment(tmp_path)) as url:
        yield ModelBooks(url, bill)


@pytest.fixture
def smtp(tmp_path: Path) -> Iterator[RelayBooks]:
    """A mail relay with a spool."""
    spool, rules = tmp_path / "spool", tmp_path / "relay.json"
    spool.mkdir()
    rules.write_text("{}", encoding="utf-8")
    command = [sys.executable, str(HERE / "relay.py"), str(spool), str(rules)]
    with started(command, environment(tmp_path)) as port:
        yield RelayBooks(spool, rules, f"smtp://127.0.0.1:{port}")


@pytest.fixture
def place(tmp_path: Path, warm: Warm) -> Iterator[Place]:
    """A folder for schedulers: their runs end with the test."""
    shutil.copytree(ROOT / "templates", tmp_path / "templates")
    made = Place(tmp_path, warm)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    for pid in {one.pid for one in made.done()}:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
