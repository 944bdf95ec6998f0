"""Which account the daemon has, and what that account may not read."""

import os
import pwd
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path

import attrs

from mdmd.doctor.finding import Finding, failed

_EACH = 'for each; do test -r "$each" || printf "%s\\0" "$each"; done'


@attrs.frozen
class Account:
    """
    Whose the state folder is: the daemon's account, if everything is as it should be.

    :ivar name: of the user, or its number if it has none.
    """

    uid: int
    gid: int
    name: str

    @classmethod
    def of(cls, state: Path) -> "Account | None":
        """Say whose a folder is; None: it is not there."""
        try:
            about = state.stat()
        except OSError:
            return None
        try:
            name = pwd.getpwuid(about.st_uid).pw_name
        except KeyError:
            name = str(about.st_uid)
        return cls(about.st_uid, about.st_gid, name)


def check_account(account: Account | None, paths: Collection[Path]) -> Iterator[Finding]:
    """See whether the daemon can read what root, who asks, can."""
    if account is None or os.geteuid() != 0 or account.uid == 0:
        return
    there = sorted({str(each) for each in paths if each.exists()})
    groups = os.getgrouplist(account.name, account.gid)
    ran = subprocess.run(
        ["/bin/sh", "-c", _EACH, "sh", *there],
        user=account.uid,
        group=account.gid,
        extra_groups=groups,
        cwd="/",
        stdout=subprocess.PIPE,
        check=False,
        timeout=10,
    )
    for path in filter(None, ran.stdout.decode(errors="surrogateescape").split("\0")):
        text = f"the account {account.name}, which has the state folder, can't read {path}"
        remedy = f"chgrp {account.gid} {path}; chmod g+r {path}; let it into the folders above too"
        yield failed("owner", text, remedy)
