"""docs/security.md has each limit of what comes in, and it is the code's."""

import re

from twisted.trial.unittest import SynchronousTestCase

from mdmd.apns import conversation, dial, escrow, headers
from mdmd.assembly import gentle
from mdmd.config import file
from mdmd.flow import learn, where
from mdmd.mdm import checkin, command, enrollment, machine_info, plist, plist_binary
from mdmd.mdm.answers import chain, decode
from mdmd.ops import blobs, broker, pace, passwords, pb, subscription, wire
from mdmd.ops.manhole import batch, editor, login, ssh
from mdmd.ops.subjects import events
from mdmd.pki import age, ber, certificates, scep, signed_data
from mdmd.web import api, api_call, api_routes, apps, http1
from mdmd.webhook import road
from tests.docshelp import CHECKOUT

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30
# In the row that begins so: what is written there, and the constants behind it.
ROWS: dict[str, dict[str, object]] = {
    "waiting to be accepted": {"4,096": gentle.BACKLOG},
    "request line": {"16 KB": http1.MAX_LINE},
    "headers": {"16 KB": http1.MAX_FIELDS, "100,": http1.MAX_HEADERS},
    "property list": {"depth 32": plist.DEPTH, "262,144 values": plist_binary._MAX_NODES},
    "enrollment id": {"255 ": enrollment.MAX_ID},
    "CommandUUID": {"255 ": command.MAX_UUID},
    "what a device says": {"255 ": checkin._MAX_FACT, "1,024 ": checkin._MAX_PUSH},
    "answers to commands": {
        "500 fields": decode.MAX_FIELDS,
        "1,000 characters": learn.MAX_TEXT,
        "50 errors": chain.MAX_ERRORS,
        "500 characters": chain.MAX_TEXT,
    },
    "form of an automated": {"64 KB": machine_info._LIMIT},
    "CMS, SCEP": {
        "256 KB": ber.LARGEST,
        "64 KB": scep.LARGEST_MESSAGE,
        "16 certificates": signed_data._MOST_CERTIFICATES,
        "32 attributes": signed_data._MOST_ATTRIBUTES,
        "8,192 bits": certificates.MAX_RSA_BITS,
    },
    "body of an API call": {
        "path 1 MB": api_routes._LINE,
        "8,192 bytes": api_call._LONGEST_PART,
        "1,000": api_call.LARGEST_PAGE,
        "60 s": api._LONGEST_WAIT,
    },
    "a command": {"32 MB": command.LIMIT},
    "an app": {"16 GB": apps.MOST, "8 uploads": apps.UPLOADS},
    "expression": {
        "1,000 characters": where.MAX_LENGTH,
        "20 deep": where.MAX_DEPTH,
        "100 terms": where.MAX_TERMS,
    },
    "Perspective Broker, before": {
        "8 KB": broker.STRANGER,
        "15 s": pb.HURRY,
        "500 ": pb.MOST_CONNECTIONS,
    },
    "after log-in": {
        "1 MB": broker.LARGEST,
        "50 deep": broker.DEEPEST,
        "64 MB": wire.LARGEST_BLOB,
        "256 MB": blobs.ALL_TOGETHER,
    },
    "calls of one": {"8 at work": pace.AT_WORK, "64 that wait": pace.WAITING},
    "subscriptions": {"200 ": events.MOST_SUBSCRIPTIONS, "60 s": subscription.PATIENCE},
    "wrong passwords": {"5 for": passwords.ATTEMPTS},
    "manhole": {
        "20 s": login.HURRY,
        "64 connections": ssh.MOST_CONNECTIONS,
        "20,000 characters": editor.LONGEST,
        "1 MB": batch._LARGEST,
    },
    "answer of APNs": {"64 KB": headers.MAX_BLOCK, "4 KB": conversation.MAX_ANSWER},
    "answer of a webhook": {"128 KB": road.ANSWER_LIMIT},
    "answer of a proxy": {
        "8 KB": dial.MAX_PROXY_ANSWER,
        "1 MB": escrow.ANSWER_LIMIT,
        "20 s": escrow.TIMEOUT,
    },
    "configuration": {"1 MB": file._LARGEST},
    "sealed file": {"64 KB": age._HEADER_LIMIT},
}


def rows() -> list[tuple[str, str]]:
    """Each input of the table with its limits; a first cell that is empty stands for the last."""
    text = (CHECKOUT / "docs" / "security.md").read_text()
    table = text.partition("## Limits of what comes in")[2].partition("\n## ")[0]
    found: list[tuple[str, str]] = []
    for name, limits, _ in re.findall(r"^\| (.*?) ?\| (.*) \| (.*) \|$", table, re.MULTILINE):
        if name:
            found.append((name, limits))
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]}, {limits}")
    return found


def number(spelled: str) -> float:
    """What a limit is, in bytes or in what is counted."""
    match = re.search(r"([\d,]*\d)( [KMG]B)?", spelled)
    assert match is not None
    factor = {" KB": KB, " MB": MB, " GB": GB}.get(match[2], 1)
    return float(match[1].replace(",", "")) * factor


class LimitTests(SynchronousTestCase):
    def test_each_is_the_code_s(self) -> None:
        """No row is of a limit that is another by now."""
        for beginning, limits in ROWS.items():
            (told,) = (text for name, text in rows() if name.startswith(beginning))
            for spelled, limit in limits.items():
                self.assertIn(spelled, told, beginning)
                self.assertEqual(number(spelled), limit, f"{beginning}: {spelled}")
