import ctypes
import ctypes.util
import platform
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta1g.maps import dfa
from meta1g.maps.dfa import Matcher
from meta1g.maps.m_regex import RegexMap, parse_line
from meta1g.maps.map import NOT_FOUND, Found, PermFail, TempFail
from meta1g.mta.posix import RegexError, parse

MANUAL = b"""\
/bounce-[0-9]+-[0-9]+@/ei error:550 5.7.1 no numbered bounces
;user@friendly.domain;i   OK
,sender\\+[a-z]+@.*\\.other.domain,e   OK
"""
BOUNCES = b"error:550 5.7.1 no numbered bounces"


@pytest.mark.parametrize(("key", "value"), [  # M1 10.1
    (b"to:bounce-1-23@my.dom", BOUNCES), (b"TO:BOUNCE-1-23@MY.DOM", BOUNCES), (b"to:bounce-1-@my.dom", None),
    (b"to:bounce-x-1@my.dom", None), (b"from:user@friendly.domain", b"OK"), (b"USER@FRIENDLY.DOMAIN", b"OK"),
    (b"user@friendlyxdomain", b"OK"), (b"user@unfriendly.domain", None), (b"sender+abc@x.other.domain", b"OK"),
    (b"sender+abc@x.y.otherxdomain", b"OK"), (b"sender+ABC@x.other.domain", None), (b"sender@x.other.domain", None),
    (b"senderr+abc@x.other.domain", None), (b"sender+abc@other.domain", None), (b"", None),
])
def test_manual(tmp_path: Path, key: bytes, value: bytes | None) -> None:
    path = tmp_path / "re"
    path.write_bytes(b"# comment\n\n" + MANUAL)
    assert RegexMap("re", str(path)).lookup(key) == (NOT_FOUND if value is None else Found(key, value))


@pytest.mark.parametrize(("line", "value"), [
    (b"/a/ two  words \t", b"two  words"), (b"/a/\tOK", b"OK"), (b"/a/e OK", b"OK"), (b"/a/ie\t OK /x/", b"OK /x/"),
    (b"|a|i x|y", b"x|y"), (b"aba OK", b"OK"), (b"#a", None), (b"//e all", b"all"),
])
def test_lines(tmp_path: Path, line: bytes, value: bytes | None) -> None:
    path = tmp_path / "re"
    path.write_bytes(line + b"\r\n/./ last\n")
    assert RegexMap("re", str(path)).lookup(b"ab") == Found(b"ab", b"last" if value is None else value)


@pytest.mark.parametrize(("line", "words"), [
    (b"/abc", "second /"), (b"/abc/", "value is missing"), (b"/abc/e", "value is missing"),
    (b"/a/ ", "value is missing"),
    (b"/abc/x y", "unknown flags"), (b" a b", "white space"), (b"/(/e y", "closing parenthesis"),
])
def test_bad_lines(tmp_path: Path, line: bytes, words: str) -> None:
    with pytest.raises(RegexError, match=words):
        parse_line(line)
    path = tmp_path / "re"
    path.write_bytes(b"/good/ yes\n" + line)
    bad = RegexMap("re", str(path))
    assert isinstance(bad.lookup(b"good"), TempFail)
    path.write_bytes(b"/good/ yes\n")
    assert bad.reopen() == "" and bad.lookup(b"good") == Found(b"good", b"yes")
    path.write_bytes(line)
    assert f"{path}:1: " in bad.reopen() and words.split()[-1] in bad.reopen()
    assert bad.lookup(b"good") == Found(b"good", b"yes")
    path.unlink()
    assert str(path) in bad.reopen()


