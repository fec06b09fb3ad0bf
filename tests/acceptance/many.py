"""Call many commands in one process, which costs one start: JSON lists of words on stdin, answers on stdout."""

import contextlib
import io
import json
import sys

from overnight.cli import _guarded, common_first


def called(words: list[str]) -> tuple[int, str]:
    """The exit code of a command, however it ends, and what it has said on stdout."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            code = _guarded(common_first(words))
        except SystemExit as error:
            code = int(error.code or 0)
    return code, said.getvalue()


if __name__ == "__main__":
    json.dump([called(words) for words in json.load(sys.stdin)], sys.stdout)
