"""Whole numbers as foreign texts write them.

`str.isdigit` is true of `²`, which `int` refuses, and of digits of every script, which `int` takes; and `int` refuses texts of
more than 4300 digits. So this module reads every number that comes from elsewhere.
"""

from __future__ import annotations

# The largest number that a column of the database, and an integer of most languages, holds.
MOST = (1 << 63) - 1
_LONGEST = len(str(MOST))


def whole_number(text: str, most: int = MOST) -> int | None:
    """Return the number that ASCII digits write, from 0 to `most`; None for every other text."""
    if len(text) > _LONGEST or not text.isascii() or not text.isdigit():
        return None
    number = int(text)
    return number if number <= most else None
