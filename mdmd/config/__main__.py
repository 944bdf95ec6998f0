"""Print etc/mdmd.conf."""

import sys

from mdmd.config.file import sample

sys.stdout.write(sample())
