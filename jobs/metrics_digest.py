"""Tell the operators each morning what the nights have cost and achieved since the last such mail."""

import json
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

from overnight import Run, job
from overnight.charts import Picture, palette, png, sparkline, stacks
from overnight.metrics import TARGET, DayCost, Figures, JobFigures, figures, last_edition
from overnight.storage import waiting

NONE = "n/a"
WIDTH = 300  # pixels of the longest bar


@dataclass(frozen=True)
class Row:
    """One job as the mail shows it; `share` is its success rate in pixels."""

    job: str
    done: str
    rate: str
    per_hour: str
    backlog: str
    p95: str
    below: bool
    share: int


@dataclass(frozen=True)
class Bar:
    """What one day has cost: `parts` are (colour, pixels), then a gap up to the budget's line or None, then a rest."""

    day: str
    cost: str
    parts: list[tuple[str, int]]
    gap: int | None
    rest: int
    over: bool


@dataclass(frozen=True)
class Chart:
    """Cost per day, stacked by model: `legend` is (model, colour, cost)."""

    bars: list[Bar]
    legend: list[tuple[str, str, str]]
    budget: str
    spark: str


@dataclass(frozen=True)
class Trouble:
    """How many items stand at a code, and whether that is new."""

    job: str
    code: str
    count: str
    new: bool


@dataclass(frozen=True)
class Words:
    """What the analyst writes about the figures: two sentences."""

    text: str


@dataclass(frozen=True)
class Digest:
    """The mail in words; `troubles` is empty on a good morning, `until` (ISO 8601) is where the next one begins."""

    period: str
    until: str
    verdict: str
    troubles: list[str]
    facts: list[tuple[str, str, str]]
    chart: Chart | None
    jobs: list[Row] | None
    errors: list[Trouble] | None
    links: list[tuple[str, str]]
    narrative: str = ""
    picture: str = ""  # base64 of a PNG


def operators(run: Run) -> Sequence[str]:
    """The addresses in `params.to`: a list, or a single one."""
    to: str | list[str] = run.params.get("to", [])
    return [to] if isinstance(to, str) else to


def opaque(address: str) -> str:
    """The key of an item: keys stand in logs and reports, where no address belongs."""
    return f"o_{sha256(address.encode()).hexdigest()[:12]}"


@job(items=operators, key=opaque)
async def metrics_digest(address: str, run: Run) -> str:
    """One operator; all of them get the same figures."""
    made = await run.once(digest)
    images = {"costs": b64decode(made.picture)} if made.picture else {}
    return await run.mail.send(address, "metrics_digest", digest=made, images=images)


async def digest(run: Run) -> Digest:
    """The figures since the last edition that somebody got, or of the last 24 hours for the first one."""
    until = run.now()
    since = await last_until(run) or until - timedelta(hours=24)
    found = await figures(run.ledger, since, until, run.zone, without=run.run_id, spooled=len(waiting(run.spool)))
    begin, end = since.astimezone(run.zone), until.astimezone(run.zone)
    where, names = str(run.params.get("reports", "")).rstrip("/"), _reports(run.root / "reports")
    links = [(name, f"{where}/latest/{name}.csv" if where else "") for name in names]
    plain = told(found, f"{begin:%a %d %b %H:%M} to {end:%a %d %b %H:%M}", links)
    return replace(plain, narrative=await narrative(run, found, plain), picture=picture(run, found))


def _reports(folder: Path) -> list[str]:
    """The reports of the project, by their files."""
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


async def last_until(run: Run) -> datetime | None:
    """Where the last edition that was sent ended, so that a morning without one is made up for by the next."""
    value = await run.ledger.read(last_edition, run.job, run.scheduled_for, digest.__name__)
    until = json.loads(value).get("until") if value else None
    return datetime.fromisoformat(until) if until else None


async def narrative(run: Run, found: Figures, plain: Digest) -> str:
    """Two sentences of the role `params.narrative`, or plain ones when it is not named, or its model is away."""
    role, words = str(run.params.get("narrative") or ""), Words(plain_words(found))
    if role:
        data = {"verdict": plain.verdict, "troubles": plain.troubles, "figures": plain.facts, "jobs": plain.jobs or []}
        words = (await run.agent(role, data=data, output=Words, fallback=words)).value
    return " ".join(words.text.split())[:600]


def plain_words(found: Figures) -> str:
    """What the figures say by themselves."""
    spent, worst = found.spending, next(iter(found.errors or ()), None)
    items = None if found.items is None else sum(found.items.values())
    ended = None if found.runs is None else sum(found.runs.values())
    what = f"{_counted(ended, 'run')} worked on {_counted(items, 'item')}"
    if spent and spent.naive_nano > spent.cost_nano:
        what += f" for {_money(spent.cost_nano)}; the strong models at once would have cost {_money(spent.naive_nano)}"
    seen = f"Most frequent of what went wrong: {worst.code} in {worst.job} ({worst.count:,})." if worst else ""
    return f"{what}. {seen or 'Nothing went wrong.'}" if found.errors is not None else f"{what}."


