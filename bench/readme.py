"""A newcomer's first hour: README's commands, word for word, typed by a user who has Python, make and an empty home.

Needs root, who makes that user and takes it away again. Only `make demo` has a network; all that follows has a loopback
of its own, where the machine allows that, with the newcomer's feed on it. Prints how long each command took; fails when
one does, or without a mail. `--once`: `make demo` just as pip's cache finds it, not a second time with its downloads.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from email.utils import format_datetime
from pathlib import Path
from shlex import quote

ROOT = Path(__file__).resolve().parents[1]
FIRST, AFTER = "## Try it", "## A job"  # the chapters that a newcomer types
STORY = "The harbour has a new crane"
FEED = f"""<?xml version="1.0"?><rss version="2.0"><channel><title>Harbour news</title><item>
<title>{STORY}</title><link>https://example.org/crane</link><guid>crane</guid><description>Sixty tons.</description>
<pubDate>{format_datetime(datetime.now(UTC) - timedelta(days=2))}</pubDate></item></channel></rss>"""
EDITOR = """#!/usr/bin/python3
import pathlib, re, sys
file = pathlib.Path(sys.argv[1])
text, places = re.subn(r"^      window: .*?\\n(?=\\n)", {fragment!r}, file.read_text(), flags=re.M | re.S)
assert places == 1, f"the feeds are in {{file}} {{places}} times"
file.write_text(text)
"""
ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
# Whoever serves looks at the page and goes home.
SERVE = """overnight serve & serve=$!
for _ in $(seq 100); do
  python3 -c 'import urllib.request; urllib.request.urlopen("http://127.0.0.1:8650/", timeout=5)' 2>/dev/null && break
  sleep 0.2
done
kill -TERM $serve; wait $serve"""
SESSION = """trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
typed() {
  echo "\\$ $1"; local began=$EPOCHREALTIME
  eval "$2" || { echo "exit code $?"; exit 1; }
  printf '%s %s\\t%s\\n' "$began" "$EPOCHREALTIME" "$1" >>"$HOME/typed"
}
"""


@dataclass(frozen=True)
class Newcomer:
    """A user of this machine and their home."""

    name: str
    home: Path

    def types(self, commands: list[str], *, alone: bool) -> None:
        """Type these in one shell; `alone`: without a network, if that can be had. Raises CalledProcessError."""
        script = self.home / "session.sh"
        typed = [f"typed {quote(each)} {quote(SERVE if each == 'overnight serve' else each)}" for each in commands]
        server = ["python3 -m http.server --bind 127.0.0.1 --directory ~/site 8080 >/dev/null 2>&1 &"] * alone
        script.write_text("\n".join([SESSION, "cd ~/overnight", *server, *typed]), encoding="utf-8")
        shell = ["setpriv", "--reuid", self.name, "--regid", self.name, "--init-groups", "env", "-i"]
        shell += [
            f"HOME={self.home}",
            f"EDITOR={self.home}/editor",
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "LC_ALL=C.UTF-8",
        ]
        shell += ["bash", str(script)]
        if alone and subprocess.run([*ALONE, "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0:
            shell = [*ALONE, *shell]
        subprocess.run(shell, check=True, stdin=subprocess.DEVNULL)

    def took(self) -> Iterator[tuple[str, float]]:
        """Each command so far, with its seconds."""
        for line in (self.home / "typed").read_text(encoding="utf-8").splitlines():
            times, command = line.split("\t")
            began, ended = map(float, times.split())
            yield command, ended - began


@contextmanager
def newcomer() -> Iterator[Newcomer]:
    """Somebody who has cloned the repository, as git has it now."""
    name = f"newcomer-{os.getpid()}"
    home = Path(tempfile.mkdtemp(prefix="newcomer-"))
    subprocess.run(["useradd", "--no-create-home", "--home-dir", str(home), "--shell", "/bin/bash", name], check=True)
    try:
        copy = ["git", "-C", str(ROOT), "checkout-index", "--all", f"--prefix={home}/overnight/"]
        subprocess.run(copy, check=True)
        (home / "site").mkdir()
        (home / "site" / "feed.xml").write_text(FEED, encoding="utf-8")
        editor = home / "editor"
        editor.write_text(EDITOR.format(fragment=own_feeds(home / "overnight")), encoding="utf-8")
        editor.chmod(0o755)
        subprocess.run(["chown", "-R", f"{name}:", str(home)], check=True)
        yield Newcomer(name, home)
    finally:
        subprocess.run(["userdel", name], check=True)
        shutil.rmtree(home)


def chapters(checkout: Path) -> str:
    return (checkout / "README.md").read_text(encoding="utf-8").partition(FIRST)[2].partition(AFTER)[0]


def commands(checkout: Path) -> list[str]:
    """What the blocks of these chapters say to type."""
    blocks = re.findall(r"^```sh\n(.*?)^```", chapters(checkout), flags=re.MULTILINE | re.DOTALL)
    return [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]


def own_feeds(checkout: Path) -> str:
    """The `params` that they say to write into schedule.yaml, with an address that answers here."""
    [params] = re.findall(r"^```yaml\n.*?params:\n(.*?)^```", chapters(checkout), flags=re.MULTILINE | re.DOTALL)
    return str(params).replace("https://example.org/feed.xml", "http://127.0.0.1:8080/feed.xml")


def mails(home: Path) -> list[str]:
    """The subjects of the digests in all outboxes of the newcomer's own projects."""
    paths = home.glob("*/var/outbox/daily_email/**/*.eml")
    return [str(message_from_bytes(path.read_bytes(), policy=default)["Subject"]) for path in paths]


def main() -> int:
    with newcomer() as who:
        demo, *rest = commands(who.home / "overnight")
        who.types([demo], alone=False)  # fills pip's cache
        if "--once" not in sys.argv:
            who.types(["rm -rf .venv overnight-demo", demo], alone=False)
        who.types(rest, alone=True)
        print(f"\n{'command':<60}{'seconds':>8}")
        for command, seconds in who.took():
            print(f"{command:<60}{seconds:>8.1f}")
        print(found := mails(who.home))
    return int(found != [STORY])


if __name__ == "__main__":
    sys.exit(main())
