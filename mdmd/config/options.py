"""
Every option: a class a section, a field an option.

This is the one table: what is read, what is said of a mistake, the file
``etc/mdmd.conf`` and the documentation come from it.
"""

# ruff: noqa: RUF009  (ruff does not know that option() is attrs.field)

from pathlib import Path
from typing import Any

import attrs

from mdmd.config.endpoints import endpoint
from mdmd.config.kinds import (
    BOOL,
    HOST,
    HTTP_PROXY,
    NETWORK,
    PATH,
    PUBLIC_URL,
    REDIS,
    RIGHTS,
    SIZE,
    TEXT,
    WEBHOOK_URL,
    Kind,
    by_commas,
    by_lines,
    choice,
    duration,
    matching,
    number,
    optional,
)

STATE = "/var/lib/mdmd"

_COUNT = number(1, 10**9)


@attrs.frozen
class Option:
    """
    One option of the file.

    :ivar default: as it would be written in the file; None: it has to be given.
    :ivar example: for an option without a default.
    :ivar secret: its value may hold a password and is never shown.
    """

    section: str
    key: str
    kind: Kind
    default: str | None
    explanation: str
    example: str = ""
    secret: bool = False


def option(
    kind: Kind, default: str | None, explanation: str, example: str = "", secret: bool = False
) -> Any:
    """Declare a field of a section's class as an option; its name and section are the class's."""
    about = {
        "kind": kind,
        "default": default,
        "explanation": explanation,
        "example": example,
        "secret": secret,
    }
    return attrs.field(repr=not secret, metadata=about)


@attrs.frozen
class Mdmd:
    """The server as a whole."""

    state: Path = option(
        PATH,
        STATE,
        "The folder for all that has to last; a relative one counts from this file's folder.",
    )
    public_url: str = option(
        PUBLIC_URL,
        None,
        "Where devices reach the site; it goes into the enrollment profile. Required.",
        example="https://mdm.example.org",
    )
    organization: str = option(
        TEXT, "", "Who manages, as devices show it; if empty, the host name of public_url."
    )
    log_level: str = option(
        choice("debug", "info", "warn", "error", "critical"),
        "info",
        "The least that is logged: debug, info, warn, error or critical.",
    )
    log_format: str = option(
        choice("text", "json"), "text", "text for people, json (an object a line) for programs."
    )
    log_file: Path | None = option(
        optional(PATH),
        "",
        "Where to log; if empty, standard error, which systemd's journal reads, or in the "
        "background what twistd's --logfile says.",
    )


