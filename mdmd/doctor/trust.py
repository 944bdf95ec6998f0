"""Whom doctor trusts over TLS: as the daemon does, and as devices do."""

import ssl
from pathlib import Path


def trusting(roots: Path | None = None) -> ssl.SSLContext:
    """
    Trust the system's roots, or those of a PEM file.

    Python 3.13 began to refuse certificates that are not of RFC 5280 to the letter;
    neither the daemon's OpenSSL nor a device does, so that would be a false alarm.
    """
    context = ssl.create_default_context(cafile=None if roots is None else str(roots))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def spelled(error: Exception) -> str:
    """Say what kept a connection from being made, without the places in the code."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError) and error.reason:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"certificate verify failed: {error.verify_message}"
        return f"TLS: {error.reason.replace('_', ' ').lower()}"
    return str(getattr(error, "strerror", None) or error)
