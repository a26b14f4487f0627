"""One LMTP session (RFC 2033): recipients checked, content delivered, one reply for each."""
from dataclasses import dataclass
from email.utils import formatdate

from meta1g.lda.maildir import Maildirs, to_local
from meta1g.lda.users import Users
from meta1g.mta import addr, logfmt
from meta1g.mta.errors import StoreError
from meta1g.mta.reply import Reply
from meta1g.proc.log import SESSION, Log
from meta1g.proto.smtp import replies
from meta1g.proto.smtp.events import Chunk, Closed, ContentEnd, DataAsked, Event, MailAsked, RcptAsked, Reset, VrfyAsked
from meta1g.proto.smtp.options import ServerOptions
from meta1g.proto.smtp.server import SmtpServer
from meta1g.proto.smtp.tally import Tally, TallyLimits
from meta1g.st.block import Blocking
from meta1g.st.netfd import NetFd
from meta1g.st.sched import Interrupted, TimedOut

_READ_SIZE = 64 * 1024
_LIMITS = TallyLimits(nop_commands_between_transactions=100_000, nop_commands_in_transaction=100_000)


@dataclass(slots=True)
class Setting:
    """What all sessions share; `io_timeout` in seconds."""

    options: ServerOptions
    users: Users
    maildirs: Maildirs
    blocking: Blocking
    io_timeout: float
    log: Log


class Session:
    """Serves one client of ours, normally SMTPC."""

    def __init__(self, netfd: NetFd, setting: Setting) -> None:
        self._netfd = netfd
        self._set = setting
        self._machine = SmtpServer(setting.options, Tally(_LIMITS))
        self._mail = b""
        self._rcpts: list[tuple[bytes, str]] = []
        self._pieces: list[bytes] = []

    def run(self) -> None:
        """The whole session."""
        machine, netfd, timeout = self._machine, self._netfd, self._set.io_timeout
        machine.greet(f"220 {self._set.options.hostname} LMTP meta1g lda\r\n".encode())
        try:
            while True:
                event = machine.next_event()
                if event is not None:
                    if self._handle(event):
                        netfd.write(machine.take_output(), timeout)
                        return
                    continue
                output = machine.take_output()
                if output:
                    netfd.write(output, timeout)
                data = netfd.read(_READ_SIZE, timeout)
                if not data:
                    return
                machine.feed(data)
        except (OSError, TimedOut, Interrupted):
            return  # without our reply the client keeps the message

    def _handle(self, event: Event) -> bool:
        """Act on an event; whether the session is over."""
        machine = self._machine
        match event:
            case MailAsked():
                self._mail, self._rcpts, self._pieces = event.address, [], []
                machine.answer(replies.MAIL_OK)
            case RcptAsked():
                machine.answer(self._on_rcpt(event.address))
            case DataAsked():
                self._pieces = []
                machine.answer(replies.START_DATA)
            case Chunk():
                self._pieces.append(event.octets)
            case ContentEnd():
                machine.answer_each(self._deliver_all(event))
                self._rcpts, self._pieces = [], []
            case VrfyAsked():
                machine.answer(replies.VRFY)
            case Reset():
                self._rcpts, self._pieces = [], []
            case Closed():
                return True
        return False

    def _on_rcpt(self, address: bytes) -> Reply:
        user = self._set.users.mailbox(address)
        if user is None:
            self._set.log.write(logfmt.fields(func="lda", rcpt=addr.bracketed(address), stat=550), SESSION)
            return replies.UNKNOWN_USER
        self._rcpts.append((address, user))
        return replies.RCPT_OK

    def _deliver_all(self, end: ContentEnd) -> list[Reply]:
        if end.fault is not None:
            return [end.fault] * len(self._rcpts)
        content = to_local(b"".join(self._pieces))
        return [self._deliver(address, user, content) for address, user in self._rcpts]

    def _deliver(self, address: bytes, user: str, content: bytes) -> Reply:
        setting = self._set
        received = f"Received: by {setting.options.hostname} (meta1g lda) with LMTP; {formatdate(localtime=True)}\n"
        trace = b"Return-Path: %b\nDelivered-To: %b\n%b" % (addr.bracketed(self._mail), address, received.encode())
        try:
            name = setting.blocking.run(setting.maildirs.deliver, user, trace, content)
        except StoreError as error:
            setting.log.error(f"func=lda, user={user}, status={logfmt.clean(error)}")
            return replies.NO_SPACE if error.is_full else replies.LOCAL_ERROR
        setting.log.write(logfmt.fields(
            func="lda", mail=addr.bracketed(self._mail), rcpt=addr.bracketed(address), user=user, file=name,
            size=len(content), stat=0), SESSION)
        return Reply(250, "2.1.5", "Delivered")
