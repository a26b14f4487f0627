"""What QMGR orders about content, which only this process may write: DSNs and CDB files (design 5)."""
from meta1g.mta.errors import CorruptRecord, StoreError
from meta1g.proto.msg_ss import Compose, Composed, Content, Settle, Settled
from meta1g.proto.smtp.data import stuff
from meta1g.smtps.incoming import Incoming, Store


def compose(store: Store, order: Compose) -> Composed:
    """Write a DSN's content; the original is left out when it can't be read."""
    incoming = Incoming(store, order.ta)
    try:
        incoming.append(order.head)
        for place in order.original:
            _append_original(store, incoming, order, place)
        if order.tail:
            incoming.append(order.tail)
        size = incoming.size
        place = incoming.commit()
    except StoreError as error:
        incoming.abort()
        return Composed(0, order.ta, str(error), ())
    store.release(place)
    return Composed(size, order.ta, "", (place,))


def _append_original(store: Store, incoming: Incoming, order: Compose, place: Content) -> None:
    pieces = store.cdb.pieces(order.original_ta, place)
    seen = b""
    try:
        while (piece := store.blocking.run(next, pieces, b"")) != b"":
            if not order.header_only:
                incoming.append(piece)
                continue
            seen += piece
            end = seen.find(b"\r\n\r\n")
            if end >= 0:
                seen = seen[: end + 2]
                break
    except (StoreError, CorruptRecord) as error:
        incoming.append(stuff(f"(The original could not be read: {error})\r\n".encode()))
    if seen:
        incoming.append(seen)


def settle(store: Store, order: Settle) -> Settled:
    """Copy content from the journal into its CDB file."""
    try:
        store.blocking.run(store.cdb.settle, order.ta, order.content[0])
    except (StoreError, CorruptRecord) as error:
        return Settled(order.ta, str(error), order.content)
    return Settled(order.ta, "", order.content)
