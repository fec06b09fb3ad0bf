"""What an agent gets to read: the passages that matter, within so many tokens, and a word of what is left out."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight import jail
from overnight.context import gathered, look_for, select, tokens_of
from overnight.errors import Denied, Permanent

BOOKS = {
    "mill.md": "The mill by the river grinds corn.\n" * 3,
    "bees.md": "Bees dance to tell where flowers are.\n" * 3,
    "code/breaker.py": "class CircuitBreaker:\n    def openedUntil(self): ...\n",
    "long.md": "\n".join(f"Line {n} says nothing." for n in range(400)) + "\nExcept here: the auditor sleeps.\n",
}


def test_the_passage_that_answers_is_chosen_and_the_rest_is_named() -> None:
    found = select("where do the bees find flowers?", BOOKS, 60)
    assert [passage.name for passage in found.passages] == ["bees.md"]
    assert set(found.left_out) == {"mill.md", "code/breaker.py", "long.md"}
    assert found.data()["documents_left_out"] == 3


@pytest.mark.parametrize("most", [0, 1, 40, 100, 333, 1_000])
def test_many_passages_never_cost_more_than_is_allowed(most: int) -> None:
    found = select("Which line says nothing of the mill and the bees?", BOOKS, most)
    assert found.tokens == sum(passage.tokens for passage in found.passages) <= most
    assert bool(found.passages) == (most >= 100)


def test_names_in_code_are_words_too() -> None:
    assert select("a breaker that is open", BOOKS, 60).passages[0].name == "code/breaker.py"


def test_of_a_long_document_the_lines_that_matter_are_given_with_their_place() -> None:
    found = select("Does the auditor sleep?", BOOKS, 300)
    passage = next(passage for passage in found.passages if passage.name == "long.md")
    assert passage.line == 391
    assert "auditor" in passage.text
    assert found.tokens < found.tokens_in_all / 5


@pytest.mark.parametrize("query", ["", "…", "zzz qqq"])
def test_a_query_that_says_nothing_chooses_nothing(query: str) -> None:
    found = select(query, BOOKS, 1_000)
    assert (found.passages, found.tokens, len(found.left_out)) == ((), 0, 4)


def test_no_documents_are_no_trouble() -> None:
    assert select("anything", {}, 100).left_out == ()
    assert select("anything", {"empty.md": "", "blank.md": "\n \n"}, 100).left_out == ("empty.md", "blank.md")


@given(
    st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=300), max_size=6),
    st.text(max_size=40),
    st.integers(0, 200),
)
def test_never_more_tokens_than_allowed_and_every_document_is_accounted_for(
    documents: dict[str, str], query: str, most: int
) -> None:
    found = select(query, documents, most)
    assert found.tokens <= most
    assert {passage.name for passage in found.passages} | set(found.left_out) == set(documents)
    assert all(tokens_of(passage.text) <= most for passage in found.passages)


def test_files_and_folders_are_gathered_without_what_is_hidden_or_ours(tmp_path: Path) -> None:
    for name in ("docs/a.md", "docs/deep/b.md", "docs/.env", "var/secret", "readme.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "docs" / "image.png").write_bytes(b"\x89PNG\0")
    (tmp_path / "docs" / "way").symlink_to(tmp_path / "var")
    assert set(gathered(tmp_path, ["docs", "readme.md"])) == {"docs/a.md", "docs/deep/b.md", "readme.md"}
    assert set(gathered(tmp_path, ["."])) == {"docs/a.md", "docs/deep/b.md", "readme.md"}
    look_for(tmp_path, ["docs", "readme.md", ".", "./docs/"])
    for find in (gathered, look_for):
        for path in ("var", "var/secret", "./var/secret", "../x", "/etc/passwd", "docs/way/secret"):
            with pytest.raises(Denied):
                find(tmp_path, [path])
        with pytest.raises(Permanent) as missing:
            find(tmp_path, ["none.md"])
        assert missing.value.code == "not_found"
    (tmp_path / "docs" / "a%20b.md").touch()
    for find in (gathered, look_for):
        with pytest.raises(Denied, match="a%20b"):
            find(tmp_path, ["docs"])


def test_to_look_for_documents_reads_nothing_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []
    real = jail.read
    (tmp_path / "a.md").write_text("a")
    monkeypatch.setattr(jail, "read", lambda root, name, limit: limits.append(limit) or real(root, name, limit))
    look_for(tmp_path, [".", "a.md"])
    assert limits == [0, 0]
