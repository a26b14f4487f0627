"""Programs of others that some tests need."""
import shutil

import pytest


def needs(*programs: str) -> None:
    """Skip the test, with the reason, unless these programs are there."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
