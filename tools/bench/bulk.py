"""One GiB up and one down through both nodes: how fast beside nginx as a plain proxy, and what the nodes hold of it.

    python -m tools.bench.bulk [--mib 1024]

nginx streams too: with its buffering of whole bodies it would write them to files first.
"""

import argparse
import socket
import ssl
import statistics
import tempfile
import time
from pathlib import Path

from tools.bench.memory import MIB, forget_peak, peak, resident
from tools.bench.relay import Running, running
from tools.bench.table import Row, at_least, at_most, rendered

PIECE = memoryview(b"x" * (256 * 1024))
ROUNDS = 3


def move(stand: Running, port: str, size: int, *, up: bool) -> float:
    """Seconds for one body of `size` bytes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(stand.folder / "alice.both")
    with (
        socket.create_connection(("127.0.0.1", stand.ports[port]), 60) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        began = time.perf_counter()
        if up:
            sock.sendall(b"POST /bulk HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size)
            for at in range(0, size, len(PIECE)):
                sock.sendall(PIECE[: size - at])
        else:
            sock.sendall(b"GET /bulk?%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % size)
        received, body = b"", 0
        while b"\r\n\r\n" not in received:
            received += sock.recv(65536)
        head, _, rest = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        body, buffer = len(rest), bytearray(256 * 1024)
        while body < length:
            count = sock.recv_into(buffer)
            assert count, "cut"
            body += count
            rest += bytes(buffer[:count]) if up else b""
        assert length == (len(str(size)) if up else size) and (not up or int(rest) == size)
        return time.perf_counter() - began


def measure(size: int) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, running(Path(name), {}) as stand:
        pids = {node: stand.pids(node)[0] for node in ("edge", "inside")}
        for up in (True, False):
            for port in ("nginx", "ext"):
                move(stand, port, size // 16, up=up)
        for up, way in ((True, "up"), (False, "down")):
            ratios, grown = [], dict.fromkeys(pids, 0)
            for _ in range(ROUNDS):
                before = {node: resident(pid) for node, pid in pids.items()}
                for pid in pids.values():
                    forget_peak(pid)
                theirs, ours = (move(stand, port, size, up=up) for port in ("nginx", "ext"))
                ratios.append(theirs / ours)
                grown = {node: max(grown[node], peak(pid) - before[node]) for node, pid in pids.items()}
            what = f"{size / MIB:.0f} MiB {way}"
            rows.append(at_least(f"{what}, against nginx", 0.4, statistics.median(ratios),
                                 more=f" (nginx {size / MIB / theirs:.0f} MiB/s)"))  # fmt: skip
            rows += [at_most(f"{what}: memory of {node} grows by", 16, grown[node] / MIB, "MiB") for node in pids]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    print(rendered(measure(parser.parse_args().mib * MIB)))


if __name__ == "__main__":
    main()
