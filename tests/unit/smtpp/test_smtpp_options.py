"""smtpp's command line."""
import pytest

from meta1g.conf.cmdline import UsageError
from meta1g.conf.opt_global import LogConf
from meta1g.smtpp.cmdline import USAGE, Options, Where, parse_args


def parse(line: str) -> Options:
    return parse_args(line.split(), {"key": b"s3cret \nmore\n", "none": b""}.__getitem__)


@pytest.mark.parametrize(("line", "expected"), [
    ("-f -l :2525 -K key", Options(requests=(Where(port=2525),), key=b"s3cret")),
    ("-l 192.0.2.1:25 -l ./sock -k x", Options(requests=(Where("192.0.2.1", 25), Where(path="./sock")), key=b"x")),
    ("-i - -s [::1]:25 -k x -n 7 -t 9",
     Options(clients=(Where(),), smtps=Where("::1", 25), key=b"x", connections_max=7, idle_timeout=9)),
    ("-l :25 -k x -v 0 -L Mail", Options((Where(port=25),), key=b"x", log_level=0, syslog=LogConf("mail"))),
    ("-l :25 -k x -v 14 -L local0:out:pid,NDELAY",
     Options((Where(port=25),), key=b"x", log_level=14, syslog=LogConf("local0", "out", frozenset({"pid", "ndelay"})))),
])
def test_good(line: str, expected: Options) -> None:
    assert parse(line) == expected


@pytest.mark.parametrize(("line", "said"), [
    ("", "nothing to do"), ("-l :2525", "a key is needed"), ("-l :2525 -K none", "a key is needed"),
    ("-l :2525 -k x -K key", "together"), ("-i :25 -k x", "belong together"), ("-l :1 -s :25 -k x", "an address"),
    ("-l :1 -s 192.0.2.1:25 -k x", "belong together"), ("-l host:25 -k x", "expected ADDRESS:PORT"),
    ("-l 25 -k x", "expected ADDRESS:PORT"), ("-l :0 -k x", "expected"), ("-l :65536 -k x", "expected"),
    ("-i - -s - -k x", "standard input"), ("-l - -i - -s /x -k x", "one socket only"), ("-l :1 -k x -n 0", "from 1 on"),
    ("-l :1 -k x -v -1", "from 0 on"), ("-l :1 -k x -L male", "facilities are auth"),
    ("-l :1 -k x -L mail::p", "options are pid"),
    ("-l :1 -k x more", "unexpected"), ("-z", "-z"),
])
def test_bad(line: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(line)


def test_help_needs_nothing_else() -> None:
    assert parse("--help").text == parse("-l :1 -h").text == USAGE
    assert parse("-V").text.startswith("smtpp: meta1g ")
