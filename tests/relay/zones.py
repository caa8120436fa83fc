"""Network zones with a firewall between them: namespaces of this machine, joined by one that forwards what its rules
let through. Nothing of it is seen outside, and all of it goes with the test."""

import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# Zone → its address; the firewall's end of the wire has .1 in each.
ZONES = {"outside": "10.77.4.2", "dmz": "10.77.1.2", "inner": "10.77.2.2", "office": "10.77.3.2"}
CLONE_NEWNET = 0x40000000  # namespaces(7)


def why_not() -> str:
    """Why no zones can be made here; "" where they can."""
    for program in ("ip", "nft"):
        if shutil.which(program) is None:
            return f"the program {program} is missing (Debian: iproute2, nftables)"
    probe = f"pt{os.getpid()}-probe"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if done.returncode:
        return f"network namespaces cannot be made: {done.stderr.strip()}"
    rules = subprocess.run(["ip", "netns", "exec", probe, "nft", "list", "ruleset"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", probe], check=True)
    return f"nftables cannot be used: {rules.stderr.strip()}" if rules.returncode else ""


@dataclass
class Zones:
    """`allowed`: (from, to, TCP port) that may be opened; everything else is dropped, and counted by zone."""

    allowed: list[tuple[str, str, int]]
    prefix: str = field(default_factory=lambda: f"pt{os.getpid()}")

    def __post_init__(self) -> None:
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        for name in ("firewall", *ZONES):
            _run("ip", "netns", "add", self.name(name))
            self.run(name, "ip", "link", "set", "lo", "up")
        for zone, address in ZONES.items():
            wire = f"{self.prefix}{zone}"[:15]
            _run("ip", "link", "add", wire, "netns", self.name(zone), "type", "veth", "peer", "name", zone,
                 "netns", self.name("firewall"))  # fmt: skip
            gateway = f"{address.rpartition('.')[0]}.1"
            self.run(zone, "ip", "addr", "add", f"{address}/24", "dev", wire)
            self.run(zone, "ip", "link", "set", wire, "up")
            self.run("firewall", "ip", "addr", "add", f"{gateway}/24", "dev", zone)
            self.run("firewall", "ip", "link", "set", zone, "up")
            self.run(zone, "ip", "route", "add", "default", "via", gateway)
        self.run("firewall", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.run("firewall", "nft", "-f", "-", feed=self._rules())

    def _rules(self) -> str:
        lets = "\n".join(
            f'iifname "{source}" oifname "{target}" tcp dport {port} ct state new accept'
            for source, target, port in self.allowed
        )
        drops = "\n".join(f'iifname "{zone}" counter name dropped_{zone} drop' for zone in ZONES)
        counters = "\n".join(f"counter dropped_{zone} {{}}" for zone in ZONES)
        return (
            f"table ip zones {{\n{counters}\nchain forward {{\ntype filter hook forward priority 0; policy drop;\n"
            f"ct state established,related accept\n{lets}\n{drops}\n}}\n}}\n"
        )

    def name(self, zone: str) -> str:
        return f"{self.prefix}-{zone}"

    def within(self, zone: str) -> list[str]:
        return ["ip", "netns", "exec", self.name(zone)]

    def run(self, zone: str, *command: str, feed: str | None = None) -> str:
        return _run(*self.within(zone), *command, feed=feed)

    def dropped(self, zone: str) -> int:
        """Packets from a zone that no rule let through."""
        told = self.run("firewall", "nft", "list", "counter", "ip", "zones", f"dropped_{zone}")
        return int(told.partition("packets ")[2].split()[0])

    def connect(self, zone: str, address: tuple[str, int], timeout: float) -> socket.socket:
        """A connection that is opened from a zone. Raises OSError."""
        return self._within(zone, lambda: socket.create_connection(address, timeout))

    def listen(self, zone: str) -> socket.socket:
        """What listens on a zone's own 127.0.0.1, as a program beside its node."""
        return self._within(zone, lambda: socket.create_server(("127.0.0.1", 0)))

    def _within(self, zone: str, make: Callable[[], socket.socket]) -> socket.socket:
        """A socket that is made in a zone, and is there for good. Raises OSError."""
        made: list[socket.socket | OSError] = []

        def work() -> None:  # a thread of its own, for it stays where it went
            libc = ctypes.CDLL(None, use_errno=True)
            with Path(f"/run/netns/{self.name(zone)}").open() as namespace:
                if libc.setns(namespace.fileno(), CLONE_NEWNET):
                    made.append(OSError(ctypes.get_errno(), "setns"))
                    return
            try:
                made.append(make())
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]

    def close(self) -> None:
        for zone in ("firewall", *ZONES):
            subprocess.run(["ip", "netns", "del", self.name(zone)], capture_output=True)


def _run(*command: str, feed: str | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, input=feed)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
