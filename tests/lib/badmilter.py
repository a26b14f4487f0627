"""A milter by script: at one packet it hangs, dies, lies, floods or sends garbage; to all others it says go on."""
import contextlib
import socket
import struct
import threading
from pathlib import Path

CONTINUE = b"\0\0\0\1c"
TROUBLES = {
    "hang": b"", "half": b"\0\0\0\x09h", "garbage": b"\xff" * 100, "empty": b"\0\0\0\0", "unknown": b"\0\0\0\1Z",
    "early": b"\0\0\0\5hX\0y\0", "failure": b"\0\0\0\1f", "options": b"\0\0\0\x0dO" + b"\0" * 12,
}
FLOODS = {"progress": b"\0\0\0\1p", "headers": b"\0\0\0\x05hX\0y\0", "empty bodies": b"\0\0\0\1b",
          "bodies": struct.pack("!I", 65536) + b"b" + b"x" * 65535}
NO_REPLY = {b"L": 0x80, b"C": 0x1000, b"H": 0x2000, b"M": 0x4000, b"R": 0x8000, b"T": 0x10000, b"U": 0x20000,
            b"N": 0x40000, b"B": 0x80000}  # the steps by which a milter says that it won't answer a packet


class BadMilter:
    """Listens at `path`; `at` is the letter of the packet at which it does `what`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.at, self.what = b"", ""
        self.steps = 0
        self.actions = 0x1FF
        self.after_next = ""  # hang or die when another session shall follow
        self.said = CONTINUE  # to everything else
        self.verdicts: dict[bytes, bytes] = {}  # by letter; after another than CONTINUE libmilter hears no more of it
        self.seen: list[bytes] = []
        self.sessions = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(10)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.sessions += 1
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        is_deaf = False
        with contextlib.suppress(OSError), sock, sock.makefile("rb") as octets:
            while head := octets.read(5):
                length, letter = struct.unpack("!Ic", head)
                octets.read(length - 1)
                self.seen.append(letter)
                if letter == self.at and self.what:
                    if not self._make_trouble(sock):
                        return
                elif letter == b"O":
                    sock.sendall(b"\0\0\0\x0dO" + struct.pack("!III", 6, self.actions, self.steps))
                elif letter == b"K" and self.after_next:
                    if self.after_next == "die":
                        return
                    octets.read()
                elif letter not in b"DAQK" and not self.steps & NO_REPLY.get(letter, 0):
                    is_deaf = is_deaf and letter in b"LNBE"
                    if not is_deaf:
                        sock.sendall(self.verdicts.get(letter, self.said))
                        is_deaf = self.verdicts.get(letter, b"s")[-1:] != b"s"  # SKIP goes on

    def _make_trouble(self, sock: socket.socket) -> bool:
        """False if the connection ends."""
        what = self.what
        if what == "die":
            return False
        while what in FLOODS:
            sock.sendall(FLOODS[what])
        sock.sendall(TROUBLES[what])
        return True