def picture(run: Run, found: Figures) -> str:
    """The chart as a PNG (`params.charts: png`), in base64; nothing when nobody asked for it, or it cannot be drawn."""
    if run.params.get("charts") != "png" or not found.days:
        return ""
    most = max(sum(day.models.values()) for day in found.days)
    cap = _cap(found.days)
    shown = Picture(
        labels=[f"{day.day:%d}" for day in found.days],
        rows=[day.models for day in found.days],
        colours=palette(_by_model(found.days)),
        cap=cap if cap and cap <= 3 * most else None,
        top=f"highest day {_money(most)}",
        cap_label=f"budget {_money(cap)}",
    )
    try:
        return b64encode(png(shown)).decode()
    except ImportError as error:
        run.warn("charts", str(error))
        return ""


def told(found: Figures, period: str, links: Sequence[tuple[str, str]] = ()) -> Digest:
    """The figures in words."""
    troubles = _troubles(found)
    return Digest(
        period=period,
        until=found.until.isoformat(),
        verdict=_verdict(found, troubles),
        troubles=troubles,
        facts=_facts(found),
        chart=None if found.days is None else _chart(found.days),
        jobs=None if found.jobs is None else [_row(one) for one in found.jobs],
        errors=None if found.errors is None else [Trouble(e.job, e.code, f"{e.count:,}", e.new) for e in found.errors],
        links=list(links),
    )


def _facts(found: Figures) -> list[tuple[str, str, str]]:
    items, spent = found.items or {}, found.spending
    cost, wasted, naive = (spent.cost_nano, spent.wasted_nano, spent.naive_nano) if spent else (None, None, None)
    ended = None if found.runs is None else sum(found.runs.values())
    return [
        ("Success rate", _percent(found.success_rate), _done(items, "skipped", "not begun")),
        ("Cost", _money(cost), f"asking the strong models at once: {_money(naive)}"),
        _budget(found),
        ("Waste", _money(wasted), f"on items that failed, {_share(wasted, cost)} of the cost"),
        ("Read from cache", _percent(spent.cache_share if spent else None), "of all input tokens"),
        ("Throughput", _whole(found.tasks_per_hour), f"items an hour, backlog {_whole(found.backlog)}"),
        ("Duration p95", _time(found.p95_ms), f"median {_time(found.p50_ms)}"),
        ("Runs", _whole(ended), _statuses(found.runs, found.running)),
        ("Retries pending", _whole(items.get("retry")), "taken up again by themselves"),
        ("Unknown effects", _whole(found.unknown_effects), "wait for a person: overnight settle"),
        ("Reports in the spool", _whole(found.spooled), "wait for the store"),
    ]


def _budget(found: Figures) -> tuple[str, str, str]:
    if found.budget_nano is None and "budget" not in found.failed:  # the counter is made by the day's first question
        return "Budget today", _money(0), "nothing was asked yet"
    return "Budget today", _money(found.day_cost_nano), f"of {_money(found.budget_nano)}"


def _verdict(found: Figures, troubles: list[str]) -> str:
    """One line: how it went, and in brackets how far that is from the median of the seven days before."""
    state = "Needs a look" if troubles else "All well"
    if found.items is not None and not sum(found.items.values()):
        return f"{state}: nothing was to be done"
    rate, cost, usual = "", "", found.usual
    if usual and usual.median_success_rate is not None and usual.success_rate is not None:
        rate = f" ({100 * (usual.success_rate - usual.median_success_rate):+.1f} points)"
    if usual and usual.median_cost_nano:
        cost = f" ({100 * (usual.cost_nano - usual.median_cost_nano) / usual.median_cost_nano:+.0f} %)"
    spent = found.spending.cost_nano if found.spending else None
    used = f", {_share(found.day_cost_nano, found.budget_nano)} of today's budget" if found.budget_nano else ""
    return f"{state}: {_percent(found.success_rate)} ok{rate}, {_money(spent)} spent{cost}{used}"


