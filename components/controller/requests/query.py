"""Queries, members of JSON and page cursors of the `/v2` API; unknown names are refused."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from itsdangerous import BadData, URLSafeSerializer
from werkzeug.datastructures import MultiDict

from components.common.digits import whole_number
from components.controller.errors import bad_request

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
LONGEST_TEXT = 255
PAGE, LARGEST_PAGE = 50, 500


class Query:
    """The query of a request.

    Args:
        args: the parameters of the request.
        known: the permitted names.

    Raises:
        ApiError: BAD_REQUEST for an unknown name, or one that occurs twice.
    """

    def __init__(self, args: MultiDict[str, str], known: Collection[str]) -> None:
        for name in args:
            if name not in known:
                raise bad_request(f"{name[:40]}: there is no such parameter; known are {', '.join(known)}")
            if len(args.getlist(name)) > 1:
                raise bad_request(f"{name}: given more than once")
        self._args = args

    def text(self, name: str, default: str | None = None) -> str | None:
        """Return a text; an empty one counts as absent."""
        value = self._args.get(name)
        if not value:
            return default
        if len(value) > LONGEST_TEXT or "\0" in value:
            raise bad_request(f"{name}: want at most {LONGEST_TEXT} characters")
        return value

    def choice(self, name: str, choices: Collection[str]) -> str | None:
        """Return one of several words."""
        value = self.text(name)
        if value is not None and value not in choices:
            raise bad_request(f"{name}: want one of {', '.join(choices)}")
        return value

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Return a whole number within bounds, both included."""
        value = self._args.get(name)
        if not value:
            return default
        wrong = bad_request(f"{name}: want a whole number from {least} to {most}")
        number = whole_number(value, most)
        if number is None or number < least:
            raise wrong
        return number

    def seconds(self, name: str, default: float, most: float) -> float:
        """Return a number of seconds, from 0 to `most`."""
        value = self._args.get(name)
        if not value:
            return default
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number <= most:
            raise bad_request(f"{name}: want seconds from 0 to {most:g}")
        return number

    def cursor(self, name: str, cursors: Cursors, kind: str, longest: int = 4096) -> Any:
        """Return the value of a cursor of that kind; None where there is none."""
        value = self._args.get(name)
        if not value:
            return None
        if len(value) > longest:
            raise bad_request(f"{name}: this is not a cursor of this listing")
        return cursors.read(kind, value, name)

    def flag(self, name: str) -> bool:
        """Return whether the parameter is 1 or true."""
        return self.choice(name, ("1", "true", "0", "false")) in ("1", "true")

    def day(self, name: str, default: dt.date) -> dt.date:
        """Return a day in the form YYYY-MM-DD."""
        value = self._args.get(name)
        if not value:
            return default
        try:
            return dt.date.fromisoformat(value if _DAY.fullmatch(value) else "")
        except ValueError as error:
            raise bad_request(f"{name}: want a day as YYYY-MM-DD") from error


def members(body: Mapping[str, Any], known: Collection[str]) -> Mapping[str, Any]:
    """Return the same body, if it has only known members.

    Raises:
        ApiError: BAD_REQUEST.
    """
    for name in body:
        if name not in known:
            raise bad_request(f"{name[:40]}: there is no such member; known are {', '.join(known)}")
    return body


def whole(body: Mapping[str, Any], name: str, default: int | None, least: int, most: int) -> int | None:
    """Return a member that is a whole number within bounds, both included; null counts as absent.

    Raises:
        ApiError: BAD_REQUEST.
    """
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise bad_request(f"{name}: want a whole number from {least} to {most}")
    return value


class Cursors:
    """Signed cursors, by which any controller continues a listing; only controllers can make them.

    Args:
        keys: the token keys; the first signs, all verify.
    """

    def __init__(self, keys: list[str]) -> None:
        self._serializer = URLSafeSerializer(list(reversed(keys)), salt="ingot cursor")

    def make(self, kind: str, value: Any) -> str:
        """Return a cursor for a kind of listing; `value` is JSON."""
        text = self._serializer.dumps([kind, value])
        return text if isinstance(text, str) else text.decode()

    def read(self, kind: str, text: str, name: str) -> Any:
        """Return the value of a cursor of that kind.

        Args:
            kind: the kind with which it was made.
            text: the client's cursor.
            name: its parameter.

        Raises:
            ApiError: BAD_REQUEST for a cursor with an invalid signature, or of another listing.
        """
        wrong = bad_request(f"{name}: this is not a cursor of this listing")
        try:
            found, value = self._serializer.loads(text)
        except (BadData, TypeError, ValueError) as error:
            raise wrong from error
        if found != kind:
            raise wrong
        return value
