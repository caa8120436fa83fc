"""The supervisor as it is used: a process of its own, programs that die, signals that stop it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from console.supervisor import FIRST_DELAY, LONGEST_DELAY, STEADY, Program, Supervisor, _Child

SUPERVISE = """
import sys
from console.supervisor import Program, Supervisor
grace, *codes = sys.argv[1:]
programs = [Program(f"p{n}", (sys.executable, "-u", "-c", code)) for n, code in enumerate(codes)]
sys.exit(Supervisor(programs, sys.stdout.buffer, grace=float(grace)).run())
"""
STAYS = "import os, time; print('up', os.getpid()); time.sleep(60)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {STAYS}"
TAKES_ITS_TIME = f"""
import signal, sys, time
def end(*_):
    time.sleep(0.2)
    print("well ended")
    sys.exit()
signal.signal(signal.SIGTERM, end)
{STAYS}
"""
CHATTERS = "import time\nwhile True:\n    print('up', flush=True)\n    time.sleep(0.01)"

Supervised = subprocess.Popen[str]


@pytest.fixture
def supervise() -> Iterator[Callable[..., Supervised]]:
    """Starts a supervisor over programs that are given as Python source."""
    started: list[Supervised] = []

    def start(*codes: str, grace: float = 10.0) -> Supervised:
        process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISE, str(grace), *codes], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate()
        assert process.stdout is not None
        process.stdout.close()


def line_with(process: Supervised, pattern: str) -> re.Match[str]:
    """The next line that matches; pytest's own timeout ends a wait that is in vain."""
    assert process.stdout is not None
    for line in process.stdout:
        if match := re.search(pattern, line):
            return match
    raise AssertionError(f"the output ended without {pattern!r}")


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    while is_alive(pid):
        time.sleep(0.01)


def test_each_line_begins_with_its_programs_name(supervise: Callable[..., Supervised]) -> None:
    supervisor = supervise(f"print('one\\ntwo'); {STAYS}", STAYS)
    assert line_with(supervisor, r"one").string == "p0    | one\n"
    assert line_with(supervisor, r"two").string == "p0    | two\n"


def test_what_a_program_wrote_last_is_passed_on_without_a_newline_too(supervise: Callable[..., Supervised]) -> None:
    supervisor = supervise("import sys; sys.stderr.write('no newline'); sys.exit(3)")
    assert line_with(supervisor, r"no newline").string == "p0    | no newline\n"
    line_with(supervisor, r"serve \| p0 died: exit status 3; starting it again in 0\.5 s")


def test_a_line_without_an_end_is_passed_on_in_parts(supervise: Callable[..., Supervised]) -> None:
    supervisor = supervise("import sys, time; sys.stdout.write('x' * 200_000); sys.stdout.flush(); time.sleep(60)")
    assert len(line_with(supervisor, r"x{60000}").string) < 140_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_told_to_stop_it_stops_all_and_ends_well(supervise: Callable[..., Supervised], number: signal.Signals) -> None:
    supervisor = supervise(STAYS, STAYS)
    pids = [int(line_with(supervisor, r"p\d    \| up (\d+)")[1]) for _ in range(2)]
    supervisor.send_signal(number)
    assert supervisor.wait() == 0
    assert not any(is_alive(pid) for pid in pids)
    assert supervisor.stdout is not None
    assert supervisor.stdout.read().splitlines() == ["serve | stopping", "serve | stopped"]


def test_a_program_that_was_killed_is_started_again(supervise: Callable[..., Supervised]) -> None:
    supervisor = supervise(STAYS, STAYS)
    first = int(line_with(supervisor, r"p1    \| up (\d+)")[1])
    os.kill(first, signal.SIGKILL)
    line_with(supervisor, r"serve \| p1 died: killed by SIGKILL; starting it again in 0\.5 s")
    assert int(line_with(supervisor, r"p1    \| up (\d+)")[1]) != first


def test_waits_grow_while_it_keeps_dying(supervise: Callable[..., Supervised]) -> None:
    supervisor = supervise("raise SystemExit(1)")
    assert [line_with(supervisor, r"again in ([\d.]+) s")[1] for _ in range(3)] == ["0.5", "1", "2"]


