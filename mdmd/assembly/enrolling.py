"""
The half of the daemon that gives out identities and profiles, put together for ``tap``.
"""

import contextlib
import os
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs
from cryptography import x509
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from mdmd.config import Config
from mdmd.errors import BadCertificate
from mdmd.flow.automated import Automated
from mdmd.flow.enroll import Enroll, Signer, Terms
from mdmd.flow.renew import Renew
from mdmd.flow.scep import Challenges, Scep, shared_registration
from mdmd.interfaces.push import IWaker
from mdmd.mdm.machine_info import minimum
from mdmd.mdm.profile import EnrollmentProfile, ScepPayload
from mdmd.pki import certificates
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import PrivateKey, certificate_der
from mdmd.pki.scep import Responder
from mdmd.store.store import Store
from mdmd.web.door import Access, Door

log = Logger()

Value = TypeVar("Value")
Certificates = tuple[x509.Certificate, ...]

_DAY = 86400


@attrs.frozen
class EnrollFiles:
    """What the configuration's files of enrollment hold."""

    trusted: Certificates = ()  # more CAs whose identities count
    signer: Signer | None = None
    password: str = attrs.field(default="", repr=False)
    for_profile: Certificates = ()  # CAs that the profile makes devices trust
    apple_roots: Certificates = ()
    site_chain: Certificates = ()


def read_enroll_files(
    config: Config, attempt: Callable[[str, Callable[[], Any]], Any]
) -> EnrollFiles:
    """
    Read them all.

    :param attempt: is given the place in the configuration and what reads there;
        returns None after it has noted what went wrong.
    """
    enroll = config.enroll
    read = {
        "trusted": ("[ca] trust", lambda: _certificates(config.ca.trust)),
        "signer": ("[enroll] signing_certificate", lambda: _signer(config)),
        "password": ("[enroll] password_file", lambda: _password(config)),
        "for_profile": ("[enroll] trust", lambda: _certificates(enroll.trust)),
        "apple_roots": ("[enroll] apple_roots", lambda: _certificates(enroll.apple_roots)),
    }
    found = {name: attempt(place, reader) for name, (place, reader) in read.items()}
    # Whoever reads [site] certificate says what is wrong with it.
    with contextlib.suppress(BadCertificate, OSError):
        found["site_chain"] = _certificates(config.site.certificate)
    return EnrollFiles(**{name: value for name, value in found.items() if value is not None})


def _certificates(path: Path | None) -> Certificates:
    return () if path is None else tuple(certificates.load_chain(path.read_bytes()))


def _signer(config: Config) -> Signer | None:
    enroll = config.enroll
    if (enroll.signing_certificate is None) != (enroll.signing_key is None):
        raise BadCertificate("signing_certificate and signing_key go together")
    if enroll.signing_certificate is None or enroll.signing_key is None:
        return None
    first, *chain = certificates.load_chain(enroll.signing_certificate.read_bytes())
    key = certificates.load_key(enroll.signing_key.read_bytes())
    if not certificates.matches(first, key):
        raise BadCertificate("the signing key does not belong to the certificate")
    return Signer(first, key, tuple(chain))


def _password(config: Config) -> str:
    path = config.enroll.password_file
    text = "" if path is None else path.read_bytes().decode("utf-8", "replace").strip()
    typed = len(text.splitlines()) == 1 and "\N{REPLACEMENT CHARACTER}" not in text
    if config.enroll.access == "basic" and not typed:
        raise BadCertificate("access = basic needs a file with one line, the password")
    return text


def template(
    config: Config, authority: CertificateAuthority, files: EnrollFiles
) -> EnrollmentProfile:
    """Make the enrollment profile but for topic, challenge and identity."""
    url = config.mdmd.public_url.rstrip("/")
    roots, others = trust_needed(authority.certificate, files)
    return EnrollmentProfile(
        identifier=config.enroll.payload_identifier,
        organization=config.mdmd.organization,
        server_url=f"{url}/connect",
        checkin_url=f"{url}/checkin",
        topic="",
        scep=ScepPayload(url=f"{url}/scep", subject=[["O", config.mdmd.organization]]),
        trust=[certificate_der(each) for each in roots],
        intermediates=[certificate_der(each) for each in others],
        access_rights=config.enroll.access_rights,
        sign_message=config.enroll.sign_message,
        check_out_when_removed=config.enroll.check_out_when_removed,
    )


