"""What the verbs of this area share: the name, the wish that parameters make, and what a change puts in place."""

from __future__ import annotations

from ..kit import Params, Probe, Refused, Steps
from ..kit.certificate import FOLDER, Credential, Wish, check, check_credential, wish_path
from ..kit.certunits import TIMER
from ..kit.spec import Param, param
from ..kit.steps import Service
from ..kit.steps.certunits import CertUnits

NAME: Param = param("name", "name", "Certificate name", positional=True, complete="cert")
#: certbot is the ACME client, nsupdate changes DNS and dig asks it, openssl makes keys.
PACKAGES = ("certbot", "bind9-dnsutils", "openssl")


def wish_of(params: Params) -> tuple[Wish, Credential]:
    """Checked. Raises Refused, and no message shows a secret."""
    tsig = params.method == "tsig"
    wish = Wish(
        name=params.name,
        names=tuple(params.names),
        directory=params.directory,
        email=params.email,
        key_type=params.key_type,
        method=params.method,
        zone=params.zone,
        servers=tuple(each if _has_port(each) else f"{_bracketed(each)}:53" for each in params.server),
        key=params.key,
        algorithm=params.algorithm if tsig else Wish._field_defaults["algorithm"],
        zone_id=params.zone_id,
        eab_key_id=params.eab_key_id,
        reload=tuple(params.reload),
        verify=tuple(params.verify),
        rehearsal=params.rehearsal,
    )
    credential = Credential(params.secret.strip(), params.eab_hmac_key.strip())
    try:
        check(wish)
        check_credential(wish, credential)
    except ValueError as error:
        raise Refused(str(error)) from None
    return wish, credential


def _has_port(place: str) -> bool:
    return place.count(":") == 1 or "]:" in place


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def renewing() -> Steps:
    """The timer in place and running."""
    yield CertUnits()
    yield Service(TIMER)


def nothing_to_renew(probe: Probe, gone: str) -> Steps:
    """Take the timer away, unless there is another certificate than the one that goes."""
    others = {entry for entry in probe.names(FOLDER) if entry.endswith(".json") and not entry.startswith(".")}
    if not others - {f"{gone}.json"}:
        yield Service(TIMER, running=False, enabled=False)
        yield CertUnits(absent=True)


def require_wish(probe: Probe, name: str) -> None:
    """Raises Refused."""
    if not probe.stat(wish_path(name)):
        raise Refused(f"there is no certificate {name} on this server: sf cert add makes one")
