"""Context selection over this project's own history: are the files found that a commit changed, and at what price?

The query is a commit's message, the documents are the text files of its parent. Beside it "first N files": as many
whole files, in the order of their names, as fit into the same tokens.

    .venv/bin/python bench/context.py [COMMITS]
"""

import subprocess
import sys
from collections.abc import Iterator

from overnight.context import select, tokens_of

SHARES = (0.01, 0.02, 0.04)
TEXT = (".py", ".md", ".toml", ".yaml", ".j2", ".sh")


def git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


def commits(most: int) -> Iterator[tuple[str, str]]:
    for line in git("log", "--no-merges", "--format=%H %s", f"-{most * 3}").splitlines():
        sha, _, subject = line.partition(" ")
        yield sha, subject


def documents(revision: str) -> dict[str, str]:
    """All text files of a revision, read by one git process."""
    names = [name for name in git("ls-tree", "-r", "--name-only", revision).splitlines() if name.endswith(TEXT)]
    asked = "".join(f"{revision}:{name}\n" for name in names).encode()
    out = subprocess.run(["git", "cat-file", "--batch"], input=asked, check=True, capture_output=True).stdout
    found, at = {}, 0
    for name in names:
        end = out.index(b"\n", at)
        size = int(out[at:end].split()[2])
        found[name] = out[end + 1 : end + 1 + size].decode(errors="replace")
        at = end + 2 + size
    return found


def first_files(texts: dict[str, str], most: int) -> set[str]:
    taken, left = set(), most
    for name, text in texts.items():
        left -= tokens_of(text)
        if left < 0:
            break
        taken.add(name)
    return taken


def main(most: int = 60) -> None:
    rows: dict[float, list[tuple[float, float, float]]] = {share: [] for share in SHARES}
    seen = 0
    for sha, subject in commits(most):
        changed = set(git("diff", "--name-only", "--diff-filter=M", f"{sha}~1", sha).splitlines())
        changed = {name for name in changed if name.endswith(TEXT) and not name.startswith("tests/")}
        if not 1 <= len(changed) <= 8:
            continue
        texts = documents(f"{sha}~1")
        whole = sum(map(tokens_of, texts.values()))
        for share in SHARES:
            found = select(subject, texts, round(whole * share))
            ours = {passage.name for passage in found.passages}
            naive = first_files(texts, round(whole * share))
            rows[share].append(
                (len(changed & ours) / len(changed), len(changed & naive) / len(changed), found.tokens / whole)
            )
        seen += 1
        if seen == most:
            break
    print(f"{seen} commits that changed one to eight files; share of these files that are found")
    print(f"{'tokens at most':>15} {'used':>7} {'selected':>9} {'first N files':>14}")
    for share, each in rows.items():
        ours, naive, used = (sum(column) / len(each) for column in zip(*each, strict=True))
        print(f"{share:>15.0%} {used:>7.2%} {ours:>9.0%} {naive:>14.0%}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
