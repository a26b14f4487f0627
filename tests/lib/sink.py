"""An SMTP sink that counts: every message it answered with 250, by a number in its subject."""
import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable

_NUMBER = re.compile(rb"^X-Number: (\S+)", re.MULTILINE)
_ID = re.compile(rb"\tid (S[0-9A-F]{18});")


class Sink:
    """Listens on a loopback port; `refuse` turns RCPT into a temporary error."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.seen: Counter[str] = Counter()
        self.messages: list[bytes] = []
        self.unanswered: set[bytes] = set()  # numbers that were taken, but got no reply
        self.ids: dict[str, set[str]] = {}  # transaction ids, from our Received field, by number
        self.refuse = False
        self.extensions = ["PIPELINING", "8BITMIME"]
        self.reply = b""
        # At "rcpt" or "dot": "450", "drop", "late", "slow", "hang".
        self.mischief: Callable[[str], str] = lambda where: ""
        self.go_on = threading.Event()  # what hangs waits for
        self.tls = tls  # what STARTTLS begins with
        self.versions: list[str] = []  # of TLS, of each handshake; empty for one that failed
        self.injects = b""  # said together with the answer to STARTTLS
        self.on_rcpt: Callable[[str], None] = lambda line: None
        self._lock = threading.Lock()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(512)
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Be gone: refuse connections and drop those that are there."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in self._open:
                sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            self._talk(sock)
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()

    def _talk_in_tls(self, sock: socket.socket) -> None:
        assert self.tls is not None
        try:
            inner = self.tls.wrap_socket(sock, server_side=True)
        except OSError:
            self.versions.append("")
            raise
        self.versions.append(inner.version() or "")
        with inner:
            self._dialog(inner)

    def _talk(self, sock: socket.socket) -> None:
        sock.sendall(b"220 sink ESMTP\r\n")
        self._dialog(sock)

    def _dialog(self, sock: socket.socket) -> None:
        stream = sock.makefile("rb")
        for line in stream:
            verb = line[:4].upper()
            if line.upper() == b"STARTTLS\r\n" and self.tls is not None:
                sock.sendall(b"220 2.0.0 go\r\n" + self.injects)
                self._talk_in_tls(sock)
                return
            if verb == b"RCPT":
                self.on_rcpt(line.decode())
            if verb in (b"EHLO", b"HELO"):
                is_plain = self.tls is not None and not isinstance(sock, ssl.SSLSocket)
                words = ["sink", *self.extensions, *(["STARTTLS"] if is_plain else [])]
                sock.sendall("".join(f"250{' ' if word is words[-1] else '-'}{word}\r\n" for word in words).encode())
            elif verb == b"DATA":
                sock.sendall(b"354 go\r\n")
                content = []
                for part in stream:
                    if part == b".\r\n":
                        break
                    content.append(part)
                else:
                    return
                what = self.mischief("dot")
                if what == "drop":
                    return
                if what == "450":
                    sock.sendall(b"450 4.2.0 later\r\n")
                    continue
                if what == "hang":
                    self.go_on.wait(60)
                if what == "slow":
                    time.sleep(0.2)
                self._take(b"".join(content))
                if what == "late":
                    self.unanswered.update(_NUMBER.findall(b"".join(content)))
                    return
                sock.sendall(b"250 2.0.0 taken\r\n")
            elif verb == b"QUIT":
                sock.sendall(b"221 bye\r\n")
                return
            elif verb == b"RCPT" and (self.refuse or self.mischief("rcpt") == "450"):
                sock.sendall(self.reply or b"450 4.2.0 later\r\n")
            else:
                sock.sendall(b"250 2.0.0 ok\r\n")

    def _take(self, content: bytes) -> None:
        match = _NUMBER.search(content)
        with self._lock:
            self.messages.append(content)
            if match:
                number = match[1].decode().strip()
                self.seen[number] += 1
                self.ids.setdefault(number, set()).update(ta.decode() for ta in _ID.findall(content[:2000]))
