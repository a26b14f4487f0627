"""Numbered messages from several clients at once; which of them were answered with 250."""
import smtplib
import threading


class Load:
    """Sends messages until `stop`; `accepted` holds the numbers that got 250."""

    def __init__(self, port: int, to: str, clients: int = 4) -> None:
        self.accepted: set[str] = set()
        self.errors = 0
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

    def _run(self, client: int) -> None:
        count = 0
        while not self._stop.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self._port, timeout=20) as smtp:
                    for _ in range(5):
                        number = f"{client}-{count}"
                        count += 1
                        text = f"X-Number: {number}\nSubject: load\n\n" + "x" * 500 + "\n"
                        smtp.sendmail("load@mail.test", [self._to], text)
                        self.accepted.add(number)
            except (OSError, smtplib.SMTPException):
                self.errors += 1
                self._stop.wait(0.02)
