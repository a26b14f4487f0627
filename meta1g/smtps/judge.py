"""May this sender, this recipient: what SMAR is asked, and what follows from its verdicts (M1 3.12.2)."""
from meta1g.mta import addr
from meta1g.mta.reply import Reply
from meta1g.proto.msg_ar import CheckGrey, CheckMail, CheckRcpt, Verdict, Want
from meta1g.proto.smtp import replies
from meta1g.smtps.policy import Decision, rejection
from meta1g.smtps.transaction import Transaction
from meta1g.smtps.visit import Visit


def mail(visit: Visit, address: bytes) -> Reply | None:
    """Why mail can't come from this sender."""
    setting, policy = visit.set, visit.policy
    if not address:
        return policy.on_null_sender().reply
    question = CheckMail(setting.policy_flags.wants & Want.ACCESS, policy.skips_mail_checks, visit.ip, address)
    return policy.on_mail(setting.smar.ask(question)).reply


def rcpt(visit: Visit, ta: Transaction, given: bytes, address: bytes) -> Decision:
    """Whether mail may go to this recipient; `given` is the address as RCPT had it."""
    verdict = visit.set.smar.ask(_rcpt_question(visit, ta, address))
    decision = visit.policy.on_rcpt(given, verdict)
    if decision.reply or decision.is_discarded:
        return decision
    return decision._replace(reply=_check_tls(visit, verdict) or _check_grey(visit, ta, address, verdict))


def vrfy(visit: Visit, word: bytes) -> Reply:
    """252, or what SMAR knows of a local address (RFC 5321 3.5.1)."""
    address = word.strip(b"<> ")
    if visit.set.vrfy != "local" or not addr.is_mailbox(address):
        return replies.VRFY
    verdict = visit.set.smar.ask(CheckRcpt(0, "", b"", visit.qualified(address)))
    if verdict.code or not verdict.is_local:
        return replies.VRFY
    return replies.KNOWN_USER if verdict.exists else replies.UNKNOWN_USER


def _check_tls(visit: Visit, verdict: Verdict) -> Reply | None:
    """What the access map requires of TLS for a recipient (M1 3.10.1)."""
    if "tls_requirements" not in verdict.conf:
        return None
    wishes = visit.wishes(verdict.conf)
    return visit.security.refusal(wishes.required) if wishes is not None else replies.ENTRY_BAD


def _rcpt_question(visit: Visit, ta: Transaction, address: bytes) -> CheckRcpt:
    """Sender and client only where the answer depends on them, so that it can be kept."""
    wants = visit.set.policy_flags.wants
    if wants & Want.PROTECTED and visit.set.smar.may_have("protectedrcpt"):
        return CheckRcpt(wants, visit.ip, ta.mail, address)
    return CheckRcpt(wants, "", b"", address)


def _check_grey(visit: Visit, ta: Transaction, address: bytes, verdict: Verdict) -> Reply | None:
    """The reply to a greylisted client (M1 3.9.4), None if it may go on for now."""
    if not visit.policy.is_greylisted(verdict):
        return None
    flags = visit.set.policy_flags
    sender, recipient = (ta.mail, address) if flags.fullgreylisting else (b"", b"")
    reply = rejection(visit.set.smar.ask(CheckGrey(flags.fullgreylisting, visit.ip, sender, recipient)))
    if reply is not None and flags.delay_greylisting:
        ta.greylisted = reply
        return None
    return reply
