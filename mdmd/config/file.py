"""From the file to the values, and the file with every option in it."""

import configparser
import difflib
import re
import textwrap
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from mdmd.config.endpoints import is_open
from mdmd.config.kinds import UnexpectedError, is_address
from mdmd.config.options import (
    OPTIONS,
    SECTIONS,
    STATE,
    Config,
    Option,
    Webhook,
    webhook_options,
)
from mdmd.errors import ConfigError

_LARGEST = 1 << 20  # bytes of a configuration
_MOST = 100  # mistakes; a file with more of them is not a configuration at all
_SHOWN = 60  # characters of what somebody wrote
_WEBHOOK = re.compile(r"webhook ([a-z0-9][a-z0-9_-]{0,31})", re.ASCII)

Texts = dict[tuple[str, str], str]  # by section and key
Values = dict[tuple[str, str], Any]


def load(path: Path) -> Config:
    """
    Read a configuration file.

    :raises ConfigError: it can't be read, or there are mistakes in it.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: expected UTF-8, got byte {error.start} that is not"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: can't be read: {error.strerror}"]) from None
    except ValueError:  # a NUL in the name
        raise ConfigError([f"{_shown(str(path))}: not a file name"]) from None
    if len(text) > _LARGEST:
        raise ConfigError([f"{path}: expected a configuration, got more than a megabyte"])
    return parse(text, str(path))


def parse(text: str, filename: str = "mdmd.conf", state_default: str = STATE) -> Config:
    """
    Read a configuration.

    :param filename: for the mistakes; a relative state folder counts from its folder.
    :param state_default: the state folder of a text that does not name one.
    :raises ConfigError: every mistake in it.
    """
    reading = _Reading(filename)
    texts = reading.texts(text)
    values = reading.values(texts, state_default)
    reading.check(values)
    if reading.mistakes:
        raise ConfigError(reading.mistakes)
    return _config(values)


def sample() -> str:
    """Write the file with every option in it, commented out, with its default."""
    sections = "".join(_sample_section(name, each, OPTIONS) for name, each in SECTIONS.items())
    webhook = _sample_section(_A_WEBHOOK, Webhook, webhook_options(_A_WEBHOOK))
    return _HEAD + sections + webhook.replace(f"\n[{_A_WEBHOOK}]\n", f"\n#[{_A_WEBHOOK}]\n")


class _Reading:
    """One file on its way to values; collects what is wrong with it."""

    def __init__(self, filename: str) -> None:
        self._filename = filename
        self._options: list[Option] = list(OPTIONS)
        self.mistakes: list[str] = []

    def _mistake(self, text: str) -> None:
        self.mistakes.append(f"{self._filename}: {text}")

    # -- the text

    def texts(self, text: str) -> Texts:
        """Take out what is written for each option there is."""
        texts: Texts = {}
        parser = self._parse(text)
        for header in parser.sections():
            section = header.partition("\0")[0]
            if _WEBHOOK.fullmatch(section):
                self._options += webhook_options(section)
            elif section not in SECTIONS:
                self._mistake(f"[{_shown(section)}]: no such section{_nearest_section(section)}")
                continue
            for key, value in parser[header].items():
                if any((section, key) == (each.section, each.key) for each in self._options):
                    texts.setdefault((section, key), value)
                else:
                    place = f"[{section}] {_shown(key)}"
                    self._mistake(f"{place}: no such option{_nearest_key(section, key)}")
        return texts

    def _parse(self, text: str) -> configparser.RawConfigParser:
        # configparser stops at the first duplicate: each mistake is taken out of
        # the text and the rest is read again.
        lines = text.split("\n")
        self._check_headers(lines)
        while True:
            parser = configparser.RawConfigParser(
                delimiters=("=",), default_section="", empty_lines_in_values=False
            )
            try:
                parser.read_string("\n".join(lines))
            except configparser.Error as error:
                self._take_out(error, lines)
            else:
                return parser
            if len(self.mistakes) >= _MOST:
                raise ConfigError([*self.mistakes, f"{self._filename}: and so on"])

    def _check_headers(self, lines: list[str]) -> None:
        # configparser passes over whatever follows on the line.
        for number, line in enumerate(lines, 1):
            header = re.match(r"(\[[^\]]*\])\s*\S", line)
            if header:
                self._mistake(f"line {number}: expected nothing after {_shown(header[1])}")

    def _take_out(self, error: configparser.Error, lines: list[str]) -> None:
        if isinstance(error, configparser.DuplicateSectionError):
            assert error.lineno is not None
            section = error.section.partition("\0")[0]
            self._mistake(f"[{_shown(section)}]: expected once, got again on line {error.lineno}")
            # Under a name of its own, so that what is in it is looked at all the same.
            lines[error.lineno - 1] = f"[{section}\0{error.lineno}]"
        elif isinstance(error, configparser.DuplicateOptionError):
            assert error.lineno is not None
            section, key = _shown(error.section.partition("\0")[0]), _shown(error.option)
            self._mistake(f"[{section}] {key}: expected once, got again on line {error.lineno}")
            _blank(lines, error.lineno - 1)
        elif isinstance(error, configparser.MissingSectionHeaderError):
            self._mistake(f"line {error.lineno}: expected a [section] before the first option")
            _blank(lines, error.lineno - 1)
        elif isinstance(error, configparser.ParsingError):
            for number, _ in error.errors:
                self._mistake(f"line {number}: expected [section], key = value or # comment")
                _blank(lines, number - 1)
        else:
            raise error

    # -- the values

    def values(self, texts: Texts, state_default: str) -> Values:
        """Make the values of all options that have no mistake in them."""
        folder = Path(self._filename).parent.absolute()
        state = folder / state_default
        values: Values = {}
        for option in self._options:
            # The state folder is the first of all: the others may lie in it.
            is_state = (option.section, option.key) == ("mdmd", "state")
            default = state_default if is_state else option.default
            text = texts.get((option.section, option.key), default)
            if text is None:
                self._mistake(f"{_place(option)}: expected {option.kind.name}, got no such line")
                continue
            try:
                value = option.kind.read(text, folder if is_state else state)
            except ValueError as error:
                self._mistake(f"{_place(option)}: {_unexpected(option, text, error)}")
                continue
            values[option.section, option.key] = value
            state = values.get(("mdmd", "state"), state)
        return values

    def check(self, values: Values) -> None:
        """Look at options that depend on each other."""
        certificate, key = (values.get(("api", each)) for each in ("certificate", "key"))
        if bool(certificate) != bool(key):
            missing = "key" if certificate else "certificate"
            self._mistake(f"[api] {missing}: expected with the other one, got only one of the two")
        if not certificate:
            self._check_closed(values, "api", "interface=127.0.0.1, or certificate and key")
        self._check_closed(values, "pb", "interface=127.0.0.1, or ssl:")
        if "header" in values.get(("site", "identity"), ()) and not values.get(
            ("site", "proxies"), True
        ):
            self._mistake("[site] proxies: expected the addresses whose header counts, got nothing")
        for (section, option), value in values.items():
            if _WEBHOOK.fullmatch(section) and option == "url" and value.startswith("http:"):
                self._check_private(values, section)

    def _check_private(self, values: Values, section: str) -> None:
        if not values.get((section, "private"), True):
            self._mistake(f"[{section}] url: expected https, or private = yes, got http")

    def _check_closed(self, values: Values, section: str, expected: str) -> None:
        for endpoint in values.get((section, "listen"), ()):
            if is_open(endpoint):
                self._mistake(f"[{section}] listen: expected {expected}, got {_shown(endpoint)!r}")


def _blank(lines: list[str], number: int) -> None:
    """Take out a line, and those indented deeper: the rest of its value."""
    indent = _indent(lines[number])
    lines[number] = ""
    for following in range(number + 1, len(lines)):
        if not lines[following].strip() or _indent(lines[following]) <= indent:
            break
        lines[following] = ""


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


# -- words for mistakes


def _shown(text: str) -> str:
    short = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return short if short.isprintable() else repr(short)[1:-1]


def _unexpected(option: Option, text: str, error: ValueError) -> str:
    expected = str(error) if isinstance(error, UnexpectedError) else option.kind.name
    if option.secret:
        return f"expected {expected}, got something else"
    if not text:
        return f"expected {expected}, got nothing"
    hint = " (a comment needs a line of its own)" if " #" in text or " ;" in text else ""
    return f"expected {expected}, got '{_shown(text)}'{hint}"


def _place(option: Option) -> str:
    return f"[{option.section}] {option.key}"


def _nearest_section(name: str) -> str:
    found = difflib.get_close_matches(name.lower(), SECTIONS, 1)
    if name.startswith("webhook"):
        return "; expected [webhook NAME], a NAME of up to 32 letters a-z, digits, - and _"
    names = ", ".join((*SECTIONS, "webhook NAME"))
    return f"; did you mean [{found[0]}]?" if found else f"; there are {names}"


def _nearest_key(section: str, key: str) -> str:
    elsewhere = [each.section for each in OPTIONS if each.key == key]
    if len(elsewhere) == 1:
        return f"; it belongs to [{elsewhere[0]}]"
    keys = [each.key for each in OPTIONS if each.section == section]
    keys = keys or [each.key for each in webhook_options(section)]
    found = difflib.get_close_matches(key, keys, 1)
    return f"; did you mean {found[0]}?" if found else f"; there are {', '.join(keys)}"


# -- the values as one


def _config(values: Values) -> Config:
    host = urlsplit(values["mdmd", "public_url"]).hostname or ""
    values["mdmd", "organization"] = values["mdmd", "organization"] or host
    values["enroll", "payload_identifier"] = (
        values["enroll", "payload_identifier"] or f"{_backwards(host)}.mdm"
    )
    return Config(
        **{
            name: section(**{each.name: values[name, each.name] for each in attrs.fields(section)})
            for name, section in SECTIONS.items()
        },
        webhooks=_webhooks(values),
    )


def _webhooks(values: Values) -> dict[str, Webhook]:
    named: dict[str, dict[str, Any]] = {}
    for (section, key), value in values.items():
        found = _WEBHOOK.fullmatch(section)
        if found:
            named.setdefault(found[1], {})[key] = value
    return {name: Webhook(**options) for name, options in named.items()}


def _backwards(host: str) -> str:
    if is_address(host):
        return host.replace(":", "-")
    return ".".join(reversed(host.split(".")))


# -- the file with everything in it

_HEAD = """\
# The configuration of mdmd, with every option and its default.
#
# A line that begins with # or ; is a comment; a comment needs a line of its own.
# A value goes on in the next lines if these are indented. Sizes: 64K, 4M.
# Durations: 30s, 5m, 12h, 7d. STATE stands for the state folder, from which
# relative paths count too. Endpoints are Twisted's: tcp:443,
# tcp:443:interface=127.0.0.1, unix:/run/mdmd.sock, systemd:domain=INET:name=site.
#
# twistd mdmd --config FILE --check names every mistake in a file.
"""


_A_WEBHOOK = "webhook NAME"


def _sample_section(name: str, section: type, options: tuple[Option, ...]) -> str:
    options = tuple(each for each in options if each.section == name)
    title = _comment((section.__doc__ or "").strip())
    return f"\n\n{title}[{name}]\n" + "".join(map(_sample_option, options))


def _sample_option(option: Option) -> str:
    value = option.example if option.default is None else option.default
    return f"\n{_comment(option.explanation)}#{option.key} = {value}".rstrip() + "\n"


def _comment(text: str) -> str:
    return textwrap.fill(text, 78, initial_indent="# ", subsequent_indent="# ") + "\n"