@attrs.frozen
class Site:
    """Where devices connect, over TLS 1.2 or newer."""

    listen: tuple[str, ...] = option(
        by_lines(endpoint("tcp", "tcp6", "unix", "systemd"), least=1),
        "tcp:443",
        "Endpoints to listen on, one a line: tcp:443 is IPv4, tcp6:443 that and IPv6; haproxy: "
        "before one expects the PROXY protocol.",
    )
    reuse_port: bool = option(
        BOOL,
        "no",
        "Let several daemons, one for each core, listen on the same TCP port (SO_REUSEPORT).",
    )
    certificate: Path = option(
        PATH, "STATE/tls/site.pem", "The TLS certificate, PEM, followed by its chain."
    )
    key: Path = option(PATH, "STATE/tls/site.key", "Its private key, PEM, unencrypted.")
    body_limit: int = option(SIZE, "4M", "The largest request body that is read.")
    report_limit: int = option(
        SIZE,
        "32M",
        "The largest report of a device that shows a certificate of ours, in whichever way: "
        "lists of apps can be large.",
    )
    request_timeout: float = option(
        duration(), "30s", "How long a request may take to arrive, from its first byte."
    )
    idle_timeout: float = option(
        duration(), "60s", "How long a connection may stay open between two requests."
    )
    max_connections: int = option(
        number(1, 1_000_000), "20000", "How many connections may be open; more are turned away."
    )
    session_tickets: bool = option(
        BOOL, "yes", "Let devices resume TLS sessions: cheaper for those that come back soon."
    )
    user_authenticate: str = option(
        choice("decline", "accept"),
        "decline",
        "What to answer to UserAuthenticate of network users: decline (410) or accept.",
    )
    identity: tuple[str, ...] = option(
        by_commas(choice("tls", "mdm-signature", "header"), least=1),
        "tls",
        "How devices may prove who they are: tls (client certificate), mdm-signature (each "
        "message is signed), header (a proxy passes the certificate on); separated by commas.",
    )
    signature_sha1: bool = option(
        BOOL, "no", "Take Mdm-Signatures over SHA-1 too, as devices of some years ago make them."
    )
    proxies: tuple[str, ...] = option(
        by_commas(NETWORK),
        "",
        "Whose header counts: addresses and networks, separated by commas; unix means whoever "
        "comes over a unix socket.",
    )
    header: str = option(
        matching("the name of an HTTP header", r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"),
        "client-cert",
        "The header with the certificate, as in RFC 9440 or as URL-escaped PEM.",
    )


@attrs.frozen
class Api:
    """The HTTP API for integrators, and the metrics."""

    listen: tuple[str, ...] = option(
        by_lines(endpoint("tcp", "tcp6", "unix", "systemd")),
        "tcp:9000:interface=127.0.0.1",
        "Endpoints to listen on, one a line; empty for none. Off loopback a certificate is needed.",
    )
    key_file: Path = option(PATH, "STATE/api.key", "The file with the API key.")
    certificate: Path | None = option(
        optional(PATH), "", "A TLS certificate, PEM, followed by its chain; empty for plain HTTP."
    )
    key: Path | None = option(optional(PATH), "", "Its private key, PEM, unencrypted.")


@attrs.frozen
class Pb:
    """Perspective Broker, for mdmctl and other programs of operators."""

    listen: tuple[str, ...] = option(
        by_lines(endpoint("unix", "tcp", "tcp6", "systemd", "ssl", mode="660")),
        "unix:STATE/mdmd.sock",
        "Endpoints to listen on, one a line; empty for none. A unix socket is for its owner and "
        "group, unless mode= says otherwise; off loopback it has to be ssl:.",
    )


@attrs.frozen
class Manhole:
    """A Python prompt inside the running server, over SSH, with public keys only."""

    enabled: bool = option(BOOL, "yes", "Whether it is there at all.")
    listen: tuple[str, ...] = option(
        by_lines(endpoint("tcp", "tcp6", "unix", "systemd"), least=1),
        "tcp:2222:interface=127.0.0.1",
        "Endpoints to listen on, one a line.",
    )
    host_key: Path = option(PATH, "STATE/manhole/host_key", "The server's own SSH key.")
    authorized_keys: Path = option(
        PATH, "STATE/manhole/authorized_keys", "Who may come in, in OpenSSH's format."
    )


@attrs.frozen
class StoreConfig:
    """Where enrollments, queues and results are kept."""

    redis: str = option(
        REDIS,
        "embedded",
        "embedded for a private server under the state folder, or the URL of a Redis (6.2 or "
        "newer) or Valkey that several mdmd may share: redis://HOST, rediss://HOST (TLS), "
        "unix:///SOCKET, sentinel://HOST,HOST/NAME.",
        secret=True,
    )
    fsync: str = option(
        choice("always", "everysec"),
        "always",
        "When the embedded store writes to disk: always (before each answer) or everysec (a "
        "power cut may cost a second).",
    )
    binary: Path | None = option(
        optional(PATH), "", "The embedded store's program; if empty, it is looked for."
    )
    sealing_key: Path = option(
        PATH, "STATE/sealing.key", "The file with the 32 bytes that seal secrets in the store."
    )
    timeout: float = option(duration("0.1s"), "5s", "How long to wait for an answer of the store.")
    ca: Path | None = option(
        optional(PATH), "", "The CA of a rediss:// store, PEM; if empty, those of the system."
    )


@attrs.frozen
class Apns:
    """The road to Apple's push service."""

    host: str = option(HOST, "api.push.apple.com", "The push service.")
    port: int = option(number(1, 65535), "443", "Its port; Apple's listens on 2197 too.")
    trust: Path | None = option(
        optional(PATH), "", "The CA of a stand-in for the push service, PEM."
    )
    escrow_url: str = option(
        WEBHOOK_URL,
        "https://deviceservices-external.apple.com/deviceservicesworkers/escrowKeyUnlock",
        "Apple's service that turns off an Activation Lock (/v1/escrowkeyunlock).",
    )
    expiration: float = option(
        duration("0s"), "7d", "How long the service keeps a push for a device it can't reach."
    )
    ping: float = option(duration(), "60s", "After how long a quiet connection is tested.")
    connect_timeout: float = option(duration(), "10s", "How long to wait for a connection.")
    proxy: str | None = option(
        optional(HTTP_PROXY),
        "",
        "An HTTP proxy to go through (CONNECT); user and password may be in the URL.",
        secret=True,
    )


@attrs.frozen
class Push:
    """When enrollments with work are pushed."""

    first_delay: float = option(
        duration("0s"), "5s", "How long to wait after an enrollment before its first push."
    )
    repeat: tuple[float, ...] = option(
        by_commas(duration(), least=1),
        "2m, 10m, 1h, 6h, 24h",
        "How long to wait before each further push while a device does not connect, separated "
        "by commas; the last one is repeated.",
    )


@attrs.frozen
class Ca:
    """The CA that signs the devices' identities."""

    certificate: Path = option(PATH, "STATE/ca/ca.pem", "Its certificate, PEM.")
    key: Path = option(
        PATH,
        "STATE/ca/ca.key",
        "Its private key: sealed, as mdmctl writes it, or PEM, unencrypted.",
    )
    trust: Path | None = option(
        optional(PATH), "", "More CAs whose identities count, PEM: those that this one replaces."
    )
    unknown: str = option(
        choice("refuse", "accept"),
        "refuse",
        "What to do with an identity that the CA's key signed, but not here: refuse or accept.",
    )


@attrs.frozen
class Scep:
    """How devices get their identities."""

    challenge: str = option(
        choice("static", "one-time", "none"),
        "static",
        "What lets a device have an identity: static (the challenge in challenge_file, the same "
        "for all), one-time (each profile has its own, good for one use), none (anybody gets "
        "one). One-time challenges that mdmctl makes are always good.",
    )
    challenge_file: Path = option(
        PATH, "STATE/scep.challenge", "The file with the static challenge."
    )
    challenge_life: float = option(duration(), "1h", "How long a one-time challenge is good.")
    validity: float = option(
        duration("1d"), "365d", "How long an identity is valid; whole days count."
    )
    renew_after: int = option(
        number(0, 99),
        "70",
        "After how many percent of its life an identity is renewed; 0 for never.",
    )
    renew_expired: bool = option(
        BOOL, "no", "Let an expired identity that is pinned still fetch its renewal, nothing else."
    )
    scep_legacy: bool = option(
        BOOL, "no", "Let clients use SHA-1, triple DES and DES, which old ones need."
    )


@attrs.frozen
class Queue:
    """How long commands and their results are kept."""

    expires: float | None = option(
        optional(duration()),
        "",
        "After how long a command that no device took is set aside; empty for never.",
    )
    max_attempts: int | None = option(
        optional(_COUNT),
        "",
        "After how many deliveries without an answer a command is set aside; empty for never.",
    )
    results_kept: int = option(_COUNT, "100", "How many results of an enrollment are kept.")
    results_age: float = option(duration(), "90d", "How long a result is kept.")


@attrs.frozen
class Events:
    """How long events can be replayed."""

    kept: int = option(_COUNT, "100000", "How many are kept.")
    age: float = option(duration(), "30d", "How long one is kept.")


@attrs.frozen
class Webhook:
    """A program that is told of events. NAME is yours to choose; there may be several."""

    url: str = option(
        WEBHOOK_URL,
        None,
        "Where events are posted to, in the JSON of NanoMDM's webhook.",
        example="https://hooks.example.org/mdm",
        secret=True,
    )
    topics: tuple[str, ...] = option(
        by_commas(
            matching("a topic such as mdm.Connect, or mdm.* or *", r"[\w.]*\*|[\w.]+"), least=1
        ),
        "mdm.*",
        "Which events; those that begin with mdm. are NanoMDM's, those with mdmd. our own.",
    )
    key_file: Path | None = option(
        optional(PATH),
        "",
        "The file with the key that signs each body (X-Hmac-Signature); empty: no signature.",
    )
    timeout: float = option(duration("0.1s"), "10s", "How long to wait for an answer.")
    ca: Path | None = option(
        optional(PATH), "", "The CA of the target, PEM; if empty, those of the system."
    )
    private: bool = option(
        BOOL, "no", "Let the target be at a loopback or private address, and use http."
    )
    keep_trying: float = option(
        duration("0s"), "3d", "How old an event may get before it is set aside as a dead letter."
    )
    at_once: int = option(
        number(1, 100), "8", "How many are sent at a time, each of another enrollment."
    )


@attrs.frozen
class Inventory:
    """What is known of devices, and how old it may be."""

    refresh: float | None = option(
        optional(duration("10m")),
        "",
        "How old what is known of a device may be; it is asked again in time, at random moments. "
        "Empty: devices are asked by operators only.",
    )
    commands: tuple[str, ...] = option(
        by_commas(matching("the name of a command that only asks", r"[A-Za-z]+"), 1),
        "DeviceInformation, SecurityInfo, InstalledApplicationList, ProfileList",
        "What devices are asked then.",
    )


@attrs.frozen
class Apps:
    """Apps that the device site serves."""

    folder: Path = option(
        PATH, "STATE/apps", "Where they are; daemons that serve the same devices share it."
    )


@attrs.frozen
class EnrollSection:
    """Who may enroll, and what the enrollment profile says."""

    access: str = option(
        choice("open", "link", "basic", "off"),
        "open",
        "open: whoever reaches the site gets the profile; link: who has a one-time link of "
        "mdmctl enroll-link; basic: those, and who knows the password; off: nobody.",
    )
    password_file: Path | None = option(
        optional(PATH), "", "The file with the password for access = basic; any user name will do."
    )
    link_life: float = option(duration(), "7d", "How long a one-time link is good.")
    identity: str = option(
        choice("scep", "pkcs12"),
        "scep",
        "scep: the device makes its key; pkcs12: key and certificate are in the profile, for "
        "closed networks.",
    )
    signing_certificate: Path | None = option(
        optional(PATH), "", "The certificate that signs profiles, PEM, followed by its chain."
    )
    signing_key: Path | None = option(optional(PATH), "", "Its private key, PEM, unencrypted.")
    trust: Path | None = option(
        optional(PATH),
        "",
        "CAs that the profile makes devices trust, PEM, besides those that the site's own "
        "certificate needs.",
    )
    apple_roots: Path | None = option(
        optional(PATH),
        "",
        "Apple's roots for automated enrollment (POST /enroll), PEM; without them there is none.",
    )
    minimum_os: tuple[str, ...] = option(
        by_commas(
            matching("a system and version such as iOS 17.5", r"(iOS|macOS) \d+(\.\d+){0,2}")
        ),
        "",
        "What a device has to be updated to before automated enrollment, such as iOS 17.5, "
        "macOS 14.4.",
    )
    account_driven: tuple[str, ...] = option(
        by_commas(choice("mdm-byod", "mdm-adde")),
        "mdm-byod, mdm-adde",
        "Which kinds of account-driven enrollment /.well-known/com.apple.remotemanagement offers.",
    )
    access_rights: int = option(
        RIGHTS, "8191", "What the server may do, the sum of Apple's AccessRights; 8191 is all."
    )
    sign_message: bool = option(
        BOOL, "no", "Let devices sign each message (Mdm-Signature); see [site] identity."
    )
    check_out_when_removed: bool = option(
        BOOL, "yes", "Let devices say so when the profile is removed."
    )
    topic: str = option(
        matching("a topic that begins with com.apple.mgmt.", r"(com\.apple\.mgmt\.[\w.-]+)?"),
        "",
        "The push topic; if empty, that of the push certificate installed.",
    )
    payload_identifier: str = option(
        matching("letters, digits, dots and hyphens", "[A-Za-z0-9.-]*"),
        "",
        "The profile's identifier, never to be changed once devices have it; if empty, the host "
        "name of public_url backwards, and .mdm.",
    )
    blueprints: Path | None = option(
        optional(PATH),
        "",
        "What devices are sent when they enroll, a TOML file; see docs/inventory.md.",
    )


@attrs.frozen
class Config:
    """A whole configuration without mistakes; an attribute is a section."""

    mdmd: Mdmd
    site: Site
    api: Api
    pb: Pb
    manhole: Manhole
    store: StoreConfig
    apns: Apns
    push: Push
    ca: Ca
    scep: Scep
    queue: Queue
    events: Events
    enroll: EnrollSection
    inventory: Inventory
    apps: Apps
    webhooks: dict[str, Webhook] = attrs.field(factory=dict)  # by the NAME in [webhook NAME]

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.mdmd.state


SECTIONS: dict[str, Any] = {
    field.name: field.type for field in attrs.fields(Config) if field.name != "webhooks"
}


def _options(section: str, values: Any) -> tuple[Option, ...]:
    return tuple(Option(section, each.name, **each.metadata) for each in attrs.fields(values))


OPTIONS: tuple[Option, ...] = tuple(
    each for section, values in SECTIONS.items() for each in _options(section, values)
)


def webhook_options(section: str) -> tuple[Option, ...]:
    """Give the options of one ``[webhook NAME]``."""
    return _options(section, Webhook)
