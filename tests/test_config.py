"""The configuration: values of a right file, and every mistake of a wrong one."""

import re
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import _parse as twisted_parse
from twisted.trial.unittest import SynchronousTestCase

from mdmd.config import OPTIONS, Config, changes, load, parse, sample
from mdmd.config.endpoints import split_endpoint, with_backlog
from mdmd.errors import ConfigError

URL = "public_url = https://mdm.example.org"
LEAST = f"[mdmd]\n{URL}\n"
CHECKOUT = Path(__file__).parent.parent


def mistakes(text: str, filename: str = "f") -> list[str]:
    """What is wrong with a configuration."""
    try:
        parse(text, filename)
    except ConfigError as error:
        return error.mistakes
    return []


def one(section: str, line: str) -> str:
    """The one mistake of a right file with one more line."""
    head = f"[mdmd]\n{URL}\n"
    text = head + line if section == "mdmd" else f"{head}[{section}]\n{line}"
    found = mistakes(text)
    assert len(found) == 1, found
    return found[0]


def with_line(section: str, line: str) -> Config:
    """A right file with one more line."""
    return parse(f"{LEAST}{line}" if section == "mdmd" else f"{LEAST}[{section}]\n{line}")


class ValuesTests(SynchronousTestCase):
    """A right file is read as it is meant."""

    def test_defaults(self) -> None:
        """public_url is all that has to be given."""
        config = parse(LEAST)
        self.assertEqual(config.state, Path("/var/lib/mdmd"))
        self.assertEqual(config.mdmd.organization, "mdm.example.org")
        self.assertEqual(config.site.listen, ("tcp:443",))
        self.assertEqual(config.site.certificate, Path("/var/lib/mdmd/tls/site.pem"))
        self.assertEqual(config.site.body_limit, 4 << 20)
        self.assertEqual(config.site.identity, ("tls",))
        self.assertEqual(config.pb.listen, ("unix:/var/lib/mdmd/mdmd.sock:mode=660",))
        self.assertEqual(config.push.repeat, (120, 600, 3600, 21600, 86400))
        self.assertIsNone(config.queue.expires)
        self.assertIsNone(config.apns.trust)
        self.assertEqual(config.enroll.payload_identifier, "org.example.mdm.mdm")

    def test_paths_are_absolute(self) -> None:
        """The state counts from the file's folder, everything else from the state."""
        config = parse(
            f"[mdmd]\n{URL}\nstate = var\n[site]\nkey = own.key\ncertificate = /etc/site.pem\n"
            "[ca]\nkey = STATE/secret/ca.key\n[pb]\nlisten = unix:STATE/run:lockfile=0\n"
            "[store]\nredis = unix://STATE/redis.sock\n",
            "/etc/mdmd/mdmd.conf",
        )
        self.assertEqual(config.state, Path("/etc/mdmd/var"))
        self.assertEqual(config.site.key, Path("/etc/mdmd/var/own.key"))
        self.assertEqual(config.site.certificate, Path("/etc/site.pem"))
        self.assertEqual(config.ca.key, Path("/etc/mdmd/var/secret/ca.key"))
        self.assertEqual(config.pb.listen, ("unix:/etc/mdmd/var/run:lockfile=0:mode=660",))
        self.assertEqual(config.store.redis, "unix:///etc/mdmd/var/redis.sock")
        self.assertTrue(parse(LEAST, "mdmd.conf").state.is_absolute())

    def test_a_folder_with_a_colon(self) -> None:
        """In an endpoint it is written so that Twisted reads it back."""
        config = parse(LEAST, state_default="/srv/a:b=c\\d")
        arguments, _ = twisted_parse(config.pb.listen[0])
        self.assertEqual(arguments, ["unix", "/srv/a:b=c\\d/mdmd.sock"])

    def test_lists(self) -> None:
        """Endpoints go one a line, words between commas or one a line."""
        config = parse(
            f"{LEAST}[site]\nlisten =\n  tcp:443\n  tcp6:443:interface=2001\\:db8\\:\\:1\n"
            "identity = tls, header\nproxies = 10.0.0.0/8,\n  ::1, unix\n"
        )
        self.assertEqual(config.site.listen, ("tcp:443", r"tcp6:443:interface=2001\:db8\:\:1"))
        self.assertEqual(config.site.identity, ("tls", "header"))
        self.assertEqual(config.site.proxies, ("10.0.0.0/8", "::1", "unix"))

    def test_units(self) -> None:
        """Durations are seconds, sizes are bytes."""
        self.assertEqual(with_line("store", "timeout = 0.5s").store.timeout, 0.5)
        self.assertEqual(with_line("queue", "expires = 36h").queue.expires, 129600)
        self.assertEqual(with_line("apns", "expiration = 0s").apns.expiration, 0)
        self.assertEqual(with_line("site", "body_limit = 64k").site.body_limit, 65536)

    def test_percent_signs_are_just_that(self) -> None:
        """Nothing is interpolated."""
        self.assertEqual(
            with_line("mdmd", "organization = 100 %(x)s").mdmd.organization, "100 %(x)s"
        )

    def test_passwords_stay_hidden(self) -> None:
        """No repr of a configuration shows them, and no mistake."""
        for place in ("redis = redis://:hunter2@db.example.org", "redis = reddis://:hunter2@db"):
            text = f"{LEAST}[store]\n{place}\n[apns]\nproxy = http://u:hunter2@proxy:3128\n"
            found = mistakes(text)
            shown = str(found) if found else repr(parse(text))
            self.assertNotIn("hunter2", shown)

    def test_a_host_that_is_an_address(self) -> None:
        """Makes no nonsense of the identifier."""
        config = parse("[mdmd]\npublic_url = https://[::1]:8443/\n")
        self.assertEqual(config.mdmd.public_url, "https://[::1]:8443")
        self.assertEqual(config.enroll.payload_identifier, "--1.mdm")

    def test_stores(self) -> None:
        """All the ways to name one."""
        for url in (
            "embedded",
            "redis://db.example.org:6379/3",
            "rediss://user:p%40ss@db.example.org",
            "unix:///run/redis.sock",
            "sentinel://a:26379,b:26379,c/mymaster",
        ):
            self.assertEqual(with_line("store", f"redis = {url}").store.redis, url)


