"""A filter made with Debian's python3-milter, so with the real libmilter: it does what the mail asks for.

Run by /usr/bin/python3: everyaction.py SOCKET LOG. Fields `X-Do: ACTION ARGUMENTS` name the actions; an address of the
form ACTION@do.test has that done at MAIL or RCPT, a HELO name likewise at HELO. What it is told goes to LOG.
"""
import sys

import Milter

ANSWERS = {
    "accept": Milter.ACCEPT, "reject": Milter.REJECT, "tempfail": Milter.TEMPFAIL, "discard": Milter.DISCARD,
    "continue": Milter.CONTINUE,
}
MACROS = ["j", "_", "i", "v", "{daemon_name}", "{daemon_addr}", "{daemon_port}", "{client_addr}", "{client_name}",
          "{client_port}", "{client_ptr}", "{tls_version}", "{cipher}", "{cipher_bits}", "{verify}", "{auth_type}",
          "{auth_authen}", "{mail_addr}", "{mail_host}", "{mail_mailer}", "{rcpt_addr}", "{rcpt_host}",
          "{rcpt_mailer}", "{msg_id}", "{nrcpts}"]


@Milter.rejected_recipients
@Milter.header_leading_space
class Everything(Milter.Base):
    """One session."""

    def say(self, *what: object) -> None:
        with open(sys.argv[2], "a", encoding="utf-8", errors="surrogateescape") as log:
            print(*what, file=log)

    def tell_macros(self, stage: str) -> None:
        for name in MACROS:
            value = self.getsymval(name)
            if value is not None:
                self.say(stage, name, value)

    def answer(self, word: str) -> int:
        if word.isdigit():
            self.setreply(word, f"{word[0]}.7.9", "as you like", "a second line, 100%%")
            return Milter.TEMPFAIL if word[0] == "4" else Milter.REJECT
        return ANSWERS.get(word, Milter.CONTINUE)

    def connect(self, host: str, family: int, address: object) -> int:
        self.say("connect", host, family, address)
        self.tell_macros("connect")
        return Milter.CONTINUE

    def hello(self, name: str) -> int:
        self.say("helo", name)
        return self.answer(name.partition(".")[0])

    def envfrom(self, address: str, *params: str) -> int:
        self.say("mail", address, *params)
        self.tell_macros("mail")
        self.todo: list[list[str]] = []
        self.size = 0
        return self.answer(address.strip("<>").partition("@")[0])

    def envrcpt(self, address: str, *params: str) -> int:
        self.say("rcpt", address, *params)
        self.tell_macros("rcpt")
        return self.answer(address.strip("<>").partition("@")[0])

    def data(self) -> int:
        self.say("data")
        return Milter.CONTINUE

    def unknown(self, line: str) -> int:
        self.say("unknown", line)
        return self.answer("502" if line.startswith("FROB") else "continue")

    def header(self, name: str, value: str) -> int:
        self.say("header", repr(name), repr(value))
        if name == "X-Do":
            self.todo.append(value.split(" ")[1:])
        return Milter.CONTINUE

    def eoh(self) -> int:
        self.say("eoh")
        words = [action[1] for action in self.todo if action[0] == "eoh"]
        return self.answer(words[0]) if words else Milter.CONTINUE

    def body(self, piece: bytes) -> int:
        self.size += len(piece)
        return Milter.SKIP if ["skip"] in self.todo else Milter.CONTINUE

    def eom(self) -> int:
        self.say("eom", self.size)
        self.tell_macros("eom")
        result = Milter.CONTINUE
        for name, *rest in self.todo:
            if name == "add":
                self.addheader(rest[0], " " + " ".join(rest[1:]).replace("|", "\n"))
            elif name == "insert":
                self.addheader(rest[1], " " + " ".join(rest[2:]), int(rest[0]))
            elif name == "change":
                self.chgheader(rest[0], int(rest[1]), (" " + " ".join(rest[2:])) if rest[2:] else "")
            elif name == "body":
                self.replacebody(" ".join(rest).replace("|", "\r\n").encode())
            elif name == "large":
                for _ in range(int(rest[0])):
                    self.replacebody(b"The quick brown fox.\r\n.dots\r\n" * 2000)
            elif name == "from":
                self.chgfrom(rest[0], *rest[1:])
            elif name == "to":
                self.addrcpt(rest[0], *rest[1:])
            elif name == "not-to":
                self.delrcpt(rest[0])
            elif name == "quarantine":
                self.quarantine(" ".join(rest))
            elif name == "progress":
                self.progress()
            elif name == "end":
                result = self.answer(rest[0])
        return result

    def abort(self) -> int:
        self.say("abort")
        return Milter.CONTINUE

    def close(self) -> int:
        self.say("close")
        return Milter.CONTINUE


Milter.factory = Everything
Milter.set_flags(Milter.ADDHDRS + Milter.CHGHDRS + Milter.CHGBODY + Milter.ADDRCPT + Milter.ADDRCPT_PAR + Milter.DELRCPT
                 + Milter.QUARANTINE + Milter.CHGFROM)
Milter.runmilter("everything", sys.argv[1], 600)
