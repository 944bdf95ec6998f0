"""``mdmctl init``: a state folder that a daemon can start with, whatever happens meanwhile."""

import argparse
import io
import json
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from unittest import SkipTest

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from twisted.conch.ssh.keys import Key
from twisted.trial.unittest import SynchronousTestCase

from mdmd.cli.init import Made, add_parser, make_state
from mdmd.config import load
from mdmd.errors import BadRequest, ConfigError, StoreCorrupt
from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import is_issued_by, load_certificate, load_key, matches
from mdmd.pki.sealing import CA_KEY, Sealer

HOST = "mdm.example.org"
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0eS4w3sEhs0eBVUwYRZrzwYrvyCC4L/zgqDJPjPOO7 me"
FILES = {
    *("ca/ca.pem", "ca/ca.key", "tls/site.pem", "tls/site.key", "sealing.key", "api.key"),
    *("scep.challenge", "manhole/host_key", "manhole/authorized_keys", "operators.json"),
    "mdmd.conf",
}


def contents(state: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(state)): path.read_bytes()
        for path in state.rglob("*")
        if path.is_file()
    }


def _authority(files: dict[str, bytes]) -> CertificateAuthority:
    """Load the CA, whose key is sealed."""
    key = Sealer(files["sealing.key"]).unseal_file(files["ca/ca.key"], CA_KEY)
    return CertificateAuthority.load(files["ca/ca.pem"], key)


