"""
What becomes of devices when twice as many come as can be served.

First as many as there is time for, to learn the rate that can be served; then
half of that, twice that, and half again. The figures are those of the devices
that were taken in; the others get no connection, and try again later.

The server gets a key of RSA 4096 here, which costs it ten times what it costs a
device: or the core that plays the devices would be overloaded first.
"""

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from bench.results import write
from bench.stage import stage
from mdmd.pki.certificates import certificate_pem, key_pem


def _big_key(state: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=4096)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1).not_valid_before(now)
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    (state / "big.pem").write_bytes(certificate_pem(certificate))
    (state / "big.key").write_bytes(key_pem(key))


def main() -> None:
    """Measure, print, and add to the results."""
    parser = argparse.ArgumentParser(prog="bench.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--threads", type=int, default=2000)
    parser.add_argument("--dry", action="store_true", help="leave the results file alone")
    args = parser.parse_args()
    rows: list[Sequence[object]] = []
    with stage(1000, {"site": "key = big.key\ncertificate = big.pem"}, prepare=_big_key) as one:
        seen, _ = one.load("session", 16, args.seconds)
        able = seen["operations"] / seen["seconds"]
        for times in (0.5, 2, 0.5):
            asked = able * times
            seen, cost = one.load("session", args.threads, args.seconds, rate=asked)
            rows.append(
                (
                    *(f"{asked:,.0f}", f"{seen['operations'] / seen['seconds']:,.0f}"),
                    *(f"{seen['p50']:.0f}", f"{seen['p95']:.0f}", f"{seen['p99']:.0f}"),
                    *(seen["unheard"], seen["failed"], seen["refused"]),
                    f"{cost.daemon / seen['seconds']:.2f}",
                )
            )
    title = f"overload: {able:,.0f} sessions a second can be served"
    headers = (
        *("asked a second", "served a second", "p50 ms", "p95 ms", "p99 ms"),
        *("not taken in", "failed", "refused", "daemon CPU"),
    )
    write(title, headers, rows, args.dry)


if __name__ == "__main__":
    main()
