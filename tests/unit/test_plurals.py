"""Counts as people write them."""

import ast
import re
from pathlib import Path

import pytest

import overnight
from overnight.plurals import counted


@pytest.mark.parametrize(
    ("n", "said"), [(0, "0 mails"), (1, "1 mail"), (2, "2 mails"), (12_345, "12,345 mails")], ids=str
)
def test_one_is_singular_and_everything_else_plural(n: int, said: str) -> None:
    assert counted(n, "mail") == said
    assert counted(n, "duplicate row", "rows, duplicate") == said.replace("mails", "rows, duplicate").replace(
        "mail", "duplicate row"
    )


def test_no_message_puts_a_plural_behind_a_number_that_may_be_one() -> None:
    plural = re.compile(r" (mails|turns|messages|publications|duplicate rows)\b(?! were)")
    found = [
        f"{path.name}:{text.lineno}: {text.values[n + 1].value}"  # type: ignore[attr-defined]
        for path in Path(overnight.__file__).parent.rglob("*.py")
        for text in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(text, ast.JoinedStr)
        for n, value in enumerate(text.values[:-1])
        if isinstance(value, ast.FormattedValue)
        and not (isinstance(value.value, ast.Name) and value.value.id.isupper())
        and isinstance(text.values[n + 1], ast.Constant)
        and plural.match(str(text.values[n + 1].value))  # type: ignore[attr-defined]
    ]
    assert found == []
