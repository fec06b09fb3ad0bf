"""Every example of README and docs/ is run: a page is one session of a reader, from top to bottom, in one project.

    sh        typed as it stands, and has to succeed
    console   each `$` line is typed; what follows is what it says, `…` for what differs each time
    crontab   a time that cronsim takes, and a command that succeeds
    yaml      goes into schedule.yaml where it belongs, which stays valid
    python    a file, when its first line names it; else a part of a file that is run elsewhere
    text      only to be read

What cannot be run here says so before the block, `<!-- not run: needs systemd -->`; its commands and options still have
to exist. A page begins with a new project, or with nothing when it makes one itself. What a reader has and a test has
not (a relay, a bucket, a free port 8650) is stood for by one on this machine.
"""

import ast
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
from cronsim import CronSim
from ruamel.yaml import YAML

from overnight.cli import COMMON, cli
from tests.acceptance.conftest import COMMAND, PATIENCE, ROOT, RelayBooks, environment, wait_until
from tests.conformance.test_storage import free_port, moto
from tests.warm import Warm

pytestmark = pytest.mark.slow

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "reference")]
NOT_RUN = {  # what a machine of tests has not; a new reason is written here on purpose
    "needs systemd": 1,
    "needs a container engine": 1,
    "needs another machine": 2,
    "needs nginx": 1,
    "needs Prometheus": 1,
    "takes a minute; tests/acceptance/test_demo.py runs it": 1,
}
READ_ONLY = ("text",)
_FENCE = re.compile(
    r"(?:<!-- not run: (?P<why>.+?) -->\n+)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_NAMED = re.compile(r'(?:"""|# )(?P<path>(?:jobs|reports|tests)/\w+\.py)\b')
_CRON = re.compile(r"((?:\S+ +){4}\S+) +(.+)")


@dataclass(frozen=True)
class Block:
    """One example; `why` says that it is not run."""

    page: Path
    line: int
    kind: str
    text: str
    why: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced examples of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start("text")), found["kind"], found["text"], found["why"] or "")
        for found in _FENCE.finditer(text)
    ]


