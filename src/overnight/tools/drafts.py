"""`mail.draft`: a mail that lies in a folder until a person sends it."""

import asyncio
from typing import Annotated

from pydantic import AfterValidator, Field

from overnight import jail
from overnight.errors import Denied
from overnight.tools.port import Arguments, Hands, Limits, tool

LOCAL = "localhost.localdomain"


def _recipient(pattern: str) -> str:
    local, at, host = pattern.rpartition("@")
    if not (local and at and host) or ("*" in pattern and local != "*"):
        raise ValueError(f"{pattern!r} is no recipient; write ops@example.org, or *@example.org for all of a domain")
    return pattern


class To(Limits):
    """To whom a draft may be addressed; `folder` is where it lies, relative to the project's."""

    to: list[Annotated[str, AfterValidator(_recipient)]] = Field(min_length=1)
    """Addresses that a draft may be for."""
    folder: str = "var/drafts"
    """Where drafts are put."""

    def refuse(self, asked: "Draft") -> None:
        """Deny other recipients."""
        from overnight.mail.message import mailbox  # noqa: PLC0415  late: every look at schedule.yaml loads this module

        address = mailbox(asked.to).address.lower()
        allowed = [each.lower() for each in self.to]
        if address not in allowed and f"*@{address.rpartition('@')[2]}" not in allowed:
            raise Denied(f"mail to {address} is not allowed; allowed: {', '.join(self.to)}", code="recipient")

    def trusted(self, asked: "Draft") -> list[str]:
        """A draft names its recipient, who is one of those allowed."""
        return [asked.to]


class Draft(Arguments):
    """One mail."""

    to: str = Field(max_length=320, description="One plain address")
    subject: str = Field(min_length=1, max_length=200)
    text: str = Field(min_length=1)


@tool("mail.draft", publishes=True, writes=True)
async def draft(asked: Draft, limits: To, hands: Hands) -> dict[str, str]:
    """Leave a mail as a draft for a person, who reads it and may send it. Nothing is sent."""
    from overnight.mail.form import build  # noqa: PLC0415  late
    from overnight.mail.message import Envelope, Heading, mailbox  # noqa: PLC0415
    from overnight.mail.templates import Rendered  # noqa: PLC0415

    heading, name = Heading(mailbox(f"overnight@{LOCAL}")), f"{hands.call_id}.eml"
    envelope = Envelope(mailbox(asked.to), f"<{hands.call_id}@{LOCAL}>", hands.clock.now())
    data = build(heading, envelope, Rendered(asked.subject, asked.text, None))
    place = hands.root / limits.folder

    async def do() -> dict[str, str]:
        await asyncio.to_thread(jail.write, place, name, data)
        return {"draft": f"{limits.folder}/{name}"}

    async def find() -> dict[str, str] | None:
        return None  # the same file once more is the same draft

    async def undo(_value: object) -> None:
        await asyncio.to_thread(jail.remove, place, name)

    return await hands.once(do, find=find, undo=undo)