def trust_needed(
    own: x509.Certificate, files: EnrollFiles
) -> tuple[list[x509.Certificate], list[x509.Certificate]]:
    """
    Say which roots and intermediates devices lack to trust the site; public ones have none.

    A chain that ends in a self-signed certificate, or in a CA of ours, is not public:
    public ones are sent without their root.
    """
    roots = [each for each in files.for_profile if certificates.is_issued_by(each, each)]
    others = [each for each in files.for_profile if each not in roots]
    chain = files.site_chain
    for each in (own, *files.trusted):
        if chain and certificates.is_issued_by(chain[-1], each):
            roots.append(each)
            break
    selfmade = [each for each in chain if certificates.is_issued_by(each, each)]
    roots += [each for each in selfmade if each not in roots]
    if roots:
        others += [each for each in chain[1:] if each not in roots and each not in others]
    return roots, others


@attrs.frozen
class Enrolling:
    """The parts that ``tap`` starts and hands around."""

    scep: Scep
    door: Door
    enroll: Enroll
    renew: Renew


async def make_enrolling(
    clock: Any,
    config: Config,
    authority: CertificateAuthority,
    static: str,
    files: EnrollFiles,
    store: Store,
    waker: IWaker,
    topic: Callable[[], Awaitable[str]],
) -> Enrolling:
    """Put it together; a registration authority is made if the CA needs one."""
    days = max(1, int(config.scep.validity // _DAY))
    kind, url = config.scep.challenge, f"{config.mdmd.public_url.rstrip('/')}/enroll"
    _heed_time(authority.certificate, store.tools.now() / 1000)
    if kind == "none":
        log.warn("[scep] challenge = none: whoever reaches /scep gets an identity")
    responder = Responder(
        authority,
        days,
        legacy=config.scep.scep_legacy,
        expired=config.scep.renew_expired,
        registration=await shared_registration(store.identities, authority),
    )
    challenges = Challenges(static if kind == "static" else "", kind == "none")
    enroll = Enroll(
        authority,
        template(config, authority, files),
        topic,
        store.identities,
        Terms(
            pkcs12=config.enroll.identity == "pkcs12",
            static=static if kind == "static" else "",
            days=days,
            challenge_life=config.scep.challenge_life,
            link_life=config.enroll.link_life,
            url=url,
            challenge=kind,
        ),
        store.tools.now,
        os.urandom,
        _new_key,
        files.signer,
    )
    automated = Automated(
        files.apple_roots,
        [minimum(each) for each in config.enroll.minimum_os],
        enroll.profile,
        partial(_tell, store),
    )
    return Enrolling(
        Scep(responder, store.identities, challenges, os.urandom),
        Door(
            enroll,
            automated,
            Access(config.enroll.access),
            files.password,
            url,
            config.enroll.account_driven,
        ),
        enroll,
        Renew(
            store.renewals,
            store.identities,
            store.fleet,
            waker,
            enroll.profile,
            config.scep.renew_after / 100,
            store.tools.now,
            lambda: str(uuid.uuid4()).upper(),
        ),
    )


def _heed_time(authority: x509.Certificate, now: float) -> None:
    """Say at the start what else would be seen as devices that can't enroll."""
    begin, end = authority.not_valid_before_utc, authority.not_valid_after_utc
    if not begin.timestamp() <= now <= end.timestamp():
        log.warn(
            "by this machine's clock the device CA is not valid (it is from {begin} to {end}): "
            "no device can enroll, and no identity counts",
            begin=f"{begin:%Y-%m-%d %H:%M}",
            end=f"{end:%Y-%m-%d %H:%M}",
        )


async def _new_key() -> PrivateKey:
    # Some 100 ms: not on the reactor's thread.
    return await deferToThread(certificates.new_key, "rsa")


async def _tell(store: Store, topic: str, facts: dict[str, str]) -> None:
    await store.events.tell(topic, None, **facts)
