"""Debian's Postfix on loopback, with a configuration, a queue and mailboxes of its own.

readers.example   mailboxes that exist; anybody else there is refused with 550 5.1.1 at once
gone.example      taken, and returned when the server of that domain says 550 5.1.1
full.example      taken, and returned when it says 552 5.2.2
example.org       bounces@ and whatever follows its plus
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM = shutil.which("postfix", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""
MAIN = """
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {home}/log
maillog_file_prefixes = {home}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = relay.test
mydestination =
mynetworks = 127.0.0.0/8
relay_domains = gone.example full.example
virtual_mailbox_domains = example.org readers.example
virtual_mailbox_base = {home}/boxes
virtual_mailbox_maps = texthash:{home}/mailboxes
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
transport_maps = inline:{{ {{ gone.example = smtp:[127.0.0.1]:{far} }}, {{ full.example = smtp:[127.0.0.1]:{far} }} }}
far_side = check_recipient_access inline:{{ {{ gone.example = 550 5.1.1 no such mailbox }},
  {{ full.example = 552 5.2.2 mailbox is full }} }}, reject
recipient_delimiter = +
alias_maps =
alias_database =
notify_classes =
"""
SERVICES = (
    "127.0.0.1:{port} inet n - n - - smtpd",
    "127.0.0.1:{far} inet n - n - - smtpd -o myhostname=far.test -o smtpd_recipient_restrictions=$far_side",
    "smtp unix - - n - - smtp",
    "cleanup unix n - n - 0 cleanup",
    "qmgr unix n - n 300 1 qmgr",
    "rewrite unix - - n - - trivial-rewrite",
    "bounce unix - - n - 0 bounce",
    "defer unix - - n - 0 bounce",
    "trace unix - - n - 0 bounce",
    "flush unix n - n 1000? 0 flush",
    "proxymap unix - - n - - proxymap",
    "error unix - - n - - error",
    "retry unix - - n - - error",
    "virtual unix - n n - - virtual",
    "anvil unix - - n - 1 anvil",
    "postlog unix-dgram n - n - 1 postlogd",
)


@dataclass(frozen=True)
class Postfix:
    """A running one."""

    home: Path
    port: int

    @property
    def url(self) -> str:
        """For `mail: transport`."""
        return f"smtp://127.0.0.1:{self.port}"

    @property
    def bounces(self) -> Path:
        """The maildir to which undeliverable mail comes back."""
        return self.home / "boxes" / "bounces"

    def delivered(self) -> list[Path]:
        """The mails in all readers' mailboxes, which are one folder."""
        return sorted((self.home / "boxes" / "readers" / "new").glob("*"))


@contextmanager
def postfix(readers: Sequence[str]) -> Iterator[Postfix]:
    """Run it for as long as the block lasts: in a folder that its own users can reach, as pytest's are root's alone."""
    port, far = _free_ports()
    owner = pwd.getpwnam("nobody")  # the mailboxes must not be root's
    with tempfile.TemporaryDirectory(prefix="postfix-") as name:
        home = Path(name)
        home.chmod(0o755)
        for folder in ("etc", "queue", "data", "boxes"):
            (home / folder).mkdir()
        shutil.chown(home / "data", "postfix")
        shutil.chown(home / "boxes", owner.pw_uid, owner.pw_gid)
        boxes = [f"{address} readers/" for address in readers]
        (home / "mailboxes").write_text("\n".join(["bounces@example.org bounces/", *boxes, ""]), encoding="utf-8")
        main = MAIN.format(home=home, far=far, uid=owner.pw_uid, gid=owner.pw_gid)
        (home / "etc" / "main.cf").write_text(main, encoding="utf-8")
        (home / "etc" / "master.cf").write_text("\n".join(SERVICES).format(port=port, far=far) + "\n", encoding="utf-8")
        _call(home, "start")
        try:
            yield Postfix(home, port)
        finally:
            _call(home, "stop")


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1]), int(other.getsockname()[1])


def _call(home: Path, what: str) -> None:
    done = subprocess.run(
        [PROGRAM, "-c", str(home / "etc"), what], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
