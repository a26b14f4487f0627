"""Coverage-guided fuzzing by atheris: `make fuzz ARGS='--runs 100000 server regex'`.

Without atheris, hypothesis runs the same targets with many more examples than in `make check`.
Each target runs in a process of its own, from what tests/fuzz/corpus keeps of it and what the transcripts say. With
--keep the corpus is replaced by the smallest inputs that reach all that was reached. An input that a target fails on is
kept in ./fuzz-found and printed; its regression test is a test of its own, or a line in the corpus.
"""
import argparse
import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.fuzz.targets import CORPUS, TARGETS, WORDS, corpus, seeds

_FOUND: Final = Path("fuzz-found")
_LENGTH_MAX: Final = 2000  # octets of an input
_KEPT_LENGTH_MAX: Final = 300  # octets of an input that is kept
_KEPT_MAX: Final = 8000  # octets that are kept of a target
_OPTIONS: Final = ("-timeout=10", "-rss_limit_mb=1024", f"-max_len={_LENGTH_MAX}", "-len_control=20",
                   "-print_final_stats=1", f"-artifact_prefix={_FOUND}/")


def main(argv: list[str]) -> int:
    """Fuzz the targets that are named, or all; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="make fuzz ARGS=...", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all of them")
    parser.add_argument("--runs", type=int, default=100_000, help="executions of each target")
    parser.add_argument("--keep", action="store_true", help="replace the corpus")
    options = parser.parse_args(argv)
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"unknown target {', '.join(sorted(unknown))}")
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not there: hypothesis takes its place")
        return _hypothesis()
    print(f"{'target':12} {'executions':>10} {'seconds':>8} {'edges':>6} {'inputs':>6}  findings", flush=True)
    done = [fuzz(name, options.runs, keep=options.keep) for name in options.targets or TARGETS]
    return 0 if all(done) else 1


def _hypothesis() -> int:
    command = [sys.executable, "-m", "pytest", "tests/fuzz/test_targets.py"]
    return subprocess.run(command, env={**os.environ, "HYPOTHESIS_PROFILE": "long"}, check=False).returncode


def fuzz(name: str, runs: int, *, keep: bool) -> bool:
    """Run one target; whether it found nothing."""
    _FOUND.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        inputs, words = Path(folder, "inputs"), Path(folder, "words")
        inputs.mkdir()
        for number, octets in enumerate(corpus(name) + seeds(name)):
            (inputs / f"{number}").write_bytes(octets)
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS[name]))
        before = time.monotonic()
        done = _atheris(name, f"-runs={runs}", f"-dict={words}", *_OPTIONS, inputs)
        output = done.stdout + done.stderr
        executed, edges = _last(r"number_of_executed_units: (\d+)", output), _last(r"cov: (\d+)", output)
        print(f"{name:12} {executed:>10} {time.monotonic() - before:8.1f} {edges:>6} {len(list(inputs.iterdir())):>6}  "
              f"{'none' if done.returncode == 0 else 'failed'}", flush=True)
        if done.returncode:
            print(output[output.find("=== Uncaught"):][:4000] if "=== Uncaught" in output else output[-2000:])
        elif keep:
            _keep(name, inputs, Path(folder, "small"))
    with contextlib.suppress(OSError):
        _FOUND.rmdir()  # there is nothing in it
    return done.returncode == 0


def _atheris(name: str, *options: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.fuzz.atheris_run", name, *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in word)


def _last(pattern: str, text: str) -> str:
    found = re.findall(pattern, text)
    return found[-1] if found else "?"


def _keep(name: str, inputs: Path, small: Path) -> None:
    """The shortest inputs that together reach what all reach, as far as there is room."""
    small.mkdir()
    _atheris(name, "-merge=1", f"-max_len={_KEPT_LENGTH_MAX}", small, inputs)
    found, size = [], 0
    for octets in sorted((path.read_bytes() for path in small.iterdir()), key=lambda octets: (len(octets), octets)):
        size += len(octets) + 1
        if octets and size <= _KEPT_MAX:
            found.append(octets.hex())
    if found:
        CORPUS.mkdir(exist_ok=True)
        (CORPUS / f"{name}.hex").write_text("\n".join(found) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