@dataclass
class Reader:
    """Who types the examples of a page: one shell that remembers its folder and variables, one project."""

    home: Path
    env: dict[str, str]
    stands_for: Mapping[str, Callable[[], str]]
    files: set[str] = field(default_factory=set)

    @property
    def here(self) -> Path:
        """The folder that the shell is in."""
        return Path((self.home / "here").read_text(encoding="utf-8").strip())

    def type(self, text: str) -> "subprocess.CompletedProcess[str]":
        """Type some lines; what they say, errors in between."""
        for there, here in self.stands_for.items():
            text = text.replace(there, here()) if there in text else text
        kept = self.home / "kept"
        script = (
            f'. {kept}\ncd "$(cat {self.home}/here)"\nset -eu\n{text}\npwd > {self.home}/here\nexport -p > {kept}\n'
        )
        return subprocess.run(
            ["bash", "-c", script], env=self.env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    def sh(self, block: Block) -> None:
        done = self.type(block.text)
        assert done.returncode == 0, f"{block}: exit code {done.returncode}\n{done.stdout}{done.stderr}"

    def console(self, block: Block) -> None:
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", block.text, re.MULTILINE):
            done = self.type(f"set +e\n(exit ${{LAST:-0}})\n{command}\nexport LAST=$?")
            said = (_plain(done.stdout), _plain(done.stderr))
            assert any(map(_pattern(expected).search, said)), f"{block}: {command} says\n{done.stdout}\n{done.stderr}"

    def crontab(self, block: Block) -> None:
        for line in block.text.splitlines():
            found = _CRON.fullmatch(line.partition("  #")[0].strip())
            assert found, f"{block}: {line}"
            CronSim(found[1], _noon())
            done = self.type(found[2])
            assert done.returncode == 0, f"{block}: {line}\n{done.stdout}{done.stderr}"

    def yaml(self, block: Block) -> None:
        path = self.here / "schedule.yaml"
        yaml = YAML(typ="safe", pure=True)
        whole = _merged(yaml.load(path.read_text(encoding="utf-8")), yaml.load(block.text))
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(whole, file)
        done = self.type("overnight validate")
        assert done.returncode == 0, f"{block}:\n{done.stdout}{done.stderr}"

    def python(self, block: Block) -> None:
        named = _NAMED.match(block.text)
        if named:
            (self.here / named["path"]).write_text(block.text, encoding="utf-8")
            self.files.add(named["path"])
        else:
            strange = [ast.unparse(each) for each in _statements(block.text) if ast.dump(each) not in elsewhere()]
            assert strange == [], f"{block}: stands in no file that is run"


def _noon() -> Any:
    from datetime import UTC, datetime

    return datetime(2026, 11, 22, 12, tzinfo=UTC)


def _pattern(expected: str) -> re.Pattern[str]:
    """What is to be said, from the beginning of a line; `…` alone stands for any number of lines."""
    lines = [_plain(line).removesuffix("\n").split("…") for line in expected.splitlines()]
    parts = [r"(?:.*\n)*?" if not any(words) else r".*".join(map(re.escape, words)) + r"\n" for words in lines]
    return re.compile("^" + "".join(parts), re.MULTILINE)


def _plain(text: str) -> str:
    """Text whose columns are one blank apart."""
    return "".join(" ".join(line.split()) + "\n" for line in text.splitlines())


def _merged(whole: Any, part: Any) -> Any:
    if isinstance(whole, dict) and isinstance(part, dict):
        return whole | {key: _merged(whole.get(key), value) for key, value in part.items()}
    return part


def _statements(text: str) -> list[ast.stmt]:
    return [each for each in ast.parse(text).body if not isinstance(each, ast.Import | ast.ImportFrom)]


def elsewhere() -> set[str]:
    """Every statement of the project's files and of the examples that are files, without their docstrings."""
    files = [*(ROOT / "jobs").glob("*.py"), *(ROOT / "tests" / "project").glob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in files]
    texts += [
        block.text for page in PAGES for block in blocks(page) if block.kind == "python" and _NAMED.match(block.text)
    ]
    return {ast.dump(node) for text in texts for node in ast.walk(_bare(ast.parse(text))) if isinstance(node, ast.stmt)}


def _bare(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and len(body) > 1 and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = body[1:] if ast.get_docstring(node, clean=False) is not None else body
    return tree


SHIM = f"""#!{sys.executable} -IS
import json, os, socket, subprocess, sys, tempfile, time
words, home = sys.argv[1:], os.environ["READER"]
if {{"serve", "fake-model"}} & {{*words[:2]}} and "--help" not in words:  # they last: the reader has another terminal
    port = words[words.index("--port") + 1] if "--port" in words else os.environ["PORT_OF_" + words[0][:4].upper()]
    words += [] if "--port" in words else ["--port", port]
    with open(home + "/lasting.log", "ab") as said:
        process = subprocess.Popen([{str(COMMAND)!r}, *words], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    with open(home + "/pids", "a") as pids:
        pids.write(f"{{process.pid}}\\n")
    for _ in range(600):
        with socket.socket() as wire:
            if wire.connect_ex(("127.0.0.1", int(port))) == 0:
                sys.exit(0)
        if process.poll() is not None:
            sys.exit(open(home + "/lasting.log").read() + "it has ended")
        time.sleep(0.1)
    sys.exit("it does not listen")
with tempfile.TemporaryDirectory() as said, socket.socket(socket.AF_UNIX) as wire:
    wire.connect(os.environ["WARM"])
    env = {{name: value for name, value in os.environ.items() if name not in ("WARM", "READER")}}
    stdin = f"/proc/{{os.getpid()}}/fd/0"
    order = {{"arguments": words, "cwd": os.getcwd(), "env": env, "said": said, "stdin": stdin}}
    wire.sendall(json.dumps(order).encode() + b"\\n")
    code = json.loads(wire.makefile().readline())["code"]
    for name, stream in (("out", sys.stdout), ("err", sys.stderr)):
        stream.write(open(said + "/" + name, encoding="utf-8").read())
        stream.flush()
sys.exit(code)
"""


MAIL = b"From: a@example.org\r\nSubject: Hello\r\n\r\nThis is no bounce.\r\n"


@pytest.fixture
def reader(tmp_path: Path, warm: Warm, fresh: Path, smtp: RelayBooks) -> Iterator[Reader]:
    """Somebody with a new project, and all that examples mention."""
    smtp.rules(login=["news", "sesame-open"])
    shims, home = tmp_path / "bin", tmp_path / "reader"
    shims.mkdir()
    home.mkdir()
    (shims / "overnight").write_text(SHIM, encoding="utf-8")
    (shims / "overnight").chmod(0o755)
    (shims / "activate").touch()
    (tmp_path / "checkout" / ".venv").mkdir(parents=True)
    (tmp_path / "checkout" / ".venv" / "bin").symlink_to(shims)
    shutil.copytree(fresh, tmp_path / "site")
    for folder in ("new", "cur", "tmp"):
        (tmp_path / "bounces" / folder).mkdir(parents=True)
    for mail in ("bounces/new/1.eml", "one-mail.eml"):
        (tmp_path / mail).write_bytes(MAIL)
    (home / "here").write_text(str(tmp_path / "site"), encoding="utf-8")
    (home / "kept").touch()
    page, model = str(free_port()), str(free_port())
    with ExitStack() as sides:
        bucket: list[str] = []

        def store() -> str:
            bucket.extend([] if bucket else [sides.enter_context(moto())["AWS_ENDPOINT_URL"]])
            return bucket[0]

        env = environment(tmp_path) | {
            "PATH": f"{shims}:{COMMAND.parent}:{os.environ['PATH']}", "WARM": warm.address, "READER": str(home),
            "EDITOR": "true", "BROWSER": "true", "PORT_OF_SERV": page, "PORT_OF_FAKE": model,
        }  # fmt: skip
        stands_for = {
            "relay.example.org:587": lambda: smtp.url.removeprefix("smtp://"),
            "https://s3.example.org": store,
            "/srv/site": lambda: str(tmp_path / "site"),
            "/mnt/backups": lambda: str(tmp_path / "backups"),
            "/var/mail/bounces": lambda: str(tmp_path / "bounces"),
            "one-mail.eml": lambda: str(tmp_path / "one-mail.eml"),
            "8650": lambda: page,
            "8651": lambda: model,
        }
        yield Reader(home, env, stands_for)
    pids = [int(pid) for pid in (home / "pids").read_text().split()] if (home / "pids").exists() else []
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    wait_until(lambda: all(map(_over, pids)), "what was started to end")


def _over(pid: int) -> bool:
    """Whether a process that is not ours to wait for has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page_run(page: Path, reader: Reader) -> None:
    run = [block for block in blocks(page) if not block.why and block.kind not in READ_ONLY]
    if any("overnight init" in block.text for block in run if block.kind in ("sh", "console")):
        (reader.home / "here").write_text(str(reader.home.parent / "checkout"), encoding="utf-8")
    for block in run:
        getattr(reader, block.kind)(block)
    used = "\n".join(block.text for block in run if block.kind != "python")
    unused = [file for file in reader.files if not re.search(rf"pytest|run {Path(file).stem}|{Path(file).stem}:", used)]
    assert unused == [], "a file that is written and never run"


def test_every_example_is_run_or_says_why_not() -> None:
    every = [block for page in PAGES for block in blocks(page)]
    assert {block.kind for block in every} <= {"sh", "console", "crontab", "yaml", "python", "nginx", *READ_ONLY}
    reasons: dict[str, int] = {}
    for block in every:
        if block.why:
            reasons[block.why] = reasons.get(block.why, 0) + 1
    print(f"{len(every)} examples in {len(PAGES)} pages, not run: {reasons}")  # noqa: T201  pytest -s shows it
    assert reasons == NOT_RUN
    fences = sum(page.read_text(encoding="utf-8").count("```") for page in PAGES)
    assert fences == 2 * len(every), "a fence that is indented or not closed"


def test_every_command_that_is_named_exists_with_its_options() -> None:
    shell = [block for page in PAGES for block in blocks(page) if block.kind in ("sh", "console", "crontab")]
    texts = [(str(block), line) for block in shell for line in block.text.splitlines()]
    prose = [*PAGES, *(DOCS / "reference").iterdir()]
    texts += [
        (page.name, code) for page in prose for code in re.findall(r"`(overnight [^`]+)`", page.read_text("utf-8"))
    ]
    wrong = [(where, line, word) for where, line in texts for words in _commands(line) for word in _unknown(words)]
    assert wrong == []


def _commands(line: str) -> Iterator[list[str]]:
    for found in re.findall(r"(?:^|[\s/;(\"])overnight ((?:-[-\w]+ |[a-z])[^|;&#)>]*)", line):
        with suppress(ValueError):  # a quotation mark that is only half here
            yield shlex.split(found)


def _unknown(words: list[str]) -> Iterator[str]:
    """What of a command and its options is not there."""
    command, options = cli, {*COMMON, "--config", "--version"}
    for word in words:
        if isinstance(command, click.Group) and not word.startswith("-") and (word.islower() or "-" in word):
            inner = command.get_command(click.Context(command), word)
            if inner is None:
                yield word
                return
            command, options = inner, options | {each for param in inner.params for each in param.opts}
        elif word.startswith("-") and word not in ("-", "--", "--help", "-h") and word.partition("=")[0] not in options:
            yield word
