"""Fixtures and the list of what was skipped."""
import os

import pytest
from hypothesis import HealthCheck, settings

os.environ["PATH"] += ":/usr/sbin:/sbin"  # where Debian keeps daemons and smtp-source
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
settings.register_profile("long", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: object) -> None:
    """Name what was skipped, and why, at the end."""
    skipped = getattr(terminalreporter, "stats", {}).get("skipped", [])
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.write_line(f"skipped: {report.nodeid}: {reason}")  # type: ignore[attr-defined]
