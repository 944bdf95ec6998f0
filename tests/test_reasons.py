"""Every word of APNs leads to one decision."""

from twisted.trial.unittest import SynchronousTestCase

from mdmd.apns.reasons import CLOSES_CONNECTION, TABLE, decide, decide_goodbye
from mdmd.interfaces.push import Decision

DOCUMENTED = [
    "BadCollapseId",
    "BadDeviceToken",
    "BadExpirationDate",
    "BadMessageId",
    "BadPriority",
    "BadTopic",
    "DeviceTokenNotForTopic",
    "DuplicateHeaders",
    "IdleTimeout",
    "InvalidPushType",
    "MissingDeviceToken",
    "MissingTopic",
    "PayloadEmpty",
    "TopicDisallowed",
    "BadCertificate",
    "BadCertificateEnvironment",
    "ExpiredProviderToken",
    "Forbidden",
    "InvalidProviderToken",
    "MissingProviderToken",
    "UnrelatedKeyIdInToken",
    "BadEnvironmentKeyIdInToken",
    "BadPath",
    "MethodNotAllowed",
    "ExpiredToken",
    "Unregistered",
    "PayloadTooLarge",
    "TooManyProviderTokenUpdates",
    "TooManyRequests",
    "InternalServerError",
    "ServiceUnavailable",
    "Shutdown",
]


class Table(SynchronousTestCase):
    """What the waker and the operator can rely on."""

    def test_every_documented_reason_is_in_it(self) -> None:
        """Apple's list and ours are the same, each word once."""
        self.assertEqual(sorted(reason for _, reason in TABLE), sorted(DOCUMENTED))

    def test_success(self) -> None:
        """Only 200 is a success."""
        self.assertEqual(decide(200, ""), Decision.DELIVERED)
        for status in (0, 100, 201, 204, 302, 400, 403, 404, 410, 429, 500, 503):
            self.assertNotEqual(decide(status, ""), Decision.DELIVERED, status)

    def test_token_is_given_up_only_for_what_says_so(self) -> None:
        """A token is dropped for the reasons that tell of the token, and for 410."""
        dropping = {key for key, decision in TABLE.items() if decision is Decision.DROP_TOKEN}
        self.assertEqual(
            dropping,
            {
                (400, "BadDeviceToken"),
                (400, "DeviceTokenNotForTopic"),
                (410, "ExpiredToken"),
                (410, "Unregistered"),
            },
        )
        self.assertEqual(decide(410, "SomethingNew"), Decision.DROP_TOKEN)

    def test_every_403_is_an_alarm(self) -> None:
        """Certificate and topic trouble needs a person, known word or not."""
        for (status, reason), decision in TABLE.items():
            if status == 403:
                self.assertEqual(decision, Decision.ALARM, reason)
        self.assertEqual(decide(403, "SomethingNew"), Decision.ALARM)

    def test_passing_trouble_is_retried(self) -> None:
        """429 and 5xx are retried, known word or not."""
        for status in (429, 500, 502, 503, 504):
            self.assertEqual(decide(status, ""), Decision.RETRY)
            self.assertEqual(decide(status, "SomethingNew"), Decision.RETRY)
        self.assertEqual(decide(503, "Shutdown"), Decision.RETRY)

    def test_an_unknown_word_costs_nobody_the_push(self) -> None:
        """A bare 404 (a proxy, a wrong host) or a new word is seen and tried again later."""
        self.assertEqual(decide(404, ""), Decision.ALARM)
        self.assertEqual(decide(400, "SomethingNew"), Decision.ALARM)
        self.assertEqual(decide(404, "Unregistered"), Decision.ALARM)

    def test_goodbye(self) -> None:
        """A GOAWAY is passing trouble, unless it is about the certificate."""
        self.assertEqual(decide_goodbye("BadCertificateEnvironment"), Decision.ALARM)
        for word in ("", "NO_ERROR", "Shutdown", "IdleTimeout", "BadDeviceToken", "New"):
            self.assertEqual(decide_goodbye(word), Decision.RETRY)
        self.assertIn("Shutdown", CLOSES_CONNECTION)