class MistakesTests(SynchronousTestCase):
    """Every mistake is one line that says where it is and what is expected."""

    def test_each_kind_of_value(self) -> None:
        """Section, key, what is expected, what was written."""
        for section, line, expected in (
            ("mdmd", "log_level = loud", "[mdmd] log_level: expected debug or info or"),
            ("mdmd", "log_file = ~/log", "[mdmd] log_file: expected a path"),
            ("mdmd", "state =", "[mdmd] state: expected a path, absolute or below"),
            ("site", "listen = tpc:443", "[site] listen: expected an endpoint such as tcp:443"),
            ("site", "listen =", "[site] listen: expected an endpoint such as tcp:443"),
            ("site", "listen = tcp:65536", "[site] listen: expected a port from 0 to 65535"),
            ("site", "listen = tcp:443:iface=::1", "tcp: with nothing but port, interface"),
            ("site", "listen = tcp:443:interface=eth0", "expected an IP address as interface"),
            (
                "site",
                "listen = unix:run",
                "[site] listen: expected an absolute path for the socket",
            ),
            ("site", f"listen = unix:/{'x' * 107}", "expected at most 107 bytes in the socket's"),
            ("site", "listen = ssl:443", "[site] listen: expected an endpoint such as tcp:443"),
            ("site", "listen = systemd:name=x", "expected an endpoint such as systemd:domain="),
            ("site", "body_limit = 4 apples", "[site] body_limit: expected a size from 1K"),
            ("site", "body_limit = 0", "[site] body_limit: expected a size from 1K"),
            ("site", "request_timeout = 30", "expected a duration such as 30s"),
            ("site", "request_timeout = 0s", "expected a duration from 1s"),
            ("site", "max_connections = -1", "expected a number from 1 to 1000000, got '-1'"),
            ("site", "session_tickets = maybe", "expected yes or no, got 'maybe'"),
            ("site", "identity = tls, cookie", "expected tls or mdm-signature or header"),
            ("site", "identity = header", "[site] proxies: expected the addresses"),
            ("site", "proxies = 10.0.0.1/8", "[site] proxies: expected an IP address, a network"),
            ("site", "header = a b", "[site] header: expected the name of an HTTP header"),
            ("api", "certificate = x.pem", "[api] key: expected with the other one"),
            ("api", "key = x.key", "[api] certificate: expected with the other one"),
            ("api", "listen = tcp:9000", "[api] listen: expected interface=127.0.0.1, or cert"),
            ("api", "listen = tcp:9000:0.0.0.0", "[api] listen: expected interface=127.0.0.1"),
            ("pb", "listen = tcp:9001", "[pb] listen: expected interface=127.0.0.1, or ssl:"),
            ("manhole", "enabled = 2", "[manhole] enabled: expected yes or no, got '2'"),
            ("store", "redis = mysql://x", "[store] redis: expected embedded, redis://HOST"),
            ("store", "redis = redis://", "[store] redis: expected embedded, redis://HOST"),
            ("store", "redis = unix://run/x", "[store] redis: expected embedded"),
            ("store", "redis = sentinel://a", "[store] redis: expected embedded"),
            ("store", "fsync = never", "[store] fsync: expected always or everysec"),
            ("apns", "port = 0", "[apns] port: expected a number from 1 to 65535, got '0'"),
            ("apns", "host = a b", "[apns] host: expected a host name or an IP address"),
            ("apns", "proxy = socks://x", "[apns] proxy: expected a URL such as http://"),
            ("push", "repeat =", "[push] repeat: expected a duration such as"),
            ("push", "repeat = 2m 10m", "[push] repeat: expected a duration such as"),
            ("scep", "validity = 1h", "[scep] validity: expected a duration from 1d"),
            ("queue", "max_attempts = 0", "expected a number from 1 to 1000000000, or nothing"),
            ("enroll", "access_rights = 9999", "expected access rights, a number from 1 to 8191"),
            ("enroll", "access_rights = 2", "expected 2 only together with 1"),
            ("enroll", "topic = com.example", "expected a topic that begins with com.apple.mgmt."),
            ("enroll", "payload_identifier = a b", "expected letters, digits, dots and hyphens"),
        ):
            found = one(section, line)
            self.assertIn(expected, found)
            self.assertTrue(found.startswith("f: ["), found)

    def test_public_url(self) -> None:
        """It has to be there, and one that devices take."""
        self.assertIn("[mdmd] public_url: expected an https URL", mistakes("")[0])
        for url in ("http://a.example", "https://", "https://a:0", "https://u@a", "https://a?b"):
            (found,) = mistakes(f"[mdmd]\npublic_url = {url}\n")
            self.assertIn("[mdmd] public_url: expected an https URL such as", found)

    def test_nearest(self) -> None:
        """A mistyped name is told the right one, one in the wrong section its place."""
        self.assertEqual(
            one("site", "lisen = x"), "f: [site] lisen: no such option; did you mean listen?"
        )
        self.assertIn("it belongs to [store]", one("site", "redis = embedded"))
        self.assertIn("there are first_delay, repeat", one("push", "xyzzy = 1"))
        self.assertEqual(
            one("stie", "listen = x"), "f: [stie]: no such section; did you mean [site]?"
        )
        self.assertIn("[DEFAULT]: no such section", one("DEFAULT", "listen = x"))

    def test_a_comment_behind_a_value(self) -> None:
        """Is told apart from a wrong value."""
        self.assertIn("a comment needs a line of its own", one("apns", "port = 443 # usual"))

    def test_twice(self) -> None:
        """A second one is a mistake, and what is in it is looked at all the same."""
        self.assertEqual(
            mistakes(
                f"{LEAST}[site]\nkey = a\nlisten = tcp:1\nlisten = tcp:2\n   more\n"
                "[api]\n[site]\nlisen = x\n"
            ),
            [
                "f: [site] listen: expected once, got again on line 6",
                "f: [site]: expected once, got again on line 9",
                "f: [site] lisen: no such option; did you mean listen?",
            ],
        )

    def test_lines_that_are_none(self) -> None:
        """Text before a section, without an equals sign, behind a header."""
        self.assertEqual(
            mistakes(f"early = 1\n[mdmd]\n{URL}\nhunter2\n\n[site] # here\n= x\nbody_limit\n"),
            [
                "f: line 6: expected nothing after [site]",
                "f: line 1: expected a [section] before the first option",
                "f: line 4: expected [section], key = value or # comment",
                "f: line 7: expected [section], key = value or # comment",
                "f: line 8: expected [section], key = value or # comment",
            ],
        )

    def test_all_at_once(self) -> None:
        """One run of --check is enough."""
        found = mistakes(
            "[site]\nlisen = 1\nbody_limit = x\n[apns]\nport = y\n[api]\nlisten = tcp:1\n"
        )
        self.assertEqual(len(found), 5, found)

    def test_no_end_of_mistakes(self) -> None:
        """A file that is something else altogether is given up on."""
        self.assertLess(len(mistakes("[a]\n" + "x = 1\n" * 500)), 110)

    @given(
        st.one_of(
            st.text(),
            st.lists(
                st.sampled_from(
                    ["[site]", "[mdmd]", "[", "listen = ", " tcp:1", "state =", URL, "#", "\0", "="]
                ),
            ).map("\n".join),
            st.tuples(st.sampled_from(OPTIONS), st.text()).map(
                lambda pair: f"[{pair[0].section}]\n{pair[0].key} = {pair[1]}"
            ),
        )
    )
    def test_any_text(self, text: str) -> None:
        """Is a configuration or a ConfigError of single lines, nothing else."""
        for line in mistakes(text):
            self.assertEqual(line.splitlines(), [line])
            self.assertTrue(line.startswith("f: "), line)

    @given(st.text(st.sampled_from("a1:=\\.-/ \n"), max_size=20))
    def test_endpoints_are_split_as_twisted_does(self, text: str) -> None:
        """Whatever we take, Twisted understands the same."""
        try:
            split = split_endpoint(text)
        except ValueError:
            self.assertTrue(text.endswith("\\"))
            return
        self.assertEqual(split, twisted_parse(text))


