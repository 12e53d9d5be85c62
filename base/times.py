"""Times as people write them, read exactly."""

from __future__ import annotations

import re
from fractions import Fraction

from .errors import TextError
from .values import shown

_TIME = re.compile(
    r"(?:(?:(?P<hours>[0-9]{1,4}):(?P<sixty>[0-5][0-9])|(?P<minutes>[0-9]{1,6})):(?P<second>[0-5][0-9])"
    r"|(?P<seconds>[0-9]{1,8}))(?P<part>\.[0-9]{1,20})?"
)


def parse_time(text: str) -> Fraction:
    """Read ``M:SS``, ``H:MM:SS`` or bare seconds, each with or without decimals, as exact seconds.

    ``1:05.5`` is 131/2. Minutes may pass 59 where there are no hours: ``75:00`` is 4500.

    Raises:
        LongTalkError: anything else: a sign, seconds from 60 on after a colon, one digit after a colon.
    """
    found = _TIME.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise TextError(
            "time",
            expected="M:SS, H:MM:SS or seconds, like 1:05, 1:05.5, 1:02:03 or 65.5",
            actual=shown(text),
            action="Write the time in one of these ways",
        )
    hours, minutes, seconds = (
        int(found[first] or found[second] or 0)
        for first, second in (("hours", "hours"), ("sixty", "minutes"), ("second", "seconds"))
    )
    return 3600 * hours + 60 * minutes + seconds + Fraction("0" + (found["part"] or ""))
