"""`make mutations`: break each promise of mutations.toml on purpose, one at a time, and see its test turn red.

A mutant is a copy of the repository's engine with one text replaced, in an environment of its own: the `overnight`
command and every process a test starts are the mutant too, and nothing else is importable there. Two run at a time.
Names of promises, or parts of them, as arguments: only these. Exit code 1 when a mutant survives.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[2]
ENGINE = Path("src") / "overnight"
LIST = Path(__file__).with_name("mutations.toml")
LONGEST = 120.0  # seconds for one test: a mutant that hangs has not been found out
AT_ONCE = 2
# A mutant that cannot even be run is a mistake in the list, not a promise kept.
CLUMSY = ("NameError", "ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError", "UnboundLocalError")


@dataclass(frozen=True)
class Mutation:
    """One promise, and how it is broken: in `file` of the engine, `text` becomes `becomes`; `test` must notice."""

    promise: str
    file: str
    text: str
    becomes: str
    test: str

    def stale(self) -> str:
        """Say why it cannot be done any more: the engine or the test has been edited; empty when it can."""
        found = (ROOT / ENGINE / self.file).read_text(encoding="utf-8").count(self.text)
        if found != 1:
            return f"{self.promise!r}: its text is in {self.file} {found} times, not once: correct {LIST.name}"
        file, _, name = self.test.partition("::")
        if not (ROOT / file).is_file() or f"def {name.partition('[')[0]}(" not in (ROOT / file).read_text("utf-8"):
            return f"{self.promise!r}: there is no test {self.test}: correct {LIST.name}"
        return ""


@dataclass(frozen=True)
class Verdict:
    """What became of one run of pytest: `colour` is green, red, or what else went wrong."""

    colour: str
    said: str
    seconds: float


def mutations() -> list[Mutation]:
    """Read the list."""
    return [Mutation(**each) for each in tomllib.loads(LIST.read_text(encoding="utf-8"))["mutation"]]


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the engine, and a Python that knows it and the installed packages, but not the engine they hold."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / ENGINE, copy / ENGINE)
        for beside in ROOT.iterdir():  # what `overnight init` copies lies beside src
            if beside.name not in ("src", ".git", ".venv"):
                (copy / beside.name).symlink_to(beside)
        _environment(copy)
        yield copy


def _environment(copy: Path) -> None:
    """A virtual environment that lends the packages of ours; their own .pth files do not count there."""
    ours, theirs = Path(sys.prefix), copy / ".venv"
    packages = next((ours / "lib").glob("python*/site-packages"))
    lent = theirs / packages.relative_to(ours)
    lent.mkdir(parents=True)
    (lent / "mutant.pth").write_text(f"{copy / 'src'}\n{packages}\n", encoding="utf-8")
    shutil.copyfile(ours / "pyvenv.cfg", theirs / "pyvenv.cfg")
    (theirs / "bin").mkdir()
    (theirs / "bin" / "python").symlink_to((ours / "bin" / "python").resolve())
    command = (ours / "bin" / "overnight").read_text(encoding="utf-8").split("\n", 1)[1]
    script = theirs / "bin" / "overnight"
    script.write_text(f"#!{theirs / 'bin' / 'python'}\n{command}", encoding="utf-8")
    script.chmod(0o755)


def _tested(copy: Path, *tests: str) -> Verdict:
    """Run these tests there."""
    report = copy / "report.xml"
    command = [str(copy / ".venv" / "bin" / "python"), "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += [f"--junitxml={report}", f"--basetemp={copy / 'tmp'}", *tests]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    environ |= {"CI": "true", "HYPOTHESIS_STORAGE_DIRECTORY": str(copy / "examples")}  # the same examples each time
    limit = LONGEST * max(1, len(tests) / 4)
    began = time.monotonic()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
    )
    try:
        output = process.communicate(timeout=limit)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with all the processes it has started
        process.communicate()
        return Verdict("hung", f"no end within {limit:g} s", time.monotonic() - began)
    return Verdict(*_read(process.returncode, report, output), time.monotonic() - began)


def _read(code: int, report: Path, output: str) -> tuple[str, str]:
    """Green: all passed. Red: a test has failed of itself; not its setup, nor for want of a name in the mutant."""
    cases = ET.parse(report).getroot().iter("testcase") if report.exists() else iter(())  # noqa: S314  ours
    found = [(case, outcome) for case in cases for outcome in case if outcome.tag in ("failure", "error", "skipped")]
    failed = [outcome.get("message") or "failed" for _, outcome in found if outcome.tag == "failure"]
    if code == 0 and not found:
        return "green", ""
    if code == 1 and failed and len(failed) == len(found):
        said = " ".join(failed[0].split())
        return ("clumsy" if said.startswith(CLUMSY) else "red"), said
    return "broken", " ".join((output.strip() or "pytest said nothing").splitlines()[-1].split())


def unbroken(listed: list[Mutation]) -> Verdict:
    """Run all tests of the list on an engine as it is."""
    with copied() as copy:
        return _tested(copy, *dict.fromkeys(each.test for each in listed))


def broken(mutation: Mutation) -> Verdict:
    """Run the test of one mutation on its mutant."""
    with copied() as copy:
        source = copy / ENGINE / mutation.file
        bytecode = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        bytecode.unlink(missing_ok=True)
        source.write_text(source.read_text("utf-8").replace(mutation.text, mutation.becomes), encoding="utf-8")
        verdict = _tested(copy, mutation.test)
        if source.suffix == ".py" and verdict.colour in ("red", "green") and not bytecode.exists():
            return Verdict("not run", "the test has not imported the mutant", verdict.seconds)
        return verdict


def main(words: list[str]) -> int:
    """Print the table."""
    began = time.monotonic()
    listed = [each for each in mutations() if not words or any(word in each.promise for word in words)]
    if not listed:
        sys.exit(f"no promise of {LIST.name} has any of these words: {' '.join(words)}")
    if stale := [why for each in listed if (why := each.stale())]:
        sys.exit("\n".join(stale))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        first = pool.submit(unbroken, listed)
        verdicts = []
        for mutation, verdict in zip(listed, pool.map(broken, listed), strict=True):
            _say(mutation.promise, mutation.test, verdict)
            verdicts.append(verdict)
    _say("nothing: the engine as it is", "all of them", first.result())
    red = sum(verdict.colour == "red" for verdict in verdicts)
    sys.stdout.write(f"{red} of {len(listed)} mutations turn their test red, in {time.monotonic() - began:.0f} s\n")
    return int(red < len(listed) or first.result().colour != "green")


def _say(promise: str, test: str, verdict: Verdict) -> None:
    said = f"\n{'':19}{verdict.said[:200]}" if verdict.said else ""
    sys.stdout.write(f"{verdict.colour:<8}{verdict.seconds:7.1f} s  without: {promise}\n{'':19}{test}{said}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
