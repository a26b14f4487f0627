"""What an author can do wrong, and an SMTP server."""
from meta1g.mta.errors import MtaError


class PolicyError(MtaError):
    """A call at a wrong time or with what can't be: the text says which and why."""
