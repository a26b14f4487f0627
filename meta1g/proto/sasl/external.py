"""EXTERNAL: who the client is has been proved by TLS; pure (RFC 4422 A)."""
from meta1g.proto.sasl.step import AuthFailed, Dialog, Scene, Success, acting_of, asked


def external(scene: Scene, initial: bytes | None) -> Dialog:
    """The response says as whom the client wants to act, or nothing. A dialog without I/O of its own."""
    acting = acting_of((yield from asked()) if initial is None else initial)
    if not scene.certificate_user:
        raise AuthFailed("no verified certificate with a name")
    return Success(scene.certificate_user, acting)