BASIC = [  # regex, what matches, what does not
    (b"^a+$", b"a+", b"aa"), (b"^a\\+$", b"aaa", b"a+"), (b"^\\(a\\|b\\)\\{2\\}$", b"ab", b"aba"),
    (b"^*a", b"*a", b"a"),
    (b"*a", b"*a", b"a"), (b"a^b$c", b"a^b$c", b"abc"), (b"\\(^a$\\)", b"a", b"ba"), (b"^a\\?$", b"", b"aa"),
    (b"a{1}", b"a{1}", b"a"), (b"(a|b)", b"(a|b)", b"a"), (b"^[+(]$", b"+", b"a"), (b"a.c", b"abc", b"ac"),
    (b"\\(*a\\)", b"*a", b"a"), (b"a\\.c", b"a.c", b"abc"), (b"^^a", b"^a", b"a"),
]
EXTENDED = [
    (b"^[[:alpha:]][[:digit:]]$", b"x7", b"77"), (b"^(a|bc)*d$", b"abcad", b"abad"), (b"^a{2,3}$", b"aaa", b"aaaa"),
    (b"^a{,2}$", b"", b"aaa"), (b"^a{2,}$", b"aaaaa", b"a"), (b"^[]a]$", b"]", b"b"), (b"^[^]a]$", b"b", b"]"),
    (b"^[a-]$", b"-", b"b"), (b"^[\\n]$", b"\\", b"x"), (b"^[[.-.]-/]$", b".", b"0"), (b"^[[=a=]b]$", b"a", b"="),
    (b"a)", b"a)", b"a"), (b"^(|a)$", b"", b"b"), (b"^(a||b)$", b"", b"c"), (b"\\bfoo\\b", b"a foo.", b"afoo"),
    (b"\\<foo", b"x@foobar", b"xfoo"), (b"foo\\>", b"xfoo@", b"foox"), (b"\\Boo", b"foo", b"oo"),
    (b"^\\w+\\W\\s\\S$", b"a_9. x", b"a9.xx"),
    (b"\\$\\^\\.", b"$^.", b"a"), (b"a$|b", b"xa", b"ax"), (b"^[[:upper:][:punct:]]$", b"[", b"a"), (b"x*", b"", None),
    (b"^\xc3[\x80-\xbf]$", "\u00fc".encode(), b"u"), (b"^$", b"", b"a"), (b"a$b", None, b"a$b"),
    (b"^a+?$", b"aa", b"b"),
]


@pytest.mark.parametrize(("text", "good", "bad", "is_extended"), [
    *[(*case, False) for case in BASIC], *[(*case, True) for case in EXTENDED]])
def test_syntax(text: bytes, good: bytes | None, bad: bytes | None, is_extended: bool) -> None:
    matcher = Matcher(parse(text, is_extended=is_extended))
    assert good is None or matcher.matches(good)
    assert bad is None or not matcher.matches(bad)


def test_caseless() -> None:
    for text, good, bad in ((b"^ab$", b"aB", b"bA"), (b"^[a-c]$", b"B", b"D"), (b"^[^a]$", b"b", b"A"),
                            (b"^[[:lower:]]$", b"X", b"1")):
        matcher = Matcher(parse(text, is_extended=True, is_caseless=True))
        assert matcher.matches(good) and not matcher.matches(bad)


@pytest.mark.parametrize(("text", "words"), [
    (b"(a", "closing parenthesis"), (b"[a", r"closing \]"), (b"[[:alpha:", r"closing \]"),
    (b"[[:foo:]]", "unknown class"),
    (b"[[.space.]]", "unknown element"), (b"[b-a]", "bad range"), (b"a{2", "no }"), (b"a{x}", "no number"),
    (b"a{}", "no number"), (b"a{3,2}", "3,2"), (b"a{256}", "at most 255"),
    (b"a{" + b"1" * 5000 + b"}", "no number"), (b"*a", "nothing to repeat"),
    (b"a" + b"*" * 900, "repetitions of repetitions"),
    (b"(*a)", "nothing to repeat"), (b"a|*b", "nothing to repeat"), (b"^*", "nothing to repeat"),
    (b"a\\", "last backslash"),
    (b"(a)\\1", "back-references"), (b"\\d", r"write \[0-9\]"), (b"\\n", "no meaning"),
    (b"(" * 60 + b")" * 60, "deeper"),
    (b"((a{99}){99}){99}", "too large"), (b"(((){255}){255}){255}", "too large"),
])
def test_not_a_regex(text: bytes, words: str) -> None:
    with pytest.raises(RegexError, match=words):
        parse(text, is_extended=True)


