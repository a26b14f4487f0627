"""Packages that only some configurations need: imported when they are, named clearly when they are missing."""
import importlib
import sys
from typing import Any

from meta1g.mta.errors import MissingExtra


def load(package: str) -> Any:
    """The package of the extra with the same name, or sqlite3; MissingExtra tells how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        remedy = f"install it with: pip install 'meta1g[{package}]'"
        if package in sys.stdlib_module_names:
            remedy = "this Python was built without it"
        raise MissingExtra(f"the package {package} can't be used ({error}); {remedy}") from error