def test_the_wait_doubles_to_a_limit_and_begins_anew_after_a_steady_time() -> None:
    child = _Child(Program("p", ("true",)), b"")
    now = 100.0
    delays = [child.failed(now) for _ in range(7)]
    assert delays == [FIRST_DELAY, 1.0, 2.0, 4.0, 8.0, LONGEST_DELAY, LONGEST_DELAY]
    child.started(None, now)  # type: ignore[arg-type] - what runs does not matter here
    assert child.failed(now + STEADY - 1) == LONGEST_DELAY
    child.started(None, now)  # type: ignore[arg-type]
    assert child.failed(now + STEADY) == FIRST_DELAY


def test_what_a_dead_program_had_started_dies_too(supervise: Callable[..., Supervised]) -> None:
    nest = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-u', '-c', sys.argv[1]]); time.sleep(60)"
    starts = f"import sys; sys.argv[1:] = [{STAYS!r}]; print('parent', __import__('os').getpid()); {nest}"
    supervisor = supervise(starts)
    parent = int(line_with(supervisor, r"parent (\d+)")[1])
    child = int(line_with(supervisor, r"up (\d+)")[1])
    os.kill(parent, signal.SIGKILL)
    line_with(supervisor, r"p0 died")
    wait_until_gone(child)


def test_a_program_that_does_not_stop_is_killed_after_the_grace(supervise: Callable[..., Supervised]) -> None:
    supervisor = supervise(DEAF, grace=0.3)
    line_with(supervisor, r"up")
    supervisor.terminate()
    line_with(supervisor, r"serve \| p0 did not stop in time: killed")
    assert supervisor.wait() == 0


def test_told_again_it_waits_for_nobody(supervise: Callable[..., Supervised]) -> None:
    supervisor = supervise(DEAF, grace=300.0)
    line_with(supervisor, r"up")
    while supervisor.poll() is None:
        supervisor.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            supervisor.wait(0.1)
    assert supervisor.returncode == 0
    line_with(supervisor, r"p0 did not stop in time: killed")


def test_told_of_one_stop_twice_it_waits_all_the_same(supervise: Callable[..., Supervised]) -> None:
    """As `make` passes on a SIGTERM that the whole process group has had already."""
    supervisor = supervise(TAKES_ITS_TIME)
    line_with(supervisor, r"up")
    supervisor.terminate()
    supervisor.terminate()
    line_with(supervisor, r"p0    \| well ended")
    assert supervisor.wait() == 0


def test_programs_end_with_a_supervisor_that_was_killed(supervise: Callable[..., Supervised]) -> None:
    supervisor = supervise(STAYS)
    pid = int(line_with(supervisor, r"up (\d+)")[1])
    supervisor.kill()
    supervisor.wait()
    wait_until_gone(pid)


def test_when_nobody_reads_its_output_any_more_it_stops(supervise: Callable[..., Supervised]) -> None:
    supervisor = supervise(CHATTERS)
    line_with(supervisor, r"up")
    assert supervisor.stdout is not None
    supervisor.stdout.close()
    assert supervisor.wait() == 0


def test_a_program_that_is_not_there_is_told_of_and_tried_again() -> None:
    code = (
        "import sys; from console.supervisor import Program, Supervisor; "
        "Supervisor([Program('p', ('/nonexistent',))], sys.stdout.buffer).run()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        line_with(process, r"serve \| p cannot be started: .*; trying again in 0\.5 s")
        line_with(process, r"trying again in 1 s")
        process.terminate()


def test_it_asks_whether_all_is_ready_until_it_is() -> None:
    """In this process: the question is a function. What was set for signals is as before afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    answers = iter([False, False, True])
    asked: list[bool] = []

    def ready() -> bool:
        answer = next(answers)
        asked.append(answer)
        if answer:
            os.kill(os.getpid(), signal.SIGTERM)
        return answer

    with Path(os.devnull).open("wb") as nowhere:
        supervisor = Supervisor([Program("p", (sys.executable, "-c", STAYS))], nowhere)
        assert supervisor.run(ready) == 0
    assert asked == [False, False, True]
    assert signal.getsignal(signal.SIGTERM) is before
