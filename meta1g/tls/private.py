"""What pyOpenSSL's bindings can do and its public interface can't: the one place that reaches behind it."""
from OpenSSL import SSL, crypto

_LIB = SSL._lib  # type: ignore[attr-defined]


def is_resumed(connection: SSL.Connection) -> bool:
    """Whether the handshake took up an earlier session."""
    return bool(_LIB.SSL_session_reused(connection._ssl))


def for_servers(store: crypto.X509Store) -> None:
    """Certificates that are verified with it must be fit for servers (RFC 5280 4.2.1.12)."""
    _LIB.X509_STORE_set_purpose(store._store, _LIB.X509_PURPOSE_SSL_SERVER)


def set_groups(context: SSL.Context, names: str) -> None:
    """The groups for key exchange, by their OpenSSL names with colons between; ValueError if one is unknown."""
    if _LIB.SSL_CTX_set1_curves_list(context._context, names.encode()) != 1:
        raise ValueError(f"unknown curve in {names}")
