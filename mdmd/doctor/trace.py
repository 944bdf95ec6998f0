"""A trace in the audit of what is done to the store past the daemon."""

import os
import pwd
from pathlib import Path

from mdmd.doctor.redis import Client
from mdmd.errors import StoreUnavailable
from mdmd.store.address import Address
from mdmd.store.audit import spelled


def leave_trace(address: Address, ca: Path | None, what: str, **facts: str) -> None:
    """
    Write into the audit what this unix user does with the store itself.

    :raises StoreUnavailable: it does not answer; then nothing should be done either.
    """
    uid = os.getuid()
    try:
        who = pwd.getpwuid(uid).pw_name
    except KeyError:
        who = "unknown"
    try:
        client = Client(address, ca)
    except StoreUnavailable as error:
        raise StoreUnavailable(f"no {what}: {error}") from None
    try:
        client.ask(*spelled(who, f"unix uid {uid}", what, (), facts, "ok"))
    finally:
        client.close()
