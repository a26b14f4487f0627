"""Asking a running instance: QMGR over its control socket, SMAR over its own."""
import json
import os
import socket
from typing import Any, Final

from meta1g.mta.errors import FrameError, LinkDown
from meta1g.proto import msg_ar, msg_ctl
from meta1g.proto.msg_ctl import Answer, Command
from meta1g.proto.rcb import PROTOCOL_VERSION, FrameReader, Hello, Vocabulary

_TIMEOUT: Final = 60.0  # seconds: SMAR's own limit for an answer


class Refused(LinkDown):
    """QMGR has answered, but does not do it; the text says why."""


def ask_qmgr(path: str, name: str, **arguments: tuple[str, ...]) -> dict[str, Any]:
    """QMGR's answer to one command. LinkDown with the reason if there is none, Refused if that is the answer."""
    answer: Answer = _ask(path, msg_ctl.VOCABULARY, Command(name, json.dumps(arguments)))
    found: dict[str, Any] = json.loads(answer.text)
    if answer.is_error:
        raise Refused(str(found.get("error")))
    return found


def checkpoint(path: str, timeout: float) -> None:
    """Have QMGR show the readers of DEFEDB all that it has written. LinkDown if it has not in so many seconds."""
    _ask(path, msg_ctl.VOCABULARY, Command("checkpoint", "{}"), timeout)


def ask_smar(path: str) -> dict[str, Any]:
    """SMAR's statistics. LinkDown with the reason if there are none."""
    answer: msg_ar.Statistics = _ask(path, msg_ar.VOCABULARY, msg_ar.Statistics(""))
    found: dict[str, Any] = json.loads(answer.text)
    return found


def explain(path: str, question: Any) -> dict[str, Any]:
    """SMAR's answer to a question of SMTPS or QMGR, with the steps that led to it. LinkDown if there is none."""
    frame = msg_ar.VOCABULARY.frame(question)
    answer: msg_ar.Explained = _ask(path, msg_ar.VOCABULARY, msg_ar.Explain(frame))
    found: dict[str, Any] = json.loads(answer.text)
    return found


def _ask(path: str, vocabulary: Vocabulary, question: Any, timeout: float = _TIMEOUT) -> Any:
    hello = Hello(PROTOCOL_VERSION, os.getpid(), 0, "ctl")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout)
            sock.connect(path)
            sock.sendall(vocabulary.frame(hello) + vocabulary.frame(question, 1))
            reader = FrameReader(vocabulary)
            while data := sock.recv(65536):
                for message, tag in reader.feed(data):
                    if tag == 1:
                        return message
    except (OSError, FrameError) as error:
        raise LinkDown(f"{path}: {error}") from None
    raise LinkDown(f"{path}: the connection was closed")
