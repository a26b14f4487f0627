"""Whether a client may stay: a proxy's word on who it is, the access map, the checks, QMGR's limits."""
from collections.abc import Callable

from meta1g.mta import logfmt
from meta1g.mta.errors import LinkDown, RemoteProtocolError
from meta1g.mta.reply import Reply
from meta1g.proc.log import SESSION
from meta1g.proto.msg_ar import CheckConnect
from meta1g.proto.smtp import replies
from meta1g.smtps import behind
from meta1g.smtps.session_conf import NOTHING, Features
from meta1g.smtps.setting import Setting, is_in
from meta1g.smtps.visit import Visit
from meta1g.st.netfd import NetFd
from meta1g.st.sched import TimedOut


def unproxied(netfd: NetFd, ip: str, setting: Setting) -> str:
    """The address of the client: if a proxy has connected, of who is behind it. RemoteProtocolError."""
    gate = setting.gate
    if gate is not None and gate.is_smtpp(netfd, ip):
        try:
            return behind.introduced(netfd, gate) or ip
        except (RemoteProtocolError, TimedOut) as error:
            setting.log.warning(logfmt.fields(
                func="smtps", client_ip=ip, status="proxy refused", reason=str(error) or "timeout"))
            raise RemoteProtocolError("proxy refused") from None
    return (behind.balanced(netfd) or ip) if is_in(ip, setting.proxies) else ip


class Welcome:
    """The way in of one client, and out again."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._is_counted = False  # by QMGR

    def refusal(self, name_said: str | None, has_talked: Callable[[], bool]) -> Reply | None:
        """Why the client, whose name a trusted one may have said, can't stay; `has_talked`: before the greeting."""
        visit = self._visit
        setting = visit.set
        is_late = not setting.qmgr.wants_names  # a client that is too many shall cost no DNS lookup
        try:
            visit.se = setting.ids.take()
            refusal = None if is_late else self._check(name_said)
        except LinkDown:
            refusal = replies.NO_QMGR
        is_limit = False
        if refusal is None:
            refusal = self._open()
            is_limit = refusal is not None
        if refusal is None and is_late:
            refusal = self._check(name_said)
        if refusal is None and not setting.allows_early_data and has_talked():
            refusal = replies.EARLY_TALKER
        name = visit.client_name or ("" if setting.policy_flags.use_access else "Hostname_Not_Determined")
        setting.log.write(logfmt.fields(
            ss_se=visit.se, client_ip=visit.ip, client_name=name or None, stat=refusal or 0), SESSION)
        if refusal is not None:
            setting.counts.refuse(refusal, is_limit=is_limit)
        elif name_said is None:
            setting.counts.sessions += 1
        return refusal

    def leave(self) -> None:
        """The client goes, or becomes another one."""
        if self._is_counted:
            self._is_counted = False
            self._visit.set.qmgr.close_session(self._visit.se, self._visit.ip)

    def _open(self) -> Reply | None:
        """Have QMGR count the session; its refusal if there are too many."""
        visit = self._visit
        try:
            ack = visit.set.qmgr.open_session(visit.se, visit.ip, visit.client_name)
        except (LinkDown, TimedOut):
            return replies.NO_QMGR
        self._is_counted = not ack.code
        return Reply(ack.code, ack.estat, ack.text) if ack.code else None

    def _check(self, name_said: str | None) -> Reply | None:
        """The access map's word on the client, if it is in use, and then the configuration's checks."""
        visit = self._visit
        refusal, resolve = None, ""
        if visit.set.policy_flags.use_access:
            verdict = visit.set.smar.ask(CheckConnect(visit.set.policy_flags.wants, visit.ip))
            visit.client_name = verdict.client_name if name_said is None else name_said
            refusal, resolve = visit.policy.on_connect(verdict).reply or self._configure(verdict.conf), verdict.resolve
        return refusal or visit.checks.on_connect(visit.se, visit.ip, visit.client_name, resolve)

    def _configure(self, conf: str) -> Reply | None:
        """Give the session the features that an entry of the access map wants it to have (M1 3.10 item 25)."""
        visit = self._visit
        wishes = visit.wishes(conf) if conf else NOTHING
        if wishes is None:
            return replies.ENTRY_BAD
        features = wishes.features or Features(visit.set.options.offers)
        visit.security.end = features.tls or visit.set.tls
        visit.security.required = wishes.required
        visit.offers = features.offers
        return None
