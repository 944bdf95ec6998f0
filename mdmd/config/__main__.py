"""Print etc/mdmd.conf, or with ``markdown`` docs/configuration.md."""

import sys

from mdmd.config.file import sample
from mdmd.config.reference import markdown

sys.stdout.write(markdown() if sys.argv[1:] == ["markdown"] else sample())
