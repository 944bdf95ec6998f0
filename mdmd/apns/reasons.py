"""
The table: what APNs said, and what to do about it.

Source: Apple, "Handling notification responses from APNs". Its advice on what
not to send again (BadDeviceToken, DeviceTokenNotForTopic, ExpiredToken,
Unregistered, Forbidden, PayloadTooLarge) is followed here.
"""

from mdmd.interfaces.push import Decision

DELIVERED = Decision.DELIVERED
DROP_TOKEN = Decision.DROP_TOKEN  # wrong for this enrollment until its next TokenUpdate
RETRY = Decision.RETRY  # passes by itself
ALARM = Decision.ALARM  # somebody has to change the certificate or the configuration
GIVE_UP = Decision.GIVE_UP  # we built a bad request: the same again would fail the same way

TABLE: dict[tuple[int, str], Decision] = {
    (400, "BadCollapseId"): GIVE_UP,
    (400, "BadDeviceToken"): DROP_TOKEN,
    (400, "BadExpirationDate"): GIVE_UP,
    (400, "BadMessageId"): GIVE_UP,
    (400, "BadPriority"): GIVE_UP,
    (400, "BadTopic"): ALARM,
    (400, "DeviceTokenNotForTopic"): DROP_TOKEN,
    (400, "DuplicateHeaders"): GIVE_UP,
    (400, "IdleTimeout"): RETRY,
    (400, "InvalidPushType"): GIVE_UP,
    (400, "MissingDeviceToken"): GIVE_UP,
    (400, "MissingTopic"): GIVE_UP,
    (400, "PayloadEmpty"): GIVE_UP,
    (400, "TopicDisallowed"): ALARM,
    (403, "BadCertificate"): ALARM,
    (403, "BadCertificateEnvironment"): ALARM,
    (403, "BadEnvironmentKeyIdInToken"): ALARM,
    (403, "ExpiredProviderToken"): ALARM,
    (403, "Forbidden"): ALARM,
    (403, "InvalidProviderToken"): ALARM,
    (403, "MissingProviderToken"): ALARM,
    (403, "UnrelatedKeyIdInToken"): ALARM,
    (404, "BadPath"): GIVE_UP,
    (405, "MethodNotAllowed"): GIVE_UP,
    (410, "ExpiredToken"): DROP_TOKEN,
    (410, "Unregistered"): DROP_TOKEN,
    (413, "PayloadTooLarge"): GIVE_UP,
    (429, "TooManyProviderTokenUpdates"): RETRY,
    (429, "TooManyRequests"): RETRY,
    (500, "InternalServerError"): RETRY,
    (503, "ServiceUnavailable"): RETRY,
    (503, "Shutdown"): RETRY,
}

# Answers after which APNs takes nothing more on this connection.
CLOSES_CONNECTION = frozenset({"IdleTimeout", "Shutdown"})

_BY_REASON = {reason: decision for (_, reason), decision in TABLE.items()}


def decide(status: int, reason: str) -> Decision:
    """
    Say what to do after an answer.

    :param status: the HTTP status.
    :param reason: APNs' word, empty if the body had none.
    """
    if status == 200:
        return DELIVERED
    known = TABLE.get((status, reason))
    return _by_status(status) if known is None else known


def decide_goodbye(reason: str) -> Decision:
    """Say what to do about a connection that APNs ended with this word in its GOAWAY."""
    return ALARM if _BY_REASON.get(reason) is ALARM else RETRY


def _by_status(status: int) -> Decision:
    """
    Decide on a reason that is new to us, or missing.

    A 4xx without one of APNs' words may not come from APNs at all (a proxy, a
    wrong host): it must not cost any enrollment its token or its push.
    """
    if status == 410:
        return DROP_TOKEN
    if status in (408, 429) or status >= 500:
        return RETRY
    return ALARM
