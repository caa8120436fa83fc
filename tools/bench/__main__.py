"""All that is asked of the nodes and can be measured on one machine, in one table.

    python -m tools.bench [--write FILE] [--only NAME …]

Callers, backend, nginx and both nodes share the machine: ratios of one run mean something, absolute figures less.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tools.bench import applying, blocking, bulk, console, crowd, decision, elastic, envoy, fleet, relay, workers
from tools.bench.memory import MIB
from tools.bench.table import Row, rendered

MEASUREMENTS: dict[str, Callable[[], list[Row]]] = {
    "decision": decision.rows,
    "relay": lambda: relay.measure(rounds=3, requests=20_000),
    "bulk": lambda: bulk.measure(1024 * MIB),
    "elastic": elastic.measure,
    "crowd": lambda: crowd.measure(5_000, 10_000),
    "applying": lambda: applying.measure(changes=12),
    "blocking": blocking.measure,
    "fleet": fleet.measure,
    "workers": lambda: workers.measure(20_000),
    "console": lambda: console.measure(100_000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="a file for the table, besides standard output")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS), metavar="NAME",
                        help=f"some of {', '.join(MEASUREMENTS)}")  # fmt: skip
    options = parser.parse_args()
    relay.require_tools()
    if "relay" in options.only and envoy.binary() is None:
        print(f"no Envoy here to compare with: {envoy.INSTALL}", file=sys.stderr)
    rows: list[Row] = []
    for name in options.only:
        print(f"measuring: {name} …", file=sys.stderr)
        rows += MEASUREMENTS[name]()
    when = time.strftime("%Y-%m-%d", time.gmtime())
    table = f"{when}, Python {platform.python_version()}, {platform.machine()}\n\n{rendered(rows)}"
    print(table)
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(table)


if __name__ == "__main__":
    main()
