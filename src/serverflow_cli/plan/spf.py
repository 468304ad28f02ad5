"""How many DNS lookups a receiver of mail makes for a name's SPF record, as far as the zone knows. RFC 7208."""

from __future__ import annotations

from serverflow_actions.kit.rdata.text import joined
from serverflow_actions.kit.rrset import fqdn

from .zone_view import ZoneView

#: More of them, and a receiver gives up (section 4.6.4).
MOST = 10
_LOOKED_UP = frozenset({"include", "a", "mx", "ptr", "exists"})


def records(view: ZoneView, name: str) -> list[str]:
    """The SPF records among the TXT of a name (section 4.5). There has to be one at most."""
    texts = view.at(name).get("TXT")
    found = [joined(value) for value in texts.values] if texts else []
    return [text for text in found if text.lower() == "v=spf1" or text.lower().startswith("v=spf1 ")]


class Lookups:
    """Counts, each record once; what is outside of the zone counts as the one lookup that finds it."""

    def __init__(self, view: ZoneView) -> None:
        self._view = view
        self._known: dict[str, int] = {}
        #: Included names of the zone that have no SPF record, by who includes them: a permanent error (section 5.2).
        self.missing: dict[str, list[str]] = {}

    def of(self, name: str) -> int:
        """At least so many. A record that includes itself counts as one too many."""
        if name not in self._known:
            self._known[name] = MOST + 1  # for whoever comes back here while it is counted
            found = records(self._view, name)
            self._known[name] = sum(self._term(name, term) for term in _terms(found[0])) if found else 0
        return self._known[name]

    def _term(self, name: str, term: str) -> int:
        if term.startswith("redirect="):
            return 1 + self._elsewhere(name, term.partition("=")[2])
        mechanism, _, rest = term.lstrip("+-~?").partition(":")
        if mechanism.partition("/")[0] not in _LOOKED_UP:
            return 0
        return 1 + (self._elsewhere(name, rest) if mechanism == "include" else 0)

    def _elsewhere(self, name: str, raw: str) -> int:
        try:
            target = fqdn(raw)
        except ValueError:
            return 0  # a macro (section 7)
        if not self._view.knows(target):
            return 0
        chain = self._view.chain(target)
        if self._view.knows(chain[-1]) and not records(self._view, chain[-1]):
            self.missing.setdefault(name, []).append(target)
        return self.of(chain[-1])


def _terms(text: str) -> list[str]:
    terms = text.lower().split()[1:]
    # What comes after `all` is never reached, and `redirect` is only for where there is none (sections 5.1, 6.1).
    ends = [at for at, term in enumerate(terms) if term.lstrip("+-~?") == "all"]
    return [term for term in terms[: ends[0]] if not term.startswith("redirect=")] if ends else terms
