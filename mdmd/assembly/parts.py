"""
What the configuration's files hold, read once before anything starts.

Each file that can't be used is a mistake like any other in the configuration:
one line that names file, section and key.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from mdmd.assembly.enrolling import EnrollFiles, read_enroll_files
from mdmd.config import Config
from mdmd.config.endpoints import endpoint_values
from mdmd.config.options import Webhook
from mdmd.errors import ConfigError, MdmdError
from mdmd.mdm.catalogue.blueprint import Blueprint, read_blueprints
from mdmd.mdm.catalogue.load import need_questions
from mdmd.ops.operators import Operators
from mdmd.ops.tls import OperatorsTLS
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import load_certificate, load_chain, load_key
from mdmd.pki.sealing import CA_KEY, KEY_SIZE, Sealer
from mdmd.web.tls import ServerContext
from mdmd.webhook.road import read_roots
from mdmd.webhook.target import Target

Value = TypeVar("Value")

OPERATORS = "operators.json"  # in the state folder


@attrs.frozen
class Parts:
    """Keys, certificates and secrets, ready for use."""

    authority: CertificateAuthority
    site_tls: ServerContext
    site_certificate: x509.Certificate
    api_tls: ServerContext | None
    api_key: str = attrs.field(repr=False)
    challenge: str = attrs.field(repr=False)
    sealer: Sealer = attrs.field(repr=False)
    apns_trust: bytes | None
    operators: Operators
    webhooks: tuple[Target, ...] = ()
    enrolling: EnrollFiles = attrs.field(factory=EnrollFiles)
    blueprints: tuple[Blueprint, ...] = ()
    pb_tls: Mapping[str, OperatorsTLS] = attrs.field(factory=dict)  # by its [pb] listen

    def reload_tls(self) -> None:
        """
        Read the certificates of every door again, for connections from now on.

        :raises BadCertificate: one can't be used; it and those after it stay as they were.
        """
        for each in (self.site_tls, self.api_tls, *self.pb_tls.values()):
            if each is not None:
                each.reload()

    @classmethod
    def read(cls, config: Config, filename: str) -> "Parts":
        """
        Read every file that the configuration names.

        :param filename: of the configuration, for the mistakes.
        :raises ConfigError: all that can't be used.
        """
        reading = _Reading(filename)
        parts = reading.parts(config)
        if reading.mistakes or parts is None:
            raise ConfigError(reading.mistakes)
        return parts


class _Reading:
    """The files on their way to values; collects what is wrong with them."""

    def __init__(self, filename: str) -> None:
        self._filename = filename
        self.mistakes: list[str] = []

    def parts(self, config: Config) -> Parts | None:
        """Read them all; None when one of them can't be used."""
        sealer = self._try("[store] sealing_key", lambda: _sealer(config.store.sealing_key))
        ca_key = self._try("[ca] key", lambda: _ca_key(config.ca.key, sealer), quiet=sealer is None)
        authority = self._try(
            "[ca] certificate",
            lambda: _named(
                config.ca.certificate, lambda pem: CertificateAuthority.load(pem, ca_key or b"")
            ),
            quiet=ca_key is None and os.path.exists(config.ca.certificate),
        )
        enrolling = read_enroll_files(config, self._try)
        trust = [] if authority is None else [authority.certificate, *enrolling.trusted]
        site_key = self._try("[site] key", lambda: _named(config.site.key, load_key))
        site_tls = self._try(
            "[site] certificate",
            lambda: ServerContext(
                config.site.certificate, config.site.key, trust, config.site.session_tickets
            ),
            quiet=site_key is None and os.path.exists(config.site.certificate),
        )
        site_certificate = self._try(
            "[site] certificate",
            lambda: load_certificate(_bytes(config.site.certificate)),
            quiet=site_tls is None,
        )
        api_tls = self._try("[api] certificate", lambda: _api_tls(config))
        api_key = self._try("[api] key_file", lambda: _secret(config.api.key_file))
        challenge = self._try("[scep] challenge_file", lambda: _secret(config.scep.challenge_file))
        apns_trust = self._try("[apns] trust", lambda: _roots(config.apns.trust))
        operators = self._try("[mdmd] state", lambda: _operators(config))
        webhooks = self._webhooks(config)
        self._try("[inventory] commands", lambda: need_questions(config.inventory.commands))
        blueprints = self._try("[enroll] blueprints", lambda: _blueprints(config.enroll.blueprints))
        self._look(config)
        pb_tls = {each: self._operators_tls(each) for each in config.pb.listen}
        # Spelled out for mypy: each is there when nothing went wrong.
        if (
            self.mistakes
            or authority is None
            or site_tls is None
            or site_certificate is None
            or api_key is None
            or challenge is None
            or sealer is None
            or operators is None
            or blueprints is None
        ):
            return None
        return Parts(
            authority,
            site_tls,
            site_certificate,
            api_tls,
            api_key,
            challenge,
            sealer,
            apns_trust,
            operators,
            webhooks,
            enrolling,
            blueprints,
            {each: tls for each, tls in pb_tls.items() if tls is not None},
        )

    def _look(self, config: Config) -> None:
        """Read what is read once more when it is needed: now is the time to complain."""
        self._try("[store] ca", lambda: _roots(config.store.ca))
        self._try("[store] binary", lambda: _program(config.store.binary))
        if config.manhole.enabled:
            self._try("[manhole] host_key", lambda: _ssh_key(config.manhole.host_key))

    def _operators_tls(self, listen: str) -> OperatorsTLS | None:
        prefix, values = endpoint_values(listen)
        if prefix != "ssl":
            return None
        key = Path(values["privateKey"])
        certificate = Path(values.get("certKey", key))
        # Its words on what is wrong with a pair are better than OpenSSL's.
        pair = self._try("[pb] listen", lambda: ServerContext(certificate, key, []))
        if pair is None:
            return None
        return self._try("[pb] listen", lambda: OperatorsTLS(certificate, key))

    def _webhooks(self, config: Config) -> tuple[Target, ...]:
        found = (
            self._try(f"[webhook {name}]", lambda name=name, each=each: _webhook(name, each))  # type: ignore[misc]
            for name, each in config.webhooks.items()
        )
        return tuple(each for each in found if each is not None)

    def _try(self, place: str, read: Callable[[], Value], quiet: bool = False) -> Value | None:
        try:
            return read()
        except (MdmdError, OSError, ValueError) as error:
            if not quiet:
                self.mistakes.append(f"{self._filename}: {place}: {_words(error)}")
        return None


