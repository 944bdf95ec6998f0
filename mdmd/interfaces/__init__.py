"""
What one layer asks of another, cut by who uses it.

These are :class:`typing.Protocol` rather than zope interfaces: mypy holds every
implementation and every caller against them. All times are milliseconds since
the epoch unless a name says otherwise. What a device's request asks of the store
is one round trip and one atomic step; what is about many enrollments is a step
for each part of them. Every coroutine of the store raises
:class:`~mdmd.errors.StoreUnavailable` when the outcome is unknown.
"""