class FileTests(SynchronousTestCase):
    """What can be wrong before the first line is read."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(lambda: [each.unlink() for each in self.folder.iterdir()])

    def refused(self, path: Path) -> str:
        """The one mistake of a file."""
        (line,) = self.assertRaises(ConfigError, load, path).mistakes
        self.assertNotIn("\n", line)
        return line

    def test_unreadable(self) -> None:
        """Missing, a folder, no name at all."""
        self.assertIn("No such file", self.refused(self.folder / "none.conf"))
        self.assertIn("Is a directory", self.refused(self.folder))
        self.assertIn("not a file name", self.refused(Path("a\0b")))

    def test_not_utf8(self) -> None:
        """Says at which byte."""
        path = self.folder / "latin1.conf"
        path.write_bytes(b"[mdmd]\norganization = M\xfcller\n")
        self.assertIn("expected UTF-8, got byte 23", self.refused(path))

    def test_what_editors_do(self) -> None:
        """A byte order mark and CRLF are no mistakes."""
        path = self.folder / "windows.conf"
        path.write_bytes(b"\xef\xbb\xbf" + LEAST.replace("\n", "\r\n").encode())
        self.assertEqual(load(path).mdmd.public_url, "https://mdm.example.org")

    def test_the_name_of_the_file_is_said(self) -> None:
        """As it was given."""
        path = self.folder / "bad.conf"
        path.write_text("[mdmd]\n")
        self.assertTrue(self.refused(path).startswith(f"{path}: [mdmd] public_url: "))


class WebhookTests(SynchronousTestCase):
    """Sections of which there may be several."""

    def test_several(self) -> None:
        """Each has its name and its own options; none is needed."""
        self.assertEqual(parse(LEAST).webhooks, {})
        hooks = "[webhook a]\nurl = https://h/a\n[webhook b-2]\nurl = https://h/b\ntopics = *\n"
        config = parse(LEAST + hooks)
        self.assertEqual(list(config.webhooks), ["a", "b-2"])
        self.assertEqual(config.webhooks["a"].topics, ("mdm.*",))
        self.assertEqual(config.webhooks["b-2"].topics, ("*",))

    def test_mistakes(self) -> None:
        """A name that is none, an option that is none, http to anybody, no url at all."""
        for lines, said in (
            ("[webhook]\nurl = https://h", "[webhook]: no such section; expected [webhook NAME]"),
            ("[webhook A b]\nurl = https://h", "[webhook A b]: no such section"),
            ("[webhook a]\nurl = https://h\nurll = x", "[webhook a] urll: no such option; did you"),
            ("[webhook a]\nurl = http://h", "[webhook a] url: expected https, or private = yes"),
            ("[webhook a]\ntopics = *", "[webhook a] url: expected a URL"),
            ("[webhook a]\nurl = https://u:secret@h", "got something else"),
            ("[webhook a]\nurl = https://h\ntopics = mdm connect", "expected a topic"),
        ):
            (line,) = mistakes(LEAST + lines)
            self.assertIn(said, line)
            self.assertNotIn("secret", line)


class ChangesTests(SynchronousTestCase):
    """What somebody has changed in a file."""

    def test_changes(self) -> None:
        """Options and webhooks with other values, and those that came or went; not other words."""
        old, new = (
            parse(LEAST + more)
            for more in (
                "[site]\nlisten = tcp:443\nidle_timeout = 1m\n[webhook a]\nurl = https://a.org\n",
                "[site]\nlisten = tcp:444\nidle_timeout = 60s\n[webhook b]\nurl = https://a.org\n",
            )
        )
        self.assertEqual(list(changes(old, old)), [])
        told = ["[site] listen", "[webhook a]", "[webhook b]"]
        self.assertEqual(list(changes(old, new)), told)


class SampleTests(SynchronousTestCase):
    """etc/mdmd.conf is the table of options."""

    def test_etc_is_up_to_date(self) -> None:
        """``python -m mdmd.config > etc/mdmd.conf`` has been run."""
        path = CHECKOUT / "etc" / "mdmd.conf"
        self.assertEqual(path.read_text(), sample())

    def test_it_says_the_defaults(self) -> None:
        """With all comment signs before options taken away it means the same as without any."""
        active = re.sub(r"(?m)^#(?=\w)", "", sample().replace("#[webhook NAME]", "[webhook hook]"))
        hook = "[webhook hook]\nurl = https://hooks.example.org/mdm"
        self.assertEqual(parse(active), parse(LEAST + hook))
        for option in OPTIONS:
            self.assertIn(f"\n{option.key} =", active)

    def test_as_it_is_only_the_url_is_missing(self) -> None:
        """It is a right file but for what only the sysadmin knows."""
        (line,) = mistakes(sample())
        self.assertIn("public_url", line)


class BacklogTests(SynchronousTestCase):
    def test_added(self) -> None:
        """Every endpoint that can have one gets one, and keeps its own if it has it."""
        for text, expected in (
            ("tcp:443", "tcp:443:backlog=4096"),
            ("tcp:443:interface=127.0.0.1", "tcp:443:interface=127.0.0.1:backlog=4096"),
            ("haproxy:tcp:443", "haproxy:tcp:443:backlog=4096"),
            ("unix:/run/x:mode=660", "unix:/run/x:mode=660:backlog=4096"),
            ("tcp:443:backlog=7", "tcp:443:backlog=7"),
            ("tcp:443:127.0.0.1:7", "tcp:443:127.0.0.1:7"),
            ("systemd:domain=INET:name=site", "systemd:domain=INET:name=site"),
        ):
            self.assertEqual(with_backlog(text, 4096), expected)
