"""`meta1g PROGRAM ...`: every program by one name, so that none shadows other people's (design 7).

Each is imported only when it is asked for: a daemon loads no more than it needs.
"""
import importlib
import itertools
import os
import sys
from typing import Final

DAEMONS: Final = {name: f"meta1g.{name}.main" for name in ("mcp", "qmgr", "smar", "smtps", "smtpc", "smtpp", "lda")}
GREY: Final = ("greyprint", "greyrm")  # two commands of one module
TOOLS: Final = {
    name: f"meta1g.cli.{name}"
    for name in ("mailq", "qmgrctl", "createmap", "runas", "smconf", "queue", "lookup", "passwd")
} | {"dkim-key": "meta1g.cli.dkimkey"} | dict.fromkeys(GREY, "meta1g.cli.grey")

_USAGE: Final = f"""usage: meta1g PROGRAM [options]

Daemons, normally started by mcp:  {' '.join(DAEMONS)}
Tools for you:                     {' '.join(TOOLS)} sendmail

`meta1g PROGRAM --help` (a daemon: -h) explains each. `meta1g-ctl` starts and stops everything.
"""


def main() -> None:
    """Entry point of `meta1g`."""
    arguments = sys.argv[1:]
    # MCP inserts pass_id as the first argument (M1 3.7 item 9): such an option is the program's.
    options = list(itertools.takewhile(lambda word: word[:1] == "-" and word not in ("-h", "--help"), arguments))
    name, *rest = arguments[len(options):] or [""]
    if name in ("-h", "--help", ""):
        sys.stdout.write(_USAGE)
        raise SystemExit(0 if name else os.EX_USAGE)
    raise SystemExit(run(name, options + rest))


def run(name: str, arguments: list[str]) -> int:
    """Run one program; its exit code."""
    if name in DAEMONS:
        module = importlib.import_module(DAEMONS[name])
        from meta1g.proc.start import run as run_daemon  # noqa: PLC0415 - tools do not need it

        return run_daemon(name, module.main, arguments)
    if name in TOOLS:
        module = importlib.import_module(TOOLS[name])
        command = getattr(module, name if name in GREY else "main")
        code: int | None = command.main(arguments, prog_name=f"meta1g {name}", standalone_mode=True)
        return code or 0
    if name == "sendmail":
        from meta1g.cli import sendmail  # noqa: PLC0415 - its options are not click's

        return sendmail.main(name, arguments)
    sys.stderr.write(f"meta1g: no program {name!r}\n\n{_USAGE}")
    return os.EX_USAGE


if __name__ == "__main__":
    main()
