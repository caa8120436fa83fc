"""What a process holds in memory, now and at most."""

from pathlib import Path

MIB = 1024 * 1024


def resident(pid: int) -> int:
    """Bytes."""
    return _field(pid, "VmRSS")


def peak(pid: int) -> int:
    """Bytes, since `forget_peak` or the start."""
    return _field(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5)


def _field(pid: int, name: str) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition(f"{name}:")[2].split()[0]) * 1024


def processor_seconds(pid: int) -> float:
    """User and system time so far, to the microsecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
