"""saslauthd's protocol: strings with their length before them; pure (Cyrus SASL, lib/checkpw.c)."""
from typing import Final

FIELD_MAX: Final = 65535  # octets: the length has two
REPLY_MAX: Final = 1024  # octets; it says OK or NO and a reason


def request(user: bytes, password: bytes, service: bytes, realm: bytes) -> bytes:
    """The question whether it is this user's password; each at most FIELD_MAX octets."""
    return b"".join(len(field).to_bytes(2, "big") + field for field in (user, password, service, realm))


def read_reply(octets: bytes) -> bool | None:
    """The answer, None if it is not complete yet."""
    if len(octets) < 2 or len(octets) - 2 < min(int.from_bytes(octets[:2], "big"), REPLY_MAX):
        return None
    return octets[2:4] == b"OK"
