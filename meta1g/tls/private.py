"""What pyOpenSSL's bindings can do and its public interface can't: the one place that reaches behind it."""
from OpenSSL import SSL

_LIB = SSL._lib  # type: ignore[attr-defined]


def is_resumed(connection: SSL.Connection) -> bool:
    """Whether the handshake took up an earlier session."""
    return bool(_LIB.SSL_session_reused(connection._ssl))


def set_groups(context: SSL.Context, names: str) -> None:
    """The groups for key exchange, by their OpenSSL names with colons between; ValueError if one is unknown."""
    if _LIB.SSL_CTX_set1_curves_list(context._context, names.encode()) != 1:
        raise ValueError(f"unknown curve in {names}")
