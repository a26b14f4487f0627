#!/usr/bin/env python3
"""The smallest policy that does something: notes who sent a message, and refuses one sender.

Run it:     python example0.py -p /run/example0.sock -m 666
Tell SMTPS: policy_milter { socket { type = unix; path = /run/example0.sock; } }
"""
from meta1g.pmilter import PolicyMilter, Result, Session, run


class Example(PolicyMilter):
    """The smallest policy that does something."""

    def mail(self, session: Session, sender: str, params: list[str]) -> Result:
        if sender == "spammer@example.com":
            return session.refuse("550 5.7.1 Your mail is not wanted here")
        return None  # go on

    def eom(self, session: Session) -> Result:
        session.add_header("X-Example", f"from {session.client_address}, {len(session.rcpts)} recipients")
        return None


if __name__ == "__main__":
    raise SystemExit(run(Example(), "unix:/run/example0.sock"))
