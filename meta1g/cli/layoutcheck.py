"""Whether users, groups, folders and files are as M1 2.4 wants them; what sm.check.sh was for (options -p and -P)."""
import os

from meta1g.conf.load import Config
from meta1g.mcp.spawn import account
from meta1g.shim import layout


def names_of(config: Config) -> dict[str, str]:
    """What MeTA1's accounts are called here; empty if MCP changes no user."""
    found = {name: service.mcp.user for keyword, name in layout.ACCOUNTS.items()
             if (service := config.section(keyword)) is not None and service.mcp.user}
    return {name: found.get(name, name) for name in layout.USERS} if found else {}


def check_users(config: Config) -> list[str]:
    """Accounts that are missing or lack a group, one line each with how to mend it (-p)."""
    names = names_of(config)
    found = []
    for service in config.services:
        try:
            account(service.mcp.user, service.mcp.group)
        except KeyError as error:
            found.append(f"section {service.label}: {error.args[0]}; create it (make install does) or name another")
    if found or len(set(names.values())) < 2:
        return found
    try:
        return layout.strangers(names)
    except KeyError as error:
        return [f"{error.args[0]}; groupadd the group of that name"]


def check_files(config: Config) -> list[str]:
    """Folders and files whose owner or mode is another than in M1 2.4.1, one line each with how to mend it (-P)."""
    names = names_of(config)
    try:
        if not names:
            who = None
        elif len(set(names.values())) == 1:
            who = layout.owners(next(iter(names.values())))
        else:
            who = layout.owners(names=names)
    except KeyError as error:
        return [f"{error.args[0]}; meta1g-ctl check -p says more"]
    folders = {"queue": config.queue_directory, "conf": os.path.dirname(os.path.abspath(config.file)),
               "log": config.log_directory}
    return [line for base, folder in folders.items() for line in layout.check(base, folder, who, names)]
