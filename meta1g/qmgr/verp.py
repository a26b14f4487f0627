"""The envelope sender that a recipient's mail and reports have: the transaction's, a list owner's, VERP; pure
(M1 3.8 item 18, 3.14).

Rules
    VERP for all mail if the configuration says `always`. Else on demand: the client asked for it by
    XVERP, or the list that the recipient came from is marked by an alias `verp-list`.
    The null sender stays what it is. What XVERP asked for ends at a list that has an owner.
"""
from meta1g.mta import addr, limits
from meta1g.proto.msg_ar import Target
from meta1g.proto.smtp.params import split_onward
from meta1g.qmgr.state import Rcpt, Ta, Verp


def sender_of(how: Verp, ta: Ta, rcpt: Rcpt) -> bytes:
    """The envelope sender for this recipient."""
    own = ta.mail if rcpt.sender is None else rcpt.sender
    if how.when == "always" or (not how.when and rcpt.sender is None and _is_asked_for(ta)):
        return replaced(how, own, rcpt.address)
    return own


def sender_of_member(how: Verp, ta: Ta, of_list: Rcpt, target: Target) -> bytes | None:
    """The sender that a member of a list gets to keep; None if it has that of the transaction."""
    owner = target.sender if target.has_sender else of_list.sender
    if target.is_verp and not how.when:
        return replaced(how, ta.mail if owner is None else owner, target.address)
    return owner


def replaced(how: Verp, mail: bytes, rcpt: bytes) -> bytes:
    """`lm@mail` for `lr@rcpt` becomes `lm+lr=rcpt@mail`.

    A sender without a domain is left alone, and one whose path would be longer than RFC 5321 4.5.3.1.3 allows.
    """
    local, domain = addr.split(mail)
    if not domain:
        return mail
    rcpt_local, rcpt_domain = addr.split(rcpt)
    name = addr.unquote_local(local) + how.delimiter1 + addr.unquote_local(rcpt_local)
    if rcpt_domain:
        name += how.delimiter2 + rcpt_domain
    made = addr.quote_local(name) + b"@" + domain
    return made if len(made) + 2 <= limits.PATH else mail


def _is_asked_for(ta: Ta) -> bool:
    return bool(ta.mail_params) and b"XVERP" in split_onward(ta.mail_params)
