"""Counts as people write them."""


def counted(n: int, one: str, many: str = "") -> str:
    """`1 mail`, `12,345 mails`; `many` for what does not just get an s."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"