@pytest.mark.parametrize("text", [
    b"^(a|a)*$", b"^(a+)+$", b"^(a*)*b", b"(.*)(.*)(.*)(.*)(.*)(.*)x$", b"^([a-zA-Z0-9]+\\.?)+@x$", b"(a|aa)+$",
    b"a{255}$",
    b"(a?){200}a{200}b", b"[ab]*a[ab]{200}$",
])
def test_no_key_takes_long(text: bytes) -> None:
    matcher = Matcher(parse(text, is_extended=True))
    keys = [b"a" * 2047 + b"!", bytes(97 + (n * n % 7 > 2) for n in range(2047)) + b"!"]
    before = time.thread_time()
    for key in keys:
        matcher.matches(key)
    assert time.thread_time() - before < 4  # Python's re needs longer than the universe is old for the first


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dfa, "CELLS_MAX", 500)
    matcher = Matcher(parse(b"[ab]*a[ab]{12}$", is_extended=True))
    for n in range(300):
        key = bytes(97 + (n >> bit & 1) for bit in range(13))
        assert matcher.matches(key) is (key[0] == ord("a"))
        assert matcher._cells < 600


def test_long_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "re"
    path.write_bytes(b"/x/ 1\n")
    found = RegexMap("re", str(path))
    assert found.lookup(b"x" * 2048) == Found(b"x" * 2048, b"1")
    assert found.lookup(b"x" * 2049) == PermFail("map re: the key has more than 2048 octets")


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dfa, "CELLS_MAX", 100)
    matcher = Matcher(parse(b"^[ab]*a[ab]{6}$", is_extended=True))
    wrong: list[bytes] = []

    def ask() -> None:
        for n in range(2000):
            key = bytes(97 + (n >> bit & 1) for bit in range(10))
            if matcher.matches(key) is not (key[3] == ord("a")):
                wrong.append(key)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


class Libc:
    """regex(3) of the C library; None if it takes the text for no regex."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(ctypes.util.find_library("c"))

    def matches(self, text: bytes, key: bytes, *, is_extended: bool, is_caseless: bool) -> bool | None:
        buffer = ctypes.create_string_buffer(256)
        if self.library.regcomp(buffer, text, is_extended + 2 * is_caseless):
            return None
        try:
            return not self.library.regexec(buffer, key, 0, None, 0)
        finally:
            self.library.regfree(buffer)


PIECES = st.sampled_from([
    b"a", b"b", b"A", b".", b"_", b"-", b"[ab]", b"[^a]", b"[a-c_]", b"[[:alpha:]-]", b"^", b"$", b"*", b"+", b"?",
    b"{2}",
    b"{1,}", b"{,2}", b"{1,2}", b"(", b")", b"|", b"\\(", b"\\)", b"\\|", b"\\+", b"\\?", b"\\{2\\}", b"\\{0,1\\}",
    b"\\w",
    b"\\W", b"\\<", b"\\>", b"\\b", b"\\.", b"\\*",
])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library's regex(3)")
@given(st.lists(PIECES, max_size=9).map(b"".join), st.lists(st.text("abcAB_-.*", max_size=7), max_size=4),
       st.booleans(), st.booleans())
def test_as_the_c_library(text: bytes, keys: list[str], is_extended: bool, is_caseless: bool) -> None:
    libc = Libc()
    try:
        matcher = Matcher(parse(text, is_extended=is_extended, is_caseless=is_caseless))
    except RegexError:
        return  # where POSIX says nothing, we refuse more than the library
    for key in keys:
        wanted = libc.matches(text, key.encode(), is_extended=is_extended, is_caseless=is_caseless)
        if wanted is not None:
            assert matcher.matches(key.encode()) is wanted
