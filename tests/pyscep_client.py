"""
Enroll once with PyScep, as a program of its own: URL, challenge and common name in, PEM out.

Its crypto library reads the version of OpenSSL from a text, and only up to patch
level 9; the text is shortened for it here.
"""

import re
import sys

_search = re.search


def _short(pattern, text, *rest):
    if isinstance(text, str) and text.startswith("OpenSSL "):
        text = re.sub(r"(\d\.\d\.\d)\d+", r"\1", text)
    return _search(pattern, text, *rest)


if __name__ == "__main__":
    re.search = _short
    from scep import Client

    url, challenge, name = sys.argv[1:]
    usage = {"digital_signature", "key_encipherment"}
    identity, key = Client.SigningRequest.generate_self_signed(cn=name, key_usage=usage)
    request, _ = Client.SigningRequest.generate_csr(
        cn=name, key_usage=usage, password=challenge, private_key=key
    )
    answer = Client.Client(url).enrol(request, identity, key)
    print(answer.status, getattr(answer, "fail_info", ""))
    for each in getattr(answer, "certificates", None) or ():
        print(each.to_pem().decode())
