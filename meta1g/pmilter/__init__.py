"""Policy milters in Python: the API of M1 15.1, for whoever writes a policy (docs/pmilter.md).

    from meta1g.pmilter import PolicyMilter, run

    class NoSunday(PolicyMilter):
        def mail(self, session, sender, params):
            if is_sunday():
                return session.refuse("451 4.7.1 Come back tomorrow")

    raise SystemExit(run(NoSunday(), "unix:/run/nosunday.sock"))
"""
from meta1g.pmilter.contexts import Process, Server
from meta1g.pmilter.errors import PolicyError
from meta1g.pmilter.hub import Hub
from meta1g.pmilter.policy import PolicyMilter, Result, quick
from meta1g.pmilter.run import parser, run, start
from meta1g.pmilter.session import Session
from meta1g.proto.pmilter.numbers import (
    CHUNK_SIZE,
    SMTP_R_ACCEPT,
    SMTP_R_CONT,
    SMTP_R_DISCARD,
    SMTP_R_OK,
    SMTP_R_PERM,
    SMTP_R_REJECT,
    SMTP_R_RPLCMSG,
    SMTP_R_SSD,
    SMTP_R_TEMP,
    Cap,
    Fct,
    Feat,
    HdrMod,
    Pmm,
    Stage,
)

__all__ = [
    "CHUNK_SIZE", "SMTP_R_ACCEPT", "SMTP_R_CONT", "SMTP_R_DISCARD", "SMTP_R_OK", "SMTP_R_PERM", "SMTP_R_REJECT",
    "SMTP_R_RPLCMSG", "SMTP_R_SSD", "SMTP_R_TEMP", "Cap", "Fct", "Feat", "HdrMod", "Hub", "Pmm", "PolicyError",
    "PolicyMilter", "Process", "Result", "Server", "Session", "Stage", "parser", "quick", "run", "start",
]
