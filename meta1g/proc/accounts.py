"""Who may connect to whom: the users that the configuration gives to other processes (design 4)."""
import pwd

from meta1g.conf.load import Config


def uids_of(config: Config, *keywords: str) -> set[int]:
    """User ids of the sections with these keywords; empty where no section names a user."""
    found = set()
    for service in config.services:
        if service.keyword in keywords and service.mcp.user:
            try:
                found.add(pwd.getpwnam(service.mcp.user).pw_uid)
            except KeyError:
                pass  # MCP refuses to start that section
    return found
