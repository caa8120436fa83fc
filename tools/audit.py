"""Which components have holes that are known: every line of constraints.txt, asked of PyPI by pip-audit.

    python -m tools.audit [--if-reachable]

pip-audit calls what it could not ask about free of known holes. Here that is told apart: 0 is said where all were asked
and none has one, 1 where one has, 3 where nobody could be asked; with `--if-reachable` that is no failure.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "build" / "audit"  # apart: what it needs is none of our components
WANTED = "pip-audit==2.10.1"
SECONDS = 600
CLEAN, HOLES, UNASKED = 0, 1, 3


def verdict(document: dict[str, Any]) -> tuple[list[str], int]:
    """What pip-audit found, as it wrote it in JSON → what to say, and the status."""
    known = document["dependencies"]
    unasked = [each["name"] for each in known if "skip_reason" in each]
    lines = []
    for each in known:
        for hole in each.get("vulns", []):
            mended = ", ".join(hole["fix_versions"]) or "no version yet"
            lines.append(f"{each['name']} {each['version']}: {hole['id']}, mended in {mended}")
    asked = len(known) - len(unasked)
    if unasked and asked:
        lines.append(f"Not known there, and so not asked about: {', '.join(unasked)}")
    if not asked:
        return ["Nothing was asked: PyPI does not answer from here."], UNASKED
    found = any(each.get("vulns") for each in known)
    return [*lines, f"{asked} components asked about: {'see above' if found else 'no hole is known'}."], (
        HOLES if found else CLEAN
    )


def ask() -> tuple[list[str], int]:
    program = PLACE / "bin" / "pip-audit"
    try:
        if not program.exists():
            _run(sys.executable, "-m", "venv", "--clear", str(PLACE))
            _run(str(PLACE / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input", WANTED)
        options = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json")
        told = _run(str(program), "--requirement", str(ROOT / "constraints.txt"), *options, statuses=(0, 1))
        return verdict(json.loads(told))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return [f"Nothing was asked: {_last_line(error)}"], UNASKED


def _run(*command: str, statuses: tuple[int, ...] = (0,)) -> str:
    # What it runs is named above.
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
    if done.returncode not in statuses or (done.returncode and not done.stdout.strip()):
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


def _last_line(error: Exception) -> str:
    said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
    return said[-1] if said else type(error).__name__


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.audit", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--if-reachable", action="store_true", help="where nobody can be asked, say so and go on")
    wanted = parser.parse_args(arguments)
    lines, status = ask()
    print("\n".join(lines))
    return CLEAN if status == UNASKED and wanted.if_reachable else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
