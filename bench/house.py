"""The house rules on size: prints the table, fails when a module or a function is too long."""

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

LONGEST_MODULE = 400
LONGEST_FUNCTION = 60
CODE = ("src", "jobs", "reports")


def modules(*folders: str) -> dict[Path, str]:
    return {path: path.read_text() for folder in folders for path in sorted(Path(folder).rglob("*.py"))}


def functions(source: str) -> Iterator[tuple[str, int, int]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


def row(name: str, lengths: list[int], limit: int) -> str:
    ordered = sorted(lengths) or [0]
    p90 = ordered[int(0.9 * (len(ordered) - 1))]
    return f"{name:<10}{len(lengths):>7}{statistics.median(ordered):>8.0f}{p90:>6}{ordered[-1]:>6}{limit:>7}"


def main() -> int:
    code = {path: text for path, text in modules(*CODE).items() if text.strip()}
    sizes = {path: len(text.splitlines()) for path, text in code.items()}
    found = [(path, *each) for path, text in code.items() for each in functions(text)]
    tests = sum(len(text.splitlines()) for text in modules("tests").values())
    print(f"{'lines':<10}{'count':>7}{'median':>8}{'p90':>6}{'max':>6}{'limit':>7}")
    print(row("modules", list(sizes.values()), LONGEST_MODULE))
    print(row("functions", [length for *_, length in found], LONGEST_FUNCTION))
    print(f"code {sum(sizes.values())} lines, tests {tests} lines, {tests / max(1, sum(sizes.values())):.2f} to 1")
    broken = [
        f"{path}: {size} lines, split it by what it does" for path, size in sizes.items() if size > LONGEST_MODULE
    ]
    broken += [
        f"{path}:{line}: {name} has {length} lines, name its steps"
        for path, name, line, length in found
        if length > LONGEST_FUNCTION
    ]
    print("\n".join(broken) or "no module and no function is over its limit")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
