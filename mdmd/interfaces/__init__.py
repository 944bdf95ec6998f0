"""
What one layer asks of another, cut by who uses it.

These are :class:`typing.Protocol` rather than zope interfaces: mypy holds every
implementation and every caller against them. All times are milliseconds since
the epoch unless a name says otherwise. Every coroutine of the store is one
round trip and one atomic step; it raises
:class:`~mdmd.errors.StoreUnavailable` when the outcome is unknown.
"""
