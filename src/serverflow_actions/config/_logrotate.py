"""What may stand in logrotate(8)'s configuration: blocks for logs below /var/log and /srv, no scripts, no programs.

Who owns a folder can move it away while logrotate, as root, works in it, and so have files written elsewhere. Apps own
theirs below /srv: there a block needs `su`, with a user who is not root.
"""

from __future__ import annotations

import re

from ._content import check_value, refusal, statements

_SIZE = "[0-9]{1,12}[kMG]?"
_COUNT = "[0-9]{1,5}"
_NAME = "[a-z_][a-z0-9_-]{0,31}"
#: Directives without a value, then those with one.
_BARE = (
    "hourly", "daily", "monthly", "yearly", "compress", "nocompress", "delaycompress", "nodelaycompress",
    "copytruncate", "nocopytruncate", "nocreate", "dateext", "nodateext", "dateyesterday", "datehourago", "missingok",
    "nomissingok", "ifempty", "notifempty", "noolddir", "noshred", "nomail",
)  # fmt: skip
ALLOWED = {
    **dict.fromkeys(_BARE, ""),
    "weekly": "[0-7]?",
    # With 0 nothing is kept.
    "rotate": "[1-9][0-9]{0,4}",
    "start": _COUNT,
    "maxage": _COUNT,
    "minage": _COUNT,
    "size": _SIZE,
    "minsize": _SIZE,
    "maxsize": _SIZE,
    "create": rf"(?:0?[0-7]{{3}}(?:[ \t]+{_NAME}[ \t]+{_NAME})?)?",
    "dateformat": "[-._]?(?:%[YmdHMS][-._]?){1,6}",
    "extension": r"\.[A-Za-z0-9]{1,16}",
    "su": rf"(?!(?:root|serverflow)\b)({_NAME})[ \t]+\1",
}
_PATH = re.compile(r"/(?:var/log|srv)(?:/[A-Za-z0-9_.*?+@\[\]-]+)+\Z", re.ASCII)


def check(content: str) -> None:
    """Raises Refused."""
    paths: list[str] = []
    inside, directives, number = False, set(), 0
    for number, line in statements(content):
        if inside and line == "}":
            if any(path.startswith("/srv/") for path in paths) and "su" not in directives:
                raise refusal(number, "a block for logs below /srv needs `su USER USER`, with the app's user")
            inside, paths = False, []
        elif inside:
            directive, _, value = line.replace("\t", " ").partition(" ")
            check_value(number, directive, value.strip(), ALLOWED)
            directives.add(directive)
        else:
            words = line.replace("\t", " ").split(" ")
            opens = words[-1] == "{"
            paths += [_path(number, word) for word in (words[:-1] if opens else words) if word]
            if opens and not paths:
                raise refusal(number, "a block begins with the paths of its logs")
            inside, directives = opens, set()
    if inside or paths:
        raise refusal(number, "the last block is not whole: PATHS { directives }, with the } on a line of its own")


def _path(number: int, word: str) -> str:
    # `.*` would match `..`, which leads out.
    if not _PATH.match(word) or "/." in word:
        raise refusal(number, f"{word[:60]} is not a path below /var/log or /srv; directives stand inside of a block")
    return word
