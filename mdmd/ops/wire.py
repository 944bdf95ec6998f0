"""
Names and limits of the Perspective Broker interface: all that a client has to know.

Plain values only, so that ``mdmctl`` can import them without Twisted. What they
mean is written in docs/pb.md.
"""

PROTOCOL = 1  # fields and methods are only ever added to a version
SOCKET = "mdmd.sock"  # in the state folder

ROLES = ("viewer", "operator", "admin")  # each may do what those before it may

# Banana takes strings of at most 640 KiB; larger ones travel as a blob, in pieces.
PIECE = 512 * 1024
LARGEST_BLOB = 64 * 1024 * 1024
BLOB = "blob"  # the one key of the dict that stands for a large value

NOTES = ("name", "owner", "location", "notes")  # free fields of a device

PAGE = 100  # records of a page, unless asked otherwise
LARGEST_PAGE = 1000
LARGEST_RECORDS = 250  # of enrollments: to spell more would hold the daemon up for too long
NAMES = 500  # enrollments looked at for a name, in one call
MOVED_AT_ONCE = 50  # records of moving.devices, .commands and .put

# What a failed call ends with, by name; the classes are in mdmd.errors.
ERRORS = (
    "BadMessage",
    "BadRequest",
    "BadCertificate",
    "Conflict",
    "InternalError",
    "NotAllowed",
    "NotHere",
    "StoreUnavailable",
    "StoreCorrupt",
    "TooLarge",
)
