"""
What goes to APNs in a request's body, what comes back, and what is known of it then.

Source: Apple, "Sending notification requests to APNs", "Handling notification
responses from APNs".
"""

import json
from enum import StrEnum

import attrs

from mdmd.interfaces.push import Notification

MAX_PAYLOAD = 4096  # bytes, Apple's limit
MAX_TOKEN = 100  # bytes; Apple's are 32 and say they may grow
MAX_REASON = 100  # characters


class Fate(StrEnum):
    """What is known of a notification when the conversation is done with it."""

    ANSWERED = "answered"
    UNSENT = "unsent"  # it never left: send it elsewhere
    NOT_PROCESSED = "not-processed"  # APNs says it did nothing with it: safe to send again
    UNKNOWN = "unknown"  # it left, and no answer came


@attrs.frozen
class Ended:
    """The one end of one notification."""

    ticket: int
    fate: Fate
    status: int = 0  # HTTP status, for ANSWERED
    reason: str = ""  # APNs' word for ANSWERED, else ours for what happened
    apns_id: str = ""


def payload(notification: Notification) -> bytes:
    """Write the JSON body that an MDM client expects."""
    magic = notification.push_magic
    if magic.isascii() and magic.isprintable() and '"' not in magic and "\\" not in magic:
        return b'{"mdm":"%b"}' % magic.encode()  # as json would, in a tenth of the time
    return json.dumps({"mdm": magic}, separators=(",", ":")).encode()


def unsendable(notification: Notification) -> str:
    """
    Say why APNs could not take this notification; empty if it can be sent.

    Token, magic and topic are what a device said; nothing of it is trusted.
    """
    if not 0 < len(notification.token) <= MAX_TOKEN:
        return "the device token has an impossible length"
    if not notification.push_magic:
        return "there is no push magic"
    if len(payload(notification)) > MAX_PAYLOAD:
        return "the push magic is longer than a notification may be"
    topic = notification.topic
    if not (0 < len(topic) <= 255 and topic.isascii() and topic.isprintable() and " " not in topic):
        return "the topic is not one"
    return ""


def read_reason(body: bytes) -> str:
    """Read the ``reason`` of an answer's JSON body; empty if there is none to be read."""
    try:
        reason = json.loads(body)["reason"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return ""
    if not isinstance(reason, str) or not reason.isprintable():
        return ""
    return reason[:MAX_REASON]
