"""The table of rooms in docs/architecture.md, held by walking the imports."""

import ast
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import mdmd

ROOT = Path(mdmd.__file__).parent
PURE = {"errors", "config", "mdm", "pki", "interfaces", "flow"}
MAY_IMPORT = {
    "errors": set(),
    "config": {"errors"},
    "mdm": {"errors"},
    "pki": {"errors"},
    "interfaces": {"mdm", "pki", "errors"},
    "store": {"interfaces", "mdm", "pki", "errors"},
    "apns": {"interfaces", "mdm", "pki", "errors"},
    "flow": {"interfaces", "mdm", "pki", "errors"},
    "web": {"flow", "interfaces", "mdm", "pki", "errors"},
    "ops": {"flow", "interfaces", "mdm", "pki", "errors"},
    "sim": {"mdm", "pki", "errors"},
    "doctor": {"config", "store", "mdm", "pki", "errors"},
    "cli": {"config", "doctor", "ops", "sim", "mdm", "pki", "errors"},
    "webhook": {"interfaces", "mdm", "errors"},
    "assembly": None,  # the one place where things are put together
    "tap": None,
}


def room(path: Path) -> str:
    """Name the room a module lives in."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every absolute module a file imports, at any level of it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


class LayersTests(SynchronousTestCase):
    """A newcomer can trust the picture."""

    def modules(self) -> list[Path]:
        """Every module but the empty package files."""
        return [path for path in sorted(ROOT.rglob("*.py")) if path.name != "__init__.py"]

    def test_every_room_imports_only_what_it_may(self) -> None:
        """No arrow in the code that the table does not have."""
        wrong = []
        for path in self.modules():
            allowed = MAY_IMPORT[room(path)]
            if allowed is None:
                continue
            for name in imports(path):
                parts = name.split(".")
                if parts[0] == "mdmd" and len(parts) > 1:
                    other = parts[1]
                    if other != room(path) and other not in allowed:
                        wrong.append(f"{path.relative_to(ROOT)} imports {name}")
        self.assertEqual(wrong, [])

    def test_the_command_line_knows_only_the_wire_of_ops(self) -> None:
        """A client like any other: of ops it imports plain names, and how wide a text is."""
        wrong = [
            f"{path.relative_to(ROOT)} imports {name}"
            for path in self.modules()
            if room(path) == "cli"
            for name in imports(path)
            if name.startswith("mdmd.ops")
            and not name.startswith(("mdmd.ops.wire", "mdmd.ops.columns"))
        ]
        self.assertEqual(wrong, [])

    def test_pure_rooms_know_no_twisted(self) -> None:
        """Rules and formats can be read, tested and used without a reactor."""
        wrong = [
            f"{path.relative_to(ROOT)} imports {name}"
            for path in self.modules()
            if room(path) in PURE
            for name in imports(path)
            if name.split(".")[0] == "twisted"
        ]
        self.assertEqual(wrong, [])

    def test_nobody_imports_what_puts_together(self) -> None:
        """Nothing is above ``assembly`` but ``tap``, and nothing above that."""
        wrong = [
            f"{path.relative_to(ROOT)} imports {name}"
            for path in self.modules()
            for name in imports(path)
            if (name.startswith("mdmd.tap") and room(path) != "tap")
            or (name.startswith("mdmd.assembly") and room(path) not in ("assembly", "tap"))
        ]
        self.assertEqual(wrong, [])

    def test_help_loads_no_reactor(self) -> None:
        """``mdmctl --help`` answers at once: neither Twisted nor cryptography is loaded."""
        loaded = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys\nfrom mdmd.cli.main import main\n"
                "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
                "print([m for m in ('twisted', 'cryptography') if m in sys.modules])",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        self.assertEqual(loaded.splitlines()[-1], "[]")
