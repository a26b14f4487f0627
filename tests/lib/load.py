"""Numbered messages from several clients at once; which of them were answered with 250."""
import smtplib
import threading

from tests.lib.wait import until

LARGE = 300_000  # octets: more than the content journal takes, so that it becomes a file at once


class Load:
    """Sends messages until `stop`; `accepted` holds the numbers that got 250."""

    def __init__(self, port: int, to: str, clients: int = 4) -> None:
        self.accepted: set[str] = set()
        self.ids: dict[str, str] = {}  # the id in the reply, by number
        self.errors = dict.fromkeys(range(clients), 0)
        self._port, self._to = port, to
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all clients."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def quiet(self) -> None:
        """With nobody listening: return when every client has seen that its connection is gone."""
        errors = dict(self.errors)
        until(lambda: all(self.errors[client] > errors[client] + 1 for client in errors), 30)

    def _run(self, client: int) -> None:
        count = 0
        while not self._stop.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self._port, timeout=20) as smtp:
                    for _ in range(5):
                        number = f"{client}-{count}"
                        count += 1
                        size = LARGE if count % 25 == 0 else 500
                        text = f"X-Number: {number}\nSubject: load\n\n" + ("x" * 70 + "\n") * (size // 71 + 1)
                        self._send(smtp, number, text)
            except (OSError, smtplib.SMTPException):
                self.errors[client] += 1
                self._stop.wait(0.02)

    def _send(self, smtp: smtplib.SMTP, number: str, text: str) -> None:
        smtp.ehlo_or_helo_if_needed()
        for code, reply in (smtp.mail("load@mail.test"), smtp.rcpt(self._to), smtp.data(text)):
            if code != 250:
                raise smtplib.SMTPResponseException(code, reply)
        self.ids[number] = reply.decode().split()[-1]
        self.accepted.add(number)
