"""The operator's desk: what runs, what failed, what it costs, and the buttons for it.

gate       who gets in, and what every answer forbids
sessions   which sessions have logged out
queries    what is asked of the ledger
figures, concerns, coming, drawing, letters, settings     what the pages show
pages      templates to answers
reading, doing     the handlers
"""

from collections.abc import Callable

from aiohttp import web

from overnight.health import Examiner
from overnight.runner import Workplace
from overnight.web.access import Access
from overnight.web.desk.doing import Doing, Nobody, Starter
from overnight.web.desk.entering import Entering
from overnight.web.desk.gate import Gate
from overnight.web.desk.pages import Pages, static
from overnight.web.desk.reading import Reading

__all__ = ["Nobody", "Starter", "desk_routes"]


def desk_routes(
    current: Callable[[], Workplace],
    access: Access,
    examiner: Examiner,
    problem: Callable[[], str | None],
    starter: Starter,
    patience: float,
) -> list[web.RouteDef]:
    """The routes of the desk."""
    pages = Pages(current)
    gate = Gate(current, access, patience, pages.failed)
    doing, entering = Doing(current, starter), Entering(gate, pages)
    reading = Reading(current, examiner, problem, pages, doing)
    looked_at = {
        "/": reading.overview,
        "/jobs/{job}": reading.job,
        "/runs": reading.runs,
        "/runs/{run}": reading.run,
        "/runs/{run}/item": reading.item,
        "/runs/{run}/mail": reading.mail,
        "/costs": reading.costs,
        "/schedule": reading.schedule,
        "/alerts": reading.alerts,
    }
    done = {
        "/jobs/{job}/run": doing.run_now,
        "/jobs/{job}/pause": doing.pause,
        "/jobs/{job}/resume": doing.resume,
        "/runs/{run}/retry": doing.retry,
        "/runs/{run}/cancel": doing.cancel,
        "/runs/{run}/settle": doing.settle,
        "/alerts/silence": doing.silence,
        "/alerts/unsilence": doing.unsilence,
        "/logout": entering.leave,
    }
    return [
        *(web.get(path, gate.page(handler)) for path, handler in looked_at.items()),
        *(web.post(path, gate.action(handler)) for path, handler in done.items()),
        web.get("/login", gate.open_page(entering.ask)),
        web.post("/login", gate.action(entering.enter, for_all=True)),
        web.get("/static/{name}", static),
    ]
