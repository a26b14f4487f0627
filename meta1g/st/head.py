"""The line that begins a connection, before what it is there for."""
from meta1g.mta.errors import RemoteProtocolError
from meta1g.st.netfd import NetFd
from meta1g.st.sched import TimedOut, now


def read_head(netfd: NetFd, most: int, timeout: float) -> bytes:
    """The line without CRLF; what comes behind it is left to be read.

    TimedOut after `timeout` seconds in all; RemoteProtocolError if the connection ends before the line does, or
    the line with CRLF is longer than `most`; OSError.
    """
    data, end = b"", now() + timeout
    while True:
        left = end - now()
        if left <= 0:
            raise TimedOut
        piece = netfd.peek(most, left)
        if not piece:
            raise RemoteProtocolError("connection closed in first line")
        line, crlf, rest = (data + piece).partition(b"\r\n")
        if crlf and len(line) + len(crlf) <= most:
            netfd.read(len(piece) - len(rest), left)
            return line
        data += netfd.read(len(piece), left)
        if crlf or len(data) >= most:
            raise RemoteProtocolError("first line is too long")
