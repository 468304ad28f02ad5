"""What may stand in sudoers(5): rules for users and groups by name. No Defaults, aliases or includes, and no word about
ServerFlow's own login. A rule may give all that root can.
"""

from __future__ import annotations

import re

from ._content import refusal, statements

_NAME = "[a-z_][a-z0-9_-]{0,31}"
_ARGUMENT = r"[A-Za-z0-9._/@%+*?-]+"
_COMMAND = rf'(?:ALL|(?:/[A-Za-z0-9._+-]+)+(?:[ \t]+(?:""|{_ARGUMENT}(?:[ \t]+{_ARGUMENT})*))?)'
_RULE = re.compile(
    rf"%?{_NAME}[ \t]+(?:ALL|[a-z0-9][a-z0-9.-]{{0,252}})[ \t]*=[ \t]*"
    rf"\((?:ALL|{_NAME})(?:[ \t]*:[ \t]*(?:ALL|{_NAME}))?\)[ \t]*(?:NOPASSWD:[ \t]*)?"
    rf"{_COMMAND}(?:[ \t]*,[ \t]*{_COMMAND})*\Z",
    re.ASCII,
)


def check(content: str) -> None:
    """Raises Refused."""
    for number, line in statements(content, ""):
        if line.startswith("#"):
            # `#include` reads a file, and `#1000` is a user.
            if not re.match(r"#+(?: |\Z)", line):
                raise refusal(number, "a comment begins with # and a blank")
        elif "serverflow" in line.lower():
            raise refusal(number, "is about serverflow: its own rule is enrolment's")
        elif not _RULE.match(line) or ".." in line:
            raise refusal(number, "is not of the form `USER|%GROUP HOST=(RUNAS) [NOPASSWD:] COMMAND[, COMMAND]`")
