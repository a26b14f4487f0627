"""A configuration taken up by HUP, and USR1 or `reload` right behind it: the one does not undo the other."""
from types import SimpleNamespace
from typing import Any

import pytest

from meta1g.qmgr import main
from meta1g.qmgr.host_conf import HostConf
from meta1g.qmgr.reconfigure import Configured


def test_maps_are_reread_for_the_new_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decider may not have heard of it yet when its maps are read again."""
    monkeypatch.setattr(main, "_settings", lambda started: started.conf)
    monkeypatch.setattr(main, "changed_options", lambda old, new: ("control_socket", "retry_delay_min"))
    monkeypatch.setattr(main, "print_stats", lambda name, found: None)
    monkeypatch.setattr(main, "status", lambda q, now: {})
    told: list[Any] = []
    new: Any = SimpleNamespace(conf="new")
    old: Any = SimpleNamespace(conf="old", again=lambda: new)
    process: Any = main.Process.__new__(main.Process)
    process._in_force, process._conf_at_start = main._InForce(old, old.conf, ()), "old"
    process._q = SimpleNamespace(settings="old", late=())
    process._read_hosts = lambda started, settings: HostConf({}) if started.conf == settings else None
    process._report = told.extend
    process._ibdb_thread = SimpleNamespace(flushes=0, records=0)
    process._defedb_thread = SimpleNamespace(transactions=0)
    process._on_hup()
    process._on_usr1()
    assert [item[0:3:2] for item in told] == [("new", ("control_socket",))] * 2
    assert all(isinstance(item, Configured) for item in told)
