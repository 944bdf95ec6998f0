"""Challenges, records and revocation, on a real Valkey: each rule is one atomic step."""

import attrs
from twisted.internet.defer import Deferred, gatherResults

from mdmd.errors import BadSCEP, NotEnrolled, NotHere, WrongIdentity
from mdmd.interfaces import Challenge, Identity, IssuedCertificate, Link
from mdmd.store.store import Settings
from tests.storecase import *  # noqa: F403
