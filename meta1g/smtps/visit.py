"""One client: who it is, and what policy, TLS, AUTH and the configuration's checks have found out so far."""
from meta1g.conf.errors import ConfErrors
from meta1g.mta import logfmt
from meta1g.mta.errors import StoreError
from meta1g.mta.reply import Reply
from meta1g.proc.log import SESSION
from meta1g.proto.smtp import replies
from meta1g.smtps import session_conf
from meta1g.smtps.authentication import Authentication
from meta1g.smtps.check import SessionChecks
from meta1g.smtps.policy import Policy
from meta1g.smtps.secure import Security
from meta1g.smtps.session_conf import Wishes
from meta1g.smtps.setting import Setting


class Visit:
    """What the parts of a session share; `se` is empty until it has an id, `client_name` if it is not confirmed."""

    def __init__(self, setting: Setting, ip: str) -> None:
        self.set = setting
        self.ip = ip
        self.se = ""
        self.client_name = ""
        self.is_ehlo = False
        self.offers = setting.options.offers
        self.policy = Policy(setting.policy_flags)
        self.security = Security(setting.tls, setting.tls_violation, setting.log)
        self.auth = Authentication(setting.auth)
        self.checks = SessionChecks(setting.checks, setting.log, setting.options.hostname)

    def wishes(self, conf: str) -> Wishes | None:
        """What an entry of the access map says, None if it has a mistake."""
        try:
            return session_conf.wishes_of(conf, self.set.classes)
        except ConfErrors as error:
            self.set.log.error(logfmt.fields(
                func="smtps", tag="smtps_session_conf", value=conf, status=f"{error}"))
            return None

    def qualified(self, address: bytes) -> bytes:
        """With our name as its domain if it has none, as <postmaster> may (RFC 5321 4.5.1)."""
        return address if b"@" in address else address + b"@" + self.set.options.hostname.encode("ascii", "replace")

    def log(self, ta: str, **named: object) -> None:
        """A line about the session or a transaction of it."""
        if self.set.log.wants(SESSION):
            self.set.log.write(logfmt.fields(ss_se=self.se, ss_ta=ta or None, **named), SESSION)

    def store_trouble(self, error: StoreError) -> Reply:
        """What the client is told when the disk refuses."""
        self.set.log.error(f"func=smtps, ss_se={self.se}, status={logfmt.clean(error)}")
        return replies.NO_SPACE if error.is_full else replies.LOCAL_ERROR


def stat(reply: Reply) -> object:
    """A reply as a log line has it."""
    return 0 if reply.is_positive else reply
