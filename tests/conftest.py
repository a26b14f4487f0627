"""Fixtures and the list of what was skipped."""
import os

import pytest
from hypothesis import HealthCheck, settings

os.environ["PATH"] += ":/usr/sbin:/sbin"  # where Debian keeps daemons and smtp-source
os.environ["PATH"] += ":/var/lib/meta1g/dev/peers"  # where contrib/setup.sh puts what Debian keeps apart
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
settings.register_profile("long", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True, scope="session")
def reachable_temporary_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Root's tests run daemons as another user, who must get to tmp_path."""
    if os.geteuid() == 0:
        folder = tmp_path_factory.getbasetemp()
        while folder.name and folder != folder.parent and folder.stat().st_uid == 0 and folder.parent.name:
            folder.chmod(0o711)
            folder = folder.parent


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: object) -> None:
    """Name what was skipped, and why, at the end."""
    skipped = getattr(terminalreporter, "stats", {}).get("skipped", [])
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.write_line(f"skipped: {report.nodeid}: {reason}")  # type: ignore[attr-defined]
