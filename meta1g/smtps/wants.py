"""What a server asks SMAR about clients and addresses, by its options; pure (M1 3.10 items 4.2, 4.9, 4.11, 22)."""
from typing import Any

from meta1g.proto.msg_ar import Want


def wants_of(conf: Any) -> int:
    """Flags of Want for the options `conf` (SmtpsConf)."""
    wants = Want.ACCESS * ("access" in conf.flags)
    wants |= Want.SESSION_CONF * ("lookup_session_conf" in conf.flags)
    wants |= Want.RCPT_CONF * ("rcpt_conf" in conf.flags)
    protected = conf.protected_recipients
    if protected is None:
        return wants
    ways, matching = protected.allow_by, protected.match_type
    wants |= Want.BY_SENDER * ("sender" in ways) | Want.BY_CLIENT * ("client_ip" in ways)
    return wants | {"generic_lookup": Want.GENERIC, "implicitly_match_detail": Want.DETAIL}.get(matching, 0)