class StateTests(SynchronousTestCase):
    """A folder of its own for each test."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.state = self.folder / "var" / "mdmd"

    def make(self, **options: str) -> list[Made]:
        """Make the state; with a key that is quick to make."""
        return make_state(self.state, HOST, **{"ca_key": "ec", **options})


class FirstTests(StateTests):
    """What a fresh state folder is like."""

    def test_the_files(self) -> None:
        """All are there, listed, and nobody else's business."""
        made = self.make()
        self.assertEqual(set(contents(self.state)), FILES)
        self.assertEqual({str(each.path.relative_to(self.state)) for each in made}, FILES)
        self.assertEqual({each.kept for each in made}, {False})
        for path in [self.state, *self.state.rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            self.assertEqual(mode, 0o700 if path.is_dir() else 0o600, path)

    def test_modes_do_not_depend_on_the_umask(self) -> None:
        """Nor does a umask that takes away too much lock the owner out."""
        for umask in (0, 0o277):
            previous = os.umask(umask)
            try:
                make_state(self.folder / str(umask), HOST, ca_key="ec")
            finally:
                os.umask(previous)
            path = self.folder / str(umask) / "ca" / "ca.key"
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
            self.assertEqual(stat.S_IMODE(path.parent.stat().st_mode), 0o700)

    def test_the_configuration(self) -> None:
        """Is right, and every file it points to is there."""
        self.make(organization="Example & Söhne")
        config = load(self.state / "mdmd.conf")
        self.assertEqual(config.state, self.state)
        self.assertEqual(config.mdmd.public_url, f"https://{HOST}")
        self.assertEqual(config.mdmd.organization, "Example & Söhne")
        for path in (
            *(config.site.certificate, config.site.key, config.ca.certificate, config.ca.key),
            *(config.api.key_file, config.scep.challenge_file, config.store.sealing_key),
            *(config.manhole.host_key, config.manhole.authorized_keys),
        ):
            self.assertTrue(path.is_file(), path)

    def test_the_certificates(self) -> None:
        """A CA of the kind asked for, and a TLS certificate for the name from it."""
        for kind, key_type in (("rsa", rsa.RSAPrivateKey), ("ec", ec.EllipticCurvePrivateKey)):
            state = self.folder / kind
            make_state(state, HOST, ca_key=kind)
            authority = _authority(contents(state))
            self.assertIsInstance(authority.key, key_type)
            site = load_certificate((state / "tls/site.pem").read_bytes())
            self.assertTrue(is_issued_by(site, authority.certificate))
            self.assertTrue(matches(site, load_key((state / "tls/site.key").read_bytes())))
            names = site.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            self.assertEqual(names.get_values_for_type(x509.DNSName), [HOST])
            life = site.not_valid_after_utc - site.not_valid_before_utc
            self.assertLessEqual(life.days, 824)

    def test_the_ca_key_is_sealed(self) -> None:
        """The file alone is worth nothing, nor does another sealing key open it."""
        self.make()
        files = contents(self.state)
        self.assertNotIn(b"PRIVATE KEY", files["ca/ca.key"])
        self.assertRaises(StoreCorrupt, Sealer(b"x" * 32).unseal_file, files["ca/ca.key"], CA_KEY)
        self.assertIsInstance(_authority(files).key, ec.EllipticCurvePrivateKey)

    def test_the_secrets(self) -> None:
        """Long, and others each time."""
        self.make()
        make_state(self.folder / "other", HOST, ca_key="ec")
        one, other = contents(self.state), contents(self.folder / "other")
        for name in ("sealing.key", "api.key", "scep.challenge", "ca/ca.key", "manhole/host_key"):
            self.assertNotEqual(one[name], other[name], name)
        self.assertEqual(len(one["sealing.key"]), 32)
        self.assertRegex(one["api.key"].decode(), r"\A[\w-]{43}\n\Z")
        self.assertNotEqual(one["api.key"], one["scep.challenge"])

    def test_ssh(self) -> None:
        """The host key is one that Conch reads; the keys given may come in."""
        self.make(ssh_keys=f"{PUBLIC_KEY}\n")
        key = Key.fromFile(str(self.state / "manhole/host_key"))
        self.assertEqual(key.sshType(), b"ssh-ed25519")
        serialization.load_ssh_private_key((self.state / "manhole/host_key").read_bytes(), None)
        lines = (self.state / "manhole/authorized_keys").read_text().splitlines()
        self.assertEqual([line for line in lines if line[0] != "#"], [PUBLIC_KEY])

    def test_the_first_operator(self) -> None:
        """Is whoever ran it."""
        self.make()
        operators = json.loads((self.state / "operators.json").read_text())["operators"]
        self.assertEqual([*operators.values()], [{"role": "admin", "uid": os.getuid()}])

    def test_whose_the_files_are(self) -> None:
        """Made by root, they are the state folder's owner's: a daemon can read them."""
        if os.geteuid() != 0:
            raise SkipTest("only root can give files away")
        self.state.mkdir(parents=True)
        os.chown(self.state, 65534, 65534)
        self.make()
        for path in self.state.rglob("*"):
            self.assertEqual((path.stat().st_uid, path.stat().st_gid), (65534, 65534), path)

    def test_addresses(self) -> None:
        """An IP address does for a host name."""
        make_state(self.state, "2001:db8::1", ca_key="ec")
        config = load(self.state / "mdmd.conf")
        self.assertEqual(config.mdmd.public_url, "https://[2001:db8::1]")

    def test_what_can_not_be(self) -> None:
        """Is refused before anything is made."""
        for state, hostname, organization in (
            (self.state, "mdm example", ""),
            (self.state, "", ""),
            (self.state, HOST, "two\nlines"),
            (self.state, HOST, " padded"),
            (self.folder / "a\nb", HOST, ""),
            (self.folder / ("deep" * 30), HOST, ""),
        ):
            with self.assertRaises((BadRequest, ConfigError)):
                make_state(state, hostname, organization=organization)
        self.assertEqual([*self.folder.iterdir()], [])


class AgainTests(StateTests):
    """What is there stays."""

    def test_nothing_is_overwritten(self) -> None:
        """A second run changes no byte and says so, whatever it is asked for."""
        self.make()
        before = contents(self.state)
        made = make_state(self.state, "other.example.org", "Other", "rsa", f"{PUBLIC_KEY}\n")
        self.assertEqual(contents(self.state), before)
        self.assertEqual({each.kept for each in made}, {True})

    def test_what_is_missing_is_made(self) -> None:
        """A TLS certificate that was removed comes from the CA that is there."""
        self.make()
        before = contents(self.state)
        shutil.rmtree(self.state / "tls")
        (self.state / "api.key").unlink()
        made = {each.path.name for each in self.make() if not each.kept}
        self.assertEqual(made, {"site.pem", "site.key", "api.key"})
        after = contents(self.state)
        self.assertEqual(after["ca/ca.key"], before["ca/ca.key"])
        self.assertTrue(
            is_issued_by(
                load_certificate(after["tls/site.pem"]), load_certificate(after["ca/ca.pem"])
            )
        )

    def test_own_files_beforehand(self) -> None:
        """A link that leads nowhere yet and files of others' in the folders are left alone."""
        (self.state / "ca").mkdir(parents=True)
        (self.state / "ca" / "notes").write_text("mine")
        (self.state / "api.key").symlink_to("/nonexistent/secret")
        self.make()
        self.assertTrue((self.state / "api.key").is_symlink())
        self.assertEqual((self.state / "ca" / "notes").read_text(), "mine")
        self.assertTrue((self.state / "ca" / "ca.pem").exists())

    def test_half_a_pair(self) -> None:
        """A CA key without its certificate is nothing to guess about."""
        self.make()
        (self.state / "ca" / "ca.pem").unlink()
        error = self.assertRaises(BadRequest, self.make)
        self.assertIn("ca.key is there, but not", str(error))

    def test_interrupted_anywhere(self) -> None:
        """Whatever step it ended at, the next run completes it and keeps what was made."""
        rename = os.rename
        for steps in range(100):
            state = self.folder / f"run{steps}"
            left = [steps]

            def interrupt(source: Path, target: Path, left: list[int] = left) -> None:
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
                rename(source, target)

            patch = self.patch(os, "rename", interrupt)
            try:
                make_state(state, HOST, ca_key="ec")
                break
            except KeyboardInterrupt:
                pass
            finally:
                patch.restore()
            before = {
                name: text
                for name, text in contents(state).items()
                if not any(part.startswith(".") for part in Path(name).parts)
            }
            make_state(state, HOST, ca_key="ec")
            after = contents(state)
            self.assertEqual(set(after), FILES)
            self.assertEqual({name: after[name] for name in before}, before)
            _authority(after)
        self.assertGreater(steps, len(FILES))


class CommandTests(StateTests):
    """The command line."""

    def run_init(
        self, *words: str, namespace: argparse.Namespace | None = None
    ) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        parser = argparse.ArgumentParser()
        parser.add_argument("--state")
        add_parser(parser.add_subparsers(required=True))
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        args = parser.parse_args([*words, "--hostname", HOST, "--ca-key", "ec"], namespace)
        return args.run(args), out.getvalue(), err.getvalue()

    def test_it_says_what_it_did_and_what_is_next(self) -> None:
        """A line a file, then the steps that nobody can take for the sysadmin."""
        status, out, _ = self.run_init("--state", str(self.state), "init")
        self.assertEqual(status, 0)
        for name in FILES:
            self.assertIn(f"made  {self.state / name}  ", out)
        self.assertIn(f"twistd -n mdmd --config {self.state}/mdmd.conf", out)
        self.assertIn("pushcert install", out)
        secret = (self.state / "api.key").read_text().strip()
        self.assertNotIn(secret, out)
        status, out, _ = self.run_init("init", "--state", str(self.state))
        self.assertEqual((status, out.count("kept  ")), (0, len(FILES)))

    def test_as_data(self) -> None:
        """With --json the same for a program."""
        parsed = argparse.Namespace(json=True)
        status, out, _ = self.run_init("--state", str(self.state), "init", namespace=parsed)
        told = {each["path"]: each["kept"] for each in json.loads(out)}
        self.assertEqual((status, set(told.values())), (0, {False}))
        self.assertLessEqual({str(self.state / name) for name in FILES}, told.keys())

    def test_ssh_keys_from_a_file(self) -> None:
        """Public ones only."""
        path = self.folder / "id.pub"
        path.write_text(f"# mine\n{PUBLIC_KEY}\n")
        words = "init", "--state", str(self.state), "--ssh-key", str(path)
        self.assertEqual(self.run_init(*words)[0], 0)
        self.assertIn(PUBLIC_KEY, (self.state / "manhole/authorized_keys").read_text())
        path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n")
        status, _, err = self.run_init(*words)
        self.assertEqual(status, 1)
        self.assertIn("expected SSH public keys", err)
        self.assertNotIn("hunter2", err)

    def test_a_folder_that_can_not_be(self) -> None:
        """One line, no traceback."""
        (self.folder / "file").write_text("")
        status, _, err = self.run_init("init", "--state", str(self.folder / "file"))
        self.assertEqual(status, 1)
        self.assertEqual(err.count("\n"), 1)

    def test_unknown_user(self) -> None:
        """Nothing is made for somebody who is not there."""
        words = "init", "--state", str(self.state), "--user", "no-such-user"
        status, _, err = self.run_init(*words)
        self.assertEqual(status, 1)
        self.assertIn("there is no user 'no-such-user'", err)
        self.assertFalse(self.state.exists())
