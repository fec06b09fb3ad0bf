"""The ports of a run: whatever one of them does at the end, the others are closed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from overnight.ports import Absent, open_ports
from overnight.schedule import load
from tests.slots import ManualClock, open_ledger


class Jammed:
    async def close(self) -> None:
        raise OSError(28, "No space left on device")


class Closed(Absent):
    done = False

    async def close(self) -> None:
        self.done = True


async def test_a_port_that_cannot_be_closed_keeps_no_other_open_and_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "schedule.yaml").write_text("version: 1\njobs: { greet: { every: 1h } }\n", encoding="utf-8")
    clock = ManualClock()
    schedule, ledger = load(tmp_path / "schedule.yaml", {}), open_ledger(tmp_path, clock)
    ports, model, jammed = open_ports(tmp_path, schedule, schedule.jobs["greet"], ledger, clock), Closed(), Jammed()
    broken: Any = {"dependencies": jammed, "mailer": jammed}
    with capture_logs() as lines:
        await replace(ports, agent=replace(ports.agent, model=model), **broken).close()
    assert model.done
    assert [line["port"] for line in lines] == ["Jammed", "Jammed"]
    await ports.close()
    ledger.close()
