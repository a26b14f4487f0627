"""CRAM-MD5: a digest of a challenge keyed by the password; pure (RFC 2195)."""
import hmac

from meta1g.proto.sasl.step import AuthFailed, Dialog, GetPassword, Scene, Success, asked, name_of


def cram_md5(scene: Scene) -> Dialog:
    """The server keeps the password in plain text for it."""
    challenge = f"<{scene.nonce}.{scene.now:.0f}@{scene.host}>".encode()
    name, _, digest = (yield from asked(challenge)).rpartition(b" ")
    user = name_of(name)
    password = yield GetPassword(user)
    expected = hmac.new((password or "").encode(), challenge, "md5").hexdigest().encode()
    if not hmac.compare_digest(expected, digest.lower()) or not password:
        raise AuthFailed("wrong digest or unknown user", user)
    return Success(user)
