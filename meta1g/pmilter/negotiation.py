"""What is agreed upon when an SMTP server connects (M1 15.1.3)."""
import logging
from typing import Final

from meta1g.mta import logfmt
from meta1g.pmilter.contexts import Process, Server, Words
from meta1g.pmilter.policy import PolicyMilter, capabilities_of, methods_of
from meta1g.pmilter.session import octets, text
from meta1g.proto.pmilter import numbers
from meta1g.proto.pmilter.messages import Offer, Refuse, StageSymbols, Wants
from meta1g.proto.pmilter.numbers import Cap, Fct, Feat

_LOG: Final = logging.getLogger("pmilter")


def negotiate(policy: PolicyMilter, process: Process, offer: Offer) -> tuple[Server, Wants | Refuse]:
    """The context of a server, and the answer to it.

    Before the author is asked all functions are wanted that are offered, and the stages that have a method, or are told
    on the way to one.
    """
    offered = Words(Cap(offer.capabilities & numbers.EVERYTHING), Fct(offer.functions & numbers.EVERY_FUNCTION),
                    Feat(offer.features & sum(Feat)), offer.misc)
    server = Server(process, offered, Words(capabilities_of(policy) & offered.capabilities, offered.functions),
                    text(offer.hostname))
    server.is_negotiating = True
    try:
        is_refused = policy.negotiate(server) is False
    except Exception as error:
        _LOG.error("%s", logfmt.fields(policy=type(policy).__name__, call="negotiate", error=repr(error)))
        is_refused = True
    server.is_negotiating = False
    wanted = server.wanted
    server.told = wanted.capabilities & numbers.TELLABLE & ~methods_of(policy)
    missing = wanted.capabilities & ~offered.capabilities | Cap(0)
    if is_refused or missing or wanted.functions & ~offered.functions:
        return server, Refuse(octets(f"{_name(policy)} does not accept what this server offers"))
    return server, Wants(
        int(wanted.capabilities), int(wanted.functions), int(wanted.features), int(server.told), octets(_name(policy)),
        tuple(StageSymbols(int(stage), bytes(found)) for stage, found in server.stages.items()))


def _name(policy: PolicyMilter) -> str:
    return (policy.name or type(policy).__name__)[:numbers.NAME_MAX // 4]