def _troubles(found: Figures) -> list[str]:
    """What a person should look at, and where."""
    items, runs = found.items or {}, found.runs or {}
    low = [one.job for one in found.jobs or () if one.success_rate is not None and one.success_rate < TARGET]
    dead = sum(runs.get(status, 0) for status in ("failed", "interrupted", "stopped"))
    new = [f"{one.code} ({one.job})" for one in found.errors or () if one.new]
    said = [
        (len(low), f"below the target of {_percent(TARGET)}: {', '.join(low)}"),
        (
            items.get("failed", 0),
            f"{_of(items.get('failed', 0), 'item')} failed: overnight show RUN, then overnight retry RUN",
        ),
        (len(new), f"not seen before: {', '.join(new)}"),
        (
            found.unknown_effects,
            f"{_of(found.unknown_effects or 0, 'effect')} may or may not have happened: overnight show RUN",
        ),
        (dead, f"{_of(dead, 'run')} did not end well: overnight runs"),
        (found.spooled, f"{_of(found.spooled or 0, 'report')} not uploaded yet: overnight doctor"),
        (len(found.failed), f"not to be had from the ledger: {', '.join(found.failed)}"),
    ]
    return [text for n, text in said if n]


def _by_model(days: Sequence[DayCost]) -> Counter[str]:
    total: Counter[str] = Counter()
    for day in days:
        total.update(day.models)
    return total


def _cap(days: Sequence[DayCost]) -> int | None:
    """The cap of the last day that had one: today's counter is made by its first call."""
    return next((day.cap_nano for day in reversed(days) if day.cap_nano is not None), None)


def _chart(days: Sequence[DayCost]) -> Chart:
    """Bars on one scale; a budget of more than twice the dearest day would make them all small, and has no line."""
    totals, sums = _by_model(days), [sum(day.models.values()) for day in days]
    colours, most, cap = palette(totals), max(sums), _cap(days)
    scale = max(most, cap) if cap and cap <= 2 * most else most
    line = WIDTH * cap // scale if cap and scale and cap <= scale else None
    drawn = stacks([day.models for day in days], colours, scale, WIDTH)
    bars = [_bar(day, list(bar.parts), line) for day, bar in zip(days, drawn, strict=True)]
    legend = [(model, colour, _money(totals[model])) for model, colour in colours.items()]
    far = "" if line is not None or not cap else ", far to the right"
    return Chart(bars, legend, f"budget {_money(cap)}{far}" if cap else "", sparkline(sums))


def _bar(day: DayCost, parts: list[tuple[str, int]], line: int | None) -> Bar:
    cost, used = sum(day.models.values()), sum(pixels for _, pixels in parts)
    over = day.cap_nano is not None and cost > day.cap_nano
    gap = None if line is None or used >= line else line - used
    return Bar(f"{day.day:%a %d}", _money(cost) if cost else "", parts, gap, max(0, WIDTH - used - (gap or 0)), over)


def _row(one: JobFigures) -> Row:
    return Row(
        job=one.job,
        done=_done(one.items, "not begun"),
        rate=_percent(one.success_rate),
        per_hour=_whole(one.per_hour),
        backlog=_whole(one.backlog),
        p95=_time(one.p95_ms),
        below=one.success_rate is not None and one.success_rate < TARGET,
        share=int(100 * (one.success_rate or 0)),
    )


def _done(items: Mapping[str, int], *named: str) -> str:
    """What the rate says in numbers; what it leaves out is named: what was skipped, and what was never begun."""
    if not items:
        return f"{NONE} of {NONE}"
    tried = sum(items[state] for state in ("ok", "failed", "retry", "unknown"))
    left = {"skipped": items["skipped"], "not begun": items["pending"]}
    return ", ".join([f"{items['ok']:,} of {tried:,}", *(f"{left[name]:,} {name}" for name in named if left[name])])


def _statuses(runs: dict[str, int] | None, running: int | None) -> str:
    if runs is None:
        return NONE
    told = ", ".join(f"{n} {status}" for status, n in sorted(runs.items())) or "none ended"
    return f"{told}, {running} still going on" if running else told


def _counted(n: int | None, thing: str) -> str:
    return f"{NONE} {thing}s" if n is None else _of(n, thing)


def _of(n: int, thing: str) -> str:
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def _percent(rate: float | None) -> str:
    """Rounded down, so that 100 % means all."""
    return NONE if rate is None else f"{int(rate * 1000) / 10:g} %"


def _share(part: int | None, whole: int | None) -> str:
    return NONE if part is None or not whole else f"{100 * part / whole:.0f} %"


def _money(nano: int | None) -> str:
    if nano is None:
        return NONE
    usd = Decimal(nano).scaleb(-9)
    if 0 < usd < Decimal("0.0001"):
        return "< $0.0001"
    return f"${usd:,.2f}" if usd >= Decimal("0.1") or not nano else f"${usd:.4f}"


def _whole(number: float | None) -> str:
    return NONE if number is None else f"{number:,.0f}"


def _time(ms: int | None) -> str:
    if ms is None:
        return NONE
    if ms < 1000:
        return f"{ms} ms"
    return f"{ms / 1000:.1f} s" if ms < 60_000 else f"{ms // 60_000} min {ms // 1000 % 60} s"