def _operators(config: Config) -> Operators:
    operators = Operators(config.state / OPERATORS)
    operators.all()
    return operators


def _webhook(name: str, options: Webhook) -> Target:
    roots = _optional(options.ca)
    if roots is not None:
        read_roots(roots)
    return Target(
        name=name,
        url=options.url,
        topics=options.topics,
        key=b"" if options.key_file is None else _secret(options.key_file).encode(),
        timeout=options.timeout,
        roots=roots,
        private=options.private,
        keep_trying=options.keep_trying,
        at_once=options.at_once,
    )


def _ca_key(path: Path, sealer: Sealer | None) -> bytes:
    def read(content: bytes) -> bytes:
        key = content if sealer is None else sealer.unseal_file(content, CA_KEY)
        load_key(key)
        return key

    return _named(path, read)


def _api_tls(config: Config) -> ServerContext | None:
    if config.api.certificate is None or config.api.key is None:
        return None
    return ServerContext(config.api.certificate, config.api.key, [])


def _sealer(path: Path) -> Sealer:
    key = _bytes(path)
    if len(key) != KEY_SIZE:
        raise ValueError(f"{path}: expected {KEY_SIZE} bytes, got {len(key)}")
    return Sealer(key)


def _secret(path: Path) -> str:
    """Read a secret's only line; an empty one would open a door to everybody."""
    text = _bytes(path).decode("utf-8", "replace").strip()
    if not text or len(text.splitlines()) != 1:
        raise ValueError(f"{path}: expected one line with the secret, got another content")
    return text


def _optional(path: Path | None) -> bytes | None:
    return None if path is None else _bytes(path)


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


def _named(path: Path, read: Callable[[bytes], Value]) -> Value:
    """
    Read what is in a file.

    :raises ValueError: it is something else; the text names the file.
    """
    content = path.read_bytes()
    try:
        return read(content)
    except (MdmdError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _roots(path: Path | None) -> bytes | None:
    if path is not None:
        _named(path, load_chain)
    return _optional(path)


def _ssh_key(path: Path) -> object:
    return _named(path, lambda content: load_ssh_private_key(content, None))


def _program(path: Path | None) -> None:
    if path is not None and not (path.is_file() and os.access(path, os.X_OK)):
        raise ValueError(f"{path}: expected a program, got no file that can be run")


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"expected a file that can be read, got {error.filename}: {error.strerror}"
    return str(error)


def _blueprints(path: Path | None) -> tuple[Blueprint, ...]:
    return () if path is None else read_blueprints(path)
