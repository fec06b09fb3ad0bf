"""Questions too long for one request: how data is halved, what is asked, paid, merged and kept."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from overnight.agent import Answer
from overnight.errors import Invalid, Permanent, Stop, TooLong
from overnight.split import SHORTEST, Split, in_parts, split_of
from tests.agents import HAIKU, SONNET, Bench, Edition, opened

STORIES = {"day": "Sunday", "stories": [f"s{number}" for number in range(8)]}
TEXTS = st.text(
    st.sampled_from("a é\u0301🇫🇷👩\u200d🚀👍🏽한\u1100\u1161\u0915\u094d\n. "), min_size=SHORTEST, max_size=900
)


def lists(text: str) -> Split[Any]:
    split = split_of(text, None, STORIES, list[str])
    assert split is not None
    return split


async def asked(data: Mapping[str, Any], most: int) -> list[list[str]]:
    """Divide `data` for somebody who takes `most` stories at once."""

    async def ask(part: Mapping[str, Any], divisible: bool) -> list[str]:
        if len(part["stories"]) > most:
            raise TooLong(code="http_413")
        assert divisible == (len(part["stories"]) > 1)
        return list(part["stories"])

    return await in_parts(data, lists("stories"), ask)


@given(st.integers(1, 40), st.integers(1, 40))
def test_every_entry_is_asked_once_and_in_order_whatever_fits(count: int, most: int) -> None:
    stories = [f"s{number}" for number in range(count)]
    parts = asyncio.run(asked({**STORIES, "stories": stories}, most))
    assert [story for part in parts for story in part] == stories
    assert all(0 < len(part) <= most for part in parts)


def test_one_entry_that_is_too_long_fails_as_it_is() -> None:
    with pytest.raises(TooLong):
        asyncio.run(asked(STORIES, 0))


@given(TEXTS | st.text(min_size=SHORTEST, max_size=900))
def test_a_text_is_cut_in_two_and_never_inside_what_reads_as_one_letter(text: str) -> None:
    split = Split("body", "".join)
    halves = split.halves({"body": text})
    if halves is None:
        return
    first, second = (half["body"] for half in halves)
    assert first + second == text
    assert min(len(first), len(second)) >= len(text) // 4
    assert regex.findall(r"\X", text) == regex.findall(r"\X", first) + regex.findall(r"\X", second)


@pytest.mark.parametrize(
    ("between", "ends"),
    [("\n\n", "\n\n"), ("\n", "\n"), (". ", ". "), (" ", " "), ("", "")],
    ids=["paragraph", "line", "sentence", "word", "letter"],
)
def test_a_text_is_cut_where_it_hurts_least(between: str, ends: str) -> None:
    text = between.join(["word word " * 12 if between in ("\n\n", "\n", ". ") else "letters"] * 40)
    halves = Split("body", "".join).halves({"body": text})
    assert halves is not None
    assert halves[0]["body"].endswith(ends)


def test_a_short_text_is_one_entry() -> None:
    assert Split("body", "".join).halves({"body": "x" * (SHORTEST - 1)}) is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"split": "storys"}, "split='storys' is not among day, stories in `data`"),
        ({"split": "day", "output": Edition}, "split='day' needs merge="),
        ({"merge": list}, "merge= is of use only together with split="),
    ],
)
async def test_a_split_that_cannot_be_is_said_before_anything_is_asked(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    async with opened(tmp_path) as bench:
        with pytest.raises(Stop, match="split=") as caught:
            await bench.ask(**{"data": STORIES, "output": list[str], **options})
        assert says in str(caught.value)
        assert bench.posts == 0


@pytest.mark.parametrize("value", [3, None, {"a": 1}])
async def test_what_is_no_list_in_one_item_fails_that_item_only(tmp_path: Path, value: Any) -> None:
    async with opened(tmp_path) as bench:
        with pytest.raises(Permanent, match=f"split='stories' is a {type(value).__name__} in the `data` of this item"):
            await ask(bench, data={"stories": value})
        assert bench.posts == 0


async def test_a_tuple_is_divided_as_a_list(tmp_path: Path) -> None:
    async with opened(tmp_path, together(REFUSED, 3, 4)) as bench:
        assert (await ask(bench, data={**STORIES, "stories": tuple(STORIES["stories"])})).source == "model"
        assert bench.posts == 3


def together(fault: Mapping[str, Any], first: int, second: int) -> dict[str, Any]:
    """The fault, whenever these two stories are in one request."""
    return {"match": {"contains": f"s{first}\ns{second}"}, "fault": fault}


async def ask(bench: Bench, **options: Any) -> Answer[Any]:
    return await bench.ask(**{"data": STORIES, "output": list[str], "split": "stories", **options})


REFUSED = {"kind": "status", "code": 413}
CUT = {"kind": "max_tokens"}


async def test_a_question_that_fits_is_asked_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        answer = await ask(bench)
        assert (answer.source, bench.posts) == ("model", 1)


async def test_what_the_api_refuses_for_its_size_is_asked_in_halves(tmp_path: Path) -> None:
    async with opened(tmp_path, together(REFUSED, 3, 4), together(REFUSED, 1, 2)) as bench:
        answer = await ask(bench)
        assert (answer.source, answer.model) == ("model", HAIKU)
        assert bench.fake.requests()["/v1/messages"] == {"413": 2, "200": 3}
        assert answer.cost_nano == sum(entry["cost_nano"] for entry in bench.fake.bill())
        assert bench.costs() == {answer.cost_nano}
        again = await ask(bench)
        assert (again.value, again.source, again.cost_nano) == (answer.value, "replayed", 0)
        assert len(bench.fake.bill()) == 3


async def test_a_cut_off_answer_is_paid_divided_and_never_asked_for_again(tmp_path: Path) -> None:
    async with opened(tmp_path, together(CUT, 3, 4)) as bench:
        bench.models = (HAIKU, SONNET)
        answer = await ask(bench)
        assert (answer.source, bench.posts) == ("model", 3)
        assert answer.cost_nano == sum(entry["cost_nano"] for entry in bench.fake.bill())
        assert bench.day() == (answer.cost_nano, 0)
        assert (await ask(bench)).source == "replayed"
        assert bench.posts == 3


async def test_the_parts_that_were_paid_before_a_crash_are_not_paid_again(tmp_path: Path) -> None:
    second_half = {"match": {"nth": 3}, "fault": {"kind": "status", "code": 400}}
    async with opened(tmp_path, second_half, together(CUT, 3, 4)) as bench:
        with pytest.raises(Permanent):
            await ask(bench)
        bench.fake.set_faults([])
        answer = await ask(bench)
        assert answer.source == "model"
        assert len(bench.fake.bill()) == 3, "the cut-off answer, and each half once"


async def test_a_merge_gets_the_answers_in_order_and_the_source_is_the_least_plain(tmp_path: Path) -> None:
    def one(editions: Sequence[Edition]) -> Edition:
        assert len(editions) == 2
        return Edition("; ".join(edition.subject for edition in editions), "merged")

    misshapen = {"match": {"nth": 2}, "fault": {"kind": "schema_violation"}}
    async with opened(tmp_path, together(REFUSED, 3, 4), misshapen) as bench:
        answer = await ask(bench, output=Edition, merge=one)
        assert (answer.source, answer.value.intro, bench.posts) == ("repaired", "merged", 4)


async def test_a_part_that_fails_is_the_failure_of_the_whole_and_its_fallback(tmp_path: Path) -> None:
    async with opened(tmp_path, {"match": {"contains": "s6"}, "fault": REFUSED}) as bench:
        with pytest.raises(TooLong, match="split="):
            await ask(bench)
        answer = await ask(bench, fallback=["plain"])
        assert (answer.value, answer.source) == (["plain"], "fallback")


async def test_one_entry_whose_answer_is_cut_off_is_asked_again_in_fewer_words(tmp_path: Path) -> None:
    async with opened(tmp_path, {"fault": CUT}) as bench:
        with pytest.raises(Invalid, match="max_tokens"):
            await ask(bench, data={"stories": ["s0", "s1"]})
        assert bench.posts == 3, "both, the first alone, and that once more"


async def test_a_text_is_asked_in_halves_too(tmp_path: Path) -> None:
    body = "\n\n".join(f"Paragraph {number} tells of the rain. " * 3 for number in range(6))
    fault = {"match": {"nth": 1}, "fault": REFUSED}
    async with opened(tmp_path, fault) as bench:
        answer = await bench.ask(data={"body": body}, output=str, split="body", merge=" ".join)
        assert isinstance(answer.value, str)
        assert bench.fake.requests()["/v1/messages"] == {"413": 1, "200": 2}
        assert all(json.loads(row["response"]) for row in bench.rows() if row["status"] == "ok")
