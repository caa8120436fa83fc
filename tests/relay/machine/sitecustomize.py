"""What every process of a node's own machine starts with in tests: nothing of the console can be imported there, and
its clock is as far off as SKEW says."""

import os
import sys
import time
from importlib.abc import MetaPathFinder
from typing import Any

FORBIDDEN = {"django", "console", "environ", "psycopg", "sqlite3", "yaml", "gateway.models", "identity.models",
             "gateway.compile", "gateway.audit", "gateway.feed"}  # fmt: skip


class _NotHere(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname in FORBIDDEN:
            raise ImportError(f"{fullname} is not on this machine")


sys.meta_path.insert(0, _NotHere())

if skew := float(os.environ.get("SKEW", "0")):
    real = time.time
    time.time = lambda: real() + skew
