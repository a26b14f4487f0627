"""Printing a process's inner state on USR1 (M1 9.4): to its log file, never to syslog."""
import json
import sys
import time


def print_stats(program: str, values: dict[str, object]) -> None:
    """One JSON object on one line of standard output, with stable names."""
    line = json.dumps({"time": int(time.time()), "program": program, **values})
    sys.stdout.write(f"stats: {line}\n")
    sys.stdout.flush()
