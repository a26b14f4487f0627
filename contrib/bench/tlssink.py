"""A sink that offers STARTTLS and counts, as a program of its own: `python -m contrib.bench.tlssink PORT CERT KEY`.

It writes `mesg=N` after each message, as smtp-sink does, which knows no TLS.
"""
import asyncio
import ssl
import sys
from contextlib import suppress

_OFFER = b"250-sink.test\r\n250-PIPELINING\r\n250 STARTTLS\r\n"


class _Sink:
    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._count = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with suppress(OSError, asyncio.IncompleteReadError):
            writer.write(b"220 sink.test\r\n")
            while line := await reader.readline():
                await self._answer(line[:4].upper(), reader, writer)
        writer.close()

    async def _answer(self, verb: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if verb == b"EHLO":
            writer.write(_OFFER)
        elif verb == b"STAR":
            writer.write(b"220 go\r\n")
            await writer.start_tls(self._context)
        elif verb == b"DATA":
            writer.write(b"354 go\r\n")
            await reader.readuntil(b"\r\n.\r\n")
            writer.write(b"250 ok\r\n")
            self._count += 1
            sys.stdout.write(f"mesg={self._count}\n")
            sys.stdout.flush()
        else:
            writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")


async def _run(port: int, cert: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = await asyncio.start_server(_Sink(context).serve, "127.0.0.1", port, limit=1 << 20, backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_run(int(sys.argv[1]), *sys.argv[2:4]))
