"""Mutate real files of every kind for a while: nothing may come out of reading but words, and in bounds.

Before that, files that were made to cost much are read as they are: each has the same bounds.

`python -m tools.fuzz SECONDS [SEED]`; each finding is written to a file, with the seed that makes it again.
"""

import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from identity.core import files
from identity.core.certificates import CertificateError
from tests.identity.test_files import HOSTILE, REAL, mutated

MAX_SECONDS = 1.0  # of computing for one file
MAX_MEMORY = 50 * 1024  # kilobytes that reading may add to the process


def used() -> float:
    """Seconds of computing, of this process and of those that opened files for it."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def problem_with(data: bytes) -> str:
    """What is wrong with how `data` was read; "" where nothing is."""
    for reading in (files.read, files.chain_from, files.key_from):
        before = used()
        try:
            reading(data, "pw")
        except CertificateError as error:
            if not str(error):
                return f"{reading.__name__}: an error without words"
        except Exception as error:  # whatever it is, it should have been words
            return f"{reading.__name__}: {error!r}"
        if (took := used() - before) > MAX_SECONDS:
            return f"{reading.__name__}: {took:.1f} s of computing"
    return ""


def main() -> int:
    seconds, seed = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 2**32
    chance, count, found = random.Random(seed), 0, Counter[str]()  # noqa: S311 - to be made again, not to be secret
    end, memory = time.monotonic() + seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    hostile = [data for data, _ in HOSTILE.values()]
    while hostile or time.monotonic() < end:
        data = hostile.pop() if hostile else mutated(chance.choice(REAL), chance.randrange(2**32))
        count += 1
        if problem := problem_with(data):
            found[problem] += 1
            if found[problem] == 1:
                with tempfile.NamedTemporaryFile(prefix="fuzz-", delete=False) as file:
                    file.write(data)
                print(f"{problem}: {Path(file.name)}")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    if grown > MAX_MEMORY:
        found[f"memory grew by {grown:,} kB"] += 1
    print(f"seed {seed}: {count:,} files read, {grown:,} kB of memory more, {sum(found.values())} findings")
    for problem, times in found.items():
        print(f"  {times} times: {problem}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
