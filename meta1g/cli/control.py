"""Talking to a running instance: MCP's status file, QMGR's control socket."""
import json
import os
import socket
from typing import Any, Final

from meta1g.mta.errors import FrameError, LinkDown
from meta1g.proto import msg_ctl
from meta1g.proto.msg_ctl import Answer, Command
from meta1g.proto.rcb import PROTOCOL_VERSION, FrameReader, Hello

_TIMEOUT: Final = 10.0


def ask(path: str, name: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
    """QMGR's answer to one command. LinkDown with the reason if there is none."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_TIMEOUT)
            sock.connect(path)
            return _converse(sock, Command(name, json.dumps(arguments or {})))
    except (OSError, FrameError) as error:
        raise LinkDown(f"{path}: {error}") from None


def _converse(sock: socket.socket, command: Command) -> dict[str, Any]:
    vocabulary = msg_ctl.VOCABULARY
    sock.sendall(vocabulary.frame(Hello(PROTOCOL_VERSION, os.getpid(), 0, "ctl")) + vocabulary.frame(command, 1))
    reader = FrameReader(vocabulary)
    while True:
        data = sock.recv(65536)
        if not data:
            raise LinkDown("QMGR closed the control connection")
        for message, _ in reader.feed(data):
            if isinstance(message, Answer):
                found: dict[str, Any] = json.loads(message.text)
                if message.is_error:
                    raise LinkDown(str(found.get("error")))
                return found
