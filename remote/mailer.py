"""Alerts as mail by SMTP: RFC 5321, 5322 and 2047, STARTTLS (RFC 3207) or TLS from the start (RFC 8314), AUTH."""

from __future__ import annotations

import contextlib
import re
import smtplib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Any

import posts
import wording
from channels import Channel
from said import FAILED, REFUSED, SENT, UNANSWERED, UNREACHABLE, Said, why

SECONDS = 10
#: After the message: a server that looks at it takes its time, and whoever hangs up then sends it twice. RFC 5321,
#: 4.5.3.2.6 asks for ten minutes. Half of that, since the other channels wait meanwhile, and one run of the notifier is
#: to be over in time (deliver.py, alerts.py) even if it comes at its end.
SECONDS_AT_THE_END = 300
SECONDS_FOR_GOODBYE = 2

_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}\Z")
#: RFC 3463, at the beginning of what the server says.
_ENHANCED = re.compile(rb"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?= |\Z)")
_POINT = re.compile(rb"^\.", re.MULTILINE)

UNANSWERED_WORDS = "it did not answer after the message"


def send(
    channel: Channel, event: Mapping[str, Any], left: Sequence[str] = (), handed_over: Callable[[], None] = lambda: None
) -> Said:
    """One message to all recipients, or to those that are left. Who was put off is left then. `handed_over` is called
    once the other side has all of the message, and its answer is waited for.
    """
    settings = channel.settings
    recipients = [one for one in settings["to"] if not left or one in left]
    if not recipients:
        return Said(SENT, "whoever was left is no recipient any more")
    try:
        sender, data = address_of(settings["sender"]), message(settings, event)
        smtp = _connect(settings, event["hostname"])
        try:
            return _converse(smtp, settings, sender, recipients, data, handed_over)
        finally:
            _leave(smtp)
    except smtplib.SMTPNotSupportedError:
        return Said(REFUSED, "it does not offer STARTTLS")
    except smtplib.SMTPAuthenticationError as error:
        return _answered("refused the login", error.smtp_code, error.smtp_error)
    except smtplib.SMTPResponseException as error:
        return _answered("refused", error.smtp_code, error.smtp_error)
    except smtplib.SMTPException:
        return Said(UNREACHABLE, "it hung up, or does not speak SMTP as it should")
    except (OSError, ValueError) as error:
        return why(error)


def _connect(settings: Mapping[str, Any], hostname: str) -> smtplib.SMTP:
    # With a name for EHLO: to find one, smtplib would ask the resolver, which may be what is broken.
    greeting = hostname if _DOMAIN.match(hostname) else "[127.0.0.1]"
    host, port = settings["host"], settings["port"]
    if settings["security"] == "tls":
        return smtplib.SMTP_SSL(host, port, greeting, timeout=SECONDS, context=posts.tls())
    smtp = smtplib.SMTP(host, port, greeting, timeout=SECONDS)
    if settings["security"] == "starttls":
        try:
            smtp.starttls(context=posts.tls())
        except BaseException:
            smtp.close()
            raise
    return smtp


def _converse(
    smtp: smtplib.SMTP,
    settings: Mapping[str, Any],
    sender: str,
    recipients: Sequence[str],
    data: bytes,
    handed_over: Callable[[], None],
) -> Said:
    smtp.ehlo_or_helo_if_needed()
    if settings["username"]:
        try:
            smtp.login(settings["username"], settings["password"])
        except smtplib.SMTPNotSupportedError:
            return Said(REFUSED, "it does not offer a login")
        except UnicodeError:  # it would show the password
            return Said(REFUSED, "the login has characters that cannot be sent")
    code, words = smtp.mail(sender)
    if code != 250:
        return _answered("refused the sender", code, words)
    answers = {one: smtp.rcpt(one) for one in recipients}
    taken = [one for one, (code, _) in answers.items() if code in (250, 251)]
    refused = [one for one in recipients if one not in taken]
    for_good = [one for one in refused if _answered("", *answers[one]).verdict == REFUSED]
    put_off = [one for one in refused if one not in for_good]
    if not taken:
        whom = "every recipient" if recipients == settings["to"] else ", ".join(recipients)
        # One that may be taken later is worth another attempt.
        said = _answered(f"refused {whom}", *answers[(put_off or for_good)[0]])
        return _but(said, for_good, put_off) if put_off else said
    code, words = smtp.docmd("DATA")
    is_asked_for = code == 354
    if is_asked_for:
        code, words = _sent(smtp, data, handed_over)
        if code == -1:
            return _but(Said(UNANSWERED, UNANSWERED_WORDS), for_good, taken + put_off)
    if code != 250 or not is_asked_for:
        return _but(_answered("refused the message", code, words), for_good, taken + put_off)
    if put_off:
        later = _answered(f"took the message, but not yet for {', '.join(put_off)}", *answers[put_off[0]])
        return _but(later, for_good, put_off)
    left_out = ", ".join(for_good)
    return Said(SENT, f"it took the message, but not for {left_out}" if left_out else "it took the message")


