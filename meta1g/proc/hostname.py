"""The name of this host when the configuration gives none (M1 3.4 item 1)."""
import socket


def own_name() -> str:
    """The fully qualified name if the system knows one, else the plain host name."""
    name = socket.getfqdn()
    if "." not in name or name.startswith("localhost"):
        name = socket.gethostname() or "localhost"
    return name
