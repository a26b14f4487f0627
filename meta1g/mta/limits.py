"""Protocol limits, one line each with its source.

Limits that an administrator sets stand in the option tables (`conf/opt_*`);
here are those that a standard or the design fixes.
"""
from typing import Final

COMMAND_LINE: Final = 512  # RFC 5321 4.5.3.1.4, with CRLF
COMMAND_LINE_EXTENDED: Final = 2048  # MAIL and RCPT with every parameter: RFC 1870, 3461, 4954, 6531 add to 512
AUTH_LINE: Final = 12288  # RFC 4954 4, with CRLF
LIMITS_VALUE: Final = 999_999  # RFC 9422 3.1: six digits
TEXT_LINE: Final = 1000  # RFC 5321 4.5.3.1.6, with CRLF, without the transparency dot
TEXT_LINE_LENIENT: Final = 65536  # longest content line we pass on; Postfix's line_length_limit splits at 2048
REPLY_LINE: Final = 4096  # RFC 5321 4.5.3.1.5 says 512; Postfix reads 2048, some servers send more
REPLY_KEPT: Final = 2000  # characters of a reply that queue, log and DSN keep; Postfix keeps 1 KB of each line
REPLY_LINES: Final = 200  # a multi-line reply longer than this is an attack
LOCAL_PART: Final = 64  # RFC 5321 4.5.3.1.1
DOMAIN: Final = 255  # RFC 5321 4.5.3.1.2
PATH: Final = 256  # RFC 5321 4.5.3.1.3, with angle brackets
DNS_LABEL: Final = 63  # RFC 1035 2.3.4
HEADER_SECTION: Final = 1024 * 1024  # where hops are counted: Sendmail's MaxHeadersLength is far smaller
FRAME: Final = 16 * 1024 * 1024  # one message between processes: an envelope of 50,000 recipients
LINK_READ: Final = 64 * 1024  # octets taken at once: from 128 KiB on malloc maps new pages for each read, 17 us not 3
PEER_BACKLOG: Final = 64 * 1024 * 1024  # unsent octets to a peer that does not read
RECIPIENT_INDEX: Final = 64**6  # M1 10.3: six base64 digits
JOURNAL_MESSAGE: Final = 256 * 1024  # larger messages become a CDB file at once, design.md 5
ONE_FLIGHT: Final = 14_600  # octets sent before any recipient is answered: they wait for nothing (RFC 6928 2)
CHUNK: Final = JOURNAL_MESSAGE  # octets of a BDAT: what the journal holds goes as one, and its reply costs nothing
CHUNKS_OPEN: Final = 4  # unanswered BDATs: enough for 1 MB on its way, while their replies fit any buffer
CONTENT_IN_MEMORY: Final = 64 * 1024 * 1024  # of all sessions of an SMTPS: 250 messages that are just below that
JOURNAL_SEGMENT: Final = 16 * 1024 * 1024  # a segment is closed beyond this size
LISTEN_BACKLOG: Final = 1024  # connections the kernel queues; net.core.somaxconn is 4096 on Debian 12
