"""The sections check during a session: order, counts, replies, log lines (M1 8.5.1)."""
from meta1g.conf.opt_smtps import CheckConf
from meta1g.mta.reply import Reply
from meta1g.proc.log import SESSION, Log
from meta1g.proto.smtp import replies
from meta1g.smtps.check import SessionChecks, read_checks


class Lines(Log):
    """A log that keeps its lines."""

    def __init__(self) -> None:
        super().__init__("test")
        self.lines: list[str] = []

    def write(self, line: str, level: int = SESSION) -> None:
        self.lines.append(line)

    def error(self, line: str) -> None:
        self.lines.append(f"error {line}")


def session(*sections: tuple[str, str, str]) -> tuple[SessionChecks, list[str]]:
    log = Lines()
    checks = read_checks(CheckConf(*section) for section in sections)
    return SessionChecks(checks, log, "my.dom"), log.lines


def test_the_first_that_is_true_acts() -> None:
    checks, lines = session(
        ("mail", 'mail =~ "^a@"', "permfail"), ("rcpt", 'rcpt == "x@y.z"', "abort"),
        ("mail", 'mail =~ "@b"', "tempfail"), ("mail", 'mail =~ ""', "abort"))
    assert checks.on_connect("S1", "192.0.2.1", "", "") is None
    assert checks.on_mail("T1", b"a@b") == replies.CHECK_PERMFAIL == Reply(
        550, "5.7.1", "Rejected by the policy of this server")
    assert checks.on_mail("T2", b"c@B") == replies.CHECK_TEMPFAIL
    assert checks.on_mail("T3", b"") == replies.CHECK_ABORT
    assert checks.on_rcpt(b"x@Y.z") == replies.CHECK_ABORT
    assert checks.on_data() is None
    assert lines == [
        "ss_se=S1, ss_ta=T1, status=check mail 1, action=permfail",
        "ss_se=S1, ss_ta=T2, status=check mail 2, action=tempfail",
        "ss_se=S1, ss_ta=T3, status=check mail 3, action=abort",
        "ss_se=S1, ss_ta=T3, status=check rcpt 1, action=abort",
    ]


def test_no_value_is_false_and_logged() -> None:
    checks, lines = session(
        ("mail", "!(1 / (transactions - 1) > 0)", "abort"), ("mail", "transactions > 0", "tempfail"))
    checks.on_connect("S1", "192.0.2.1", "", "")
    assert checks.on_mail("T1", b"") == replies.CHECK_TEMPFAIL
    assert lines[0] == "error ss_se=S1, ss_ta=T1, func=smtps, check=mail 1, status=division by zero; taken for false"


def test_client() -> None:
    condition = ('client_ip == "192.0.2.1" && client_name == "mx.my.dom" && client_resolve == "ok" '
                 '&& hostname == "my.dom" && session_id == "S1"')
    checks, lines = session(("connect", condition, "abort"))
    assert checks.on_connect("S1", "192.0.2.1", "", "") is None
    assert checks.on_connect("S1", "192.0.2.1", "MX.my.dom.", "ok") == replies.CHECK_ABORT
    assert lines == ["ss_se=S1, status=check connect 1, action=abort"]


def test_counts() -> None:
    checks, _ = session(
        ("rcpt", "transactions == 2 && session_rcpts_total == 4 && transaction_rcpts_total == 2 "
                 "&& transaction_rcpts_ok == 1", "abort"),
        ("mail", "transactions == 3 && session_rcpts_total == 4", "abort"),
        ("eom", 'message_size == 9 && hops == 2 && message_id == "<i@d>" && rcpt == "b@x"', "tempfail"))
    checks.on_connect("S1", "192.0.2.1", "", "")
    assert checks.on_mail("T1", b"a@x") is None
    for reply in (replies.RCPT_OK, replies.UNKNOWN_USER):
        assert checks.on_rcpt(b"a@x") is None
        checks.on_rcpt_answered(reply)
    assert checks.on_mail("T2", b"a@x") is None
    assert checks.on_rcpt(b"a@x") is None
    checks.on_rcpt_answered(replies.RCPT_OK)
    assert checks.on_rcpt(b"b@x") == replies.CHECK_ABORT
    assert checks.on_end(9, 2, b"<i@d>") == replies.CHECK_TEMPFAIL
    assert checks.on_mail("T3", b"a@x") == replies.CHECK_ABORT
