import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from meta1g.mta.errors import StoreError
from meta1g.shim.bdb import Env, Txn


def test_transactions(tmp_path: Path) -> None:
    env = Env(str(tmp_path))
    table = env.btree("a.db")
    env.transact(lambda txn: table.put(b"k", b"v", txn))
    assert table.get(b"k") == b"v" and table.get(b"none") is None

    def fail(txn: Txn) -> None:
        table.put(b"k", b"lost", txn)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        env.transact(fail)
    assert table.get(b"k") == b"v"
    assert table.add(b"k", b"x") is False and table.add(b"j", b"w") is True
    assert list(table.items()) == [(b"j", b"w"), (b"k", b"v")]
    assert list(table.items(start=b"ja")) == [(b"k", b"v")]
    assert table.delete(b"j") is True and table.delete(b"j") is False
    table.sync()
    table.close()
    env.close()


def test_duplicates_and_logs(tmp_path: Path) -> None:
    env = Env(str(tmp_path), log_size=1 << 20)
    table = env.btree("dup.db", duplicates=True)
    big = env.hash("big.db")

    def fill(txn: Txn) -> None:
        table.put(b"k", b"2", txn)
        table.put(b"k", b"1", txn)
        for n in range(3000):
            big.put(b"%d" % n, b"x" * 1000, txn)

    env.transact(fill, durable=False)
    assert list(table.items()) == [(b"k", b"1"), (b"k", b"2")]
    env.checkpoint()
    assert env.remove_logs() > 0
    assert env.unused_logs() == []
    table.close()
    big.close()
    env.close()


def test_killed_process_is_recovered(tmp_path: Path) -> None:
    code = """
import os, sys
from meta1g.shim.bdb import Env
env = Env(sys.argv[1])
table = env.btree("a.db")
env.transact(lambda txn: table.put(b"kept", b"1", txn))
env.transact(lambda txn: (table.put(b"lost", b"1", txn), os.kill(os.getpid(), 9)))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60, check=False)
    assert done.returncode == -9
    env = Env(str(tmp_path))
    table = env.btree("a.db")
    assert list(table.items()) == [(b"kept", b"1")]
    table.close()
    env.close()


def test_deadlock_victims_try_again(tmp_path: Path) -> None:
    env = Env(str(tmp_path))
    tables = [env.btree(f"{n}.db") for n in range(2)]
    barrier = threading.Barrier(2)
    tries = [0, 0]

    def work(me: int) -> None:
        def step(txn: Txn) -> None:
            tries[me] += 1
            tables[me].put(b"k", b"%d" % me, txn)
            if tries[me] == 1:
                barrier.wait(10)
            tables[1 - me].put(b"k", b"%d" % me, txn)
        env.transact(step)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(tries) >= 3
    assert tables[0].get(b"k") == tables[1].get(b"k") is not None


def test_errors_name_the_path(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        Env(str(tmp_path / "none"))
    assert caught.value.path == os.fspath(tmp_path / "none")
    env = Env(str(tmp_path))
    (tmp_path / "bad.db").write_bytes(b"x" * 5000)
    with pytest.raises(StoreError, match=r"bad\.db"):
        env.btree("bad.db")
    env.close()
