"""One target under atheris: `python -m tests.fuzz.atheris_run TARGET [options of libFuzzer] [folder]`."""
import sys

import atheris

atheris.enabled_hooks.add("str")  # not "RegEx", which ends the process at regexes like ours for quoted strings

with atheris.instrument_imports(include=["meta1g.mta", "meta1g.proto", "meta1g.conf", "meta1g.maps.dfa",
                                         "meta1g.smtps.condition", "meta1g.smtps.trace"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Ends the process itself, with libFuzzer's exit code."""
    again = f"{sys.executable} -m tests.fuzz.atheris_run {sys.argv[1]}"  # what -merge runs, by the shell
    atheris.Setup([again, *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
