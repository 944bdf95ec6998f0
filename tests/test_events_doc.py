"""docs/events.md names every event there is, and no other."""

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import mdmd

ROOT = Path(mdmd.__file__).parent
DOCUMENT = Path(__file__).parent.parent / "docs" / "events.md"
_TOPIC = re.compile(r"['\"](mdmd?\.[A-Z]\w+)['\"]")


class EventsTests(SynchronousTestCase):
    """A receiver can rely on the document."""

    def test_every_topic(self) -> None:
        """What the scripts and the stories write is described, and the other way round."""
        sources = [*ROOT.rglob("*.lua"), *ROOT.rglob("*.py")]
        written = {topic for path in sources for topic in _TOPIC.findall(path.read_text())}
        described = set(re.findall(r"`(mdmd?\.[A-Z]\w+)`", DOCUMENT.read_text()))
        self.assertEqual(written, described)

    def test_every_fact_of_the_scripts(self) -> None:
        """Each fact that a script writes is in the row of its topic."""
        rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
        missing = []
        for path in sorted(ROOT.rglob("*.lua")):
            for topic, words in re.findall(
                r"(?:event|said)\('(mdmd?\.\w+)',[^,]+,[^,)]+((?:,[^)]*)?)", path.read_text()
            ):
                row = next(line for line in rows if f"`{topic}`" in line)
                facts = re.findall(r"[,{]\s*'([a-z_]+)'\s*,", words)
                missing += [(topic, each) for each in facts if f"`{each}`" not in row]
        self.assertEqual(missing, [])
