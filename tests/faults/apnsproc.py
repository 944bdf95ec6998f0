"""
Apple's push service in a process of its own, to be hurt: it comes back on its port as it was.

``python -m tests.faults.apnsproc FOLDER PORT`` keeps its certificates in the folder, says
``ready``, and then a line for each push that it takes: the token, in hex.
"""

import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred

from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import certificate_pem, key_pem
from mdmd.sim.apns import OK
from mdmd.sim.standin import StandIn, make_push_certificate

reactor: Any = installed_reactor


def prepare(folder: Path, topic: str) -> None:
    """Make its CA, and a push certificate that it takes."""
    authority = CertificateAuthority.create("Stand-in for Apple", kind="ec")
    (folder / "ca.pem").write_bytes(certificate_pem(authority.certificate))
    (folder / "ca.key").write_bytes(key_pem(authority.key))
    (folder / "push.pem").write_bytes(make_push_certificate(topic))


async def main(folder: Path, port: int) -> None:
    """Run until killed."""
    authority = CertificateAuthority.load(
        (folder / "ca.pem").read_bytes(), (folder / "ca.key").read_bytes()
    )
    standin = StandIn(reactor, authority, b"", lambda _: OK)
    standin.woken = lambda push: print(push.token.hex(), flush=True)
    await standin.listen(port)
    print("ready", flush=True)


if __name__ == "__main__":
    running = Deferred.fromCoroutine(main(Path(sys.argv[1]), int(sys.argv[2])))
    running.addErrback(lambda failure: (failure.printTraceback(), reactor.stop()))
    reactor.run()
