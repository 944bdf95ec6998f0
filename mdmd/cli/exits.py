"""Exit statuses of ``mdmctl``, as its help tells them."""

DONE = 0
FAILED = 1
NO_DAEMON = 3
NOT_ALLOWED = 4
DEVICE = 5  # a device answered with an error, or not in time
INTERRUPTED = 130