def _sent(smtp: smtplib.SMTP, data: bytes, handed_over: Callable[[], None]) -> tuple[int, bytes]:
    """The answer to the message, -1 for none. As smtplib's own data(), which does not tell a server that hangs up
    before the end of the message, and cannot have taken it, from one that does so after it.
    """
    smtp.send(_POINT.sub(b"..", data) + (b".\r\n" if data.endswith(b"\r\n") else b"\r\n.\r\n"))
    handed_over()
    try:
        if smtp.sock:
            smtp.sock.settimeout(SECONDS_AT_THE_END)
        return smtp.getreply()
    except (OSError, smtplib.SMTPException):
        return -1, b""


def _but(said: Said, for_good: list[str], left: list[str]) -> Said:
    """Those who are refused for good are told, and the others are left."""
    words = f"{said.words}, and will not for {', '.join(for_good)}" if for_good else said.words
    return said._replace(words=words, left=tuple(left))


def _leave(smtp: smtplib.SMTP) -> None:
    """What was taken is taken, however the goodbye goes."""
    with contextlib.suppress(OSError, smtplib.SMTPException):
        if smtp.sock:
            smtp.sock.settimeout(SECONDS_FOR_GOODBYE)
            smtp.quit()
    smtp.close()


def _answered(what: str, code: int, words: bytes | str) -> Said:
    """5xx is for good, 4xx is not (RFC 5321, 4.2.1). Of the server's words only the codes."""
    found = _ENHANCED.match(words if isinstance(words, bytes) else words.encode("ascii", "replace"))
    told = f"it {what} ({code}{' ' + found.group().decode() if found else ''})"
    if code == -1:
        return Said(UNREACHABLE, "it hung up")
    return Said(REFUSED if 500 <= code < 600 else FAILED, told)


# --- the message -----------------------------------------------------------------------------------------------------


def message(settings: Mapping[str, Any], event: Mapping[str, Any]) -> bytes:
    """The same at each attempt, Message-ID and Date too.

    The headers are put together here: EmailMessage folds anew what it is given, and breaks long addresses, and spaces
    between encoded words (Python 3.11). channels.py has checked the addresses, wording.py the rest.
    """
    name, address = parseaddr(settings["sender"])
    headers = {
        "From": f'"{name}" <{address}>' if name else address,
        "To": ",\r\n ".join(settings["to"]),
        "Subject": _encoded(wording.subject(event)),
        "Date": format_datetime(datetime.strptime(event["at"], "%Y-%m-%dT%H:%M:%S%z")),
        "Message-ID": f"<{event['id']}@{address.rpartition('@')[2]}>",
        "Auto-Submitted": "auto-generated",  # RFC 3834: nobody on holiday answers
    }
    content = EmailMessage(policy=SMTP)
    content.set_content(wording.body(event), cte="quoted-printable")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("ascii") + content.as_bytes()


def _encoded(subject: str) -> str:
    """One line of text as RFC 2047 writes it."""
    plain = subject.isascii() and "=?" not in subject
    return Header(subject, "us-ascii" if plain else "utf-8", maxlinelen=76, header_name="Subject").encode(
        linesep="\r\n"
    )


def address_of(sender: str) -> str:
    """Without the name before it."""
    return parseaddr(sender)[1]
