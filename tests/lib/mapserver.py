"""A server for socket maps (M1 10.2)."""
import socket
import threading
from collections.abc import Callable


class Server:
    """Answers each request with what `handle` says: octets, or None to close."""

    def __init__(self, handle: Callable[[bytes], bytes | None], path: str = "") -> None:
        self.handle = handle
        self.connections = 0
        self.clients: list[socket.socket] = []
        if path:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.bind(path)
        else:
            self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.listen()
        self.address = path or self.sock.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)  # answers leave in pieces
            self.connections += 1
            self.clients.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                while data := sock.recv(65536):
                    answer = self.handle(data)
                    if answer is None:
                        return
                    for at in range(0, len(answer), 7):
                        sock.sendall(answer[at:at + 7])
            except OSError:
                pass  # the map has given up

    def stop(self) -> None:
        """End as a server that is restarted does: nobody listens, and every connection is closed."""
        self.sock.close()
        for sock in self.clients:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # has ended
