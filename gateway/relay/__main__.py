"""`python -m gateway.relay --node NAME --state DIR --feed FD`: one node's process, without Django.

Its configuration comes over the feed, a socket that it inherits: documents in, acknowledgements out. The
first document starts it; the end of the feed, like SIGTERM, makes it finish what is in flight and stop.
"""

import argparse
import asyncio
import logging
import signal
import socket
import sys
from pathlib import Path

import uvloop

from gateway.core.snapshot import SnapshotError
from gateway.relay import frames
from gateway.relay.control import ControlError, ControlServer
from gateway.relay.node import RelayNode

log = logging.getLogger("gateway.relay")


async def run(name: str, state_dir: Path, feed: socket.socket) -> int:
    """Exit status: 0 after a clean stop, 1 where the node could not start."""
    reader, writer = await asyncio.open_connection(sock=feed, limit=1 << 20)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    node = RelayNode()
    control = ControlServer(node, state_dir, name)
    try:
        await control.open()
        await node.apply((await frames.read(reader))["document"])
    except (SnapshotError, ControlError, asyncio.IncompleteReadError) as error:
        log.error("node %s cannot start: %s", name, error)
        writer.write(frames.encode({"error": str(error)}))
        await writer.drain()
        await control.close()
        return 1
    writer.write(frames.encode({"revision": node.snapshot.revision}))
    feeding = asyncio.create_task(_take_documents(node, reader, writer, stopping))
    await stopping.wait()
    feeding.cancel()
    await control.close()
    await node.drain()
    writer.close()
    return 0


async def _take_documents(
    node: RelayNode, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stopping: asyncio.Event
) -> None:
    try:
        while True:
            message = await frames.read(reader)
            try:
                await node.apply(message["document"])
            except SnapshotError as error:
                log.error("revision %s is refused: %s", message["document"].get("revision"), error)
                writer.write(frames.encode({"error": str(error)}))
            else:
                writer.write(frames.encode({"revision": node.snapshot.revision}))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        log.warning("the feed has ended: stopping")
    finally:
        stopping.set()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gateway.relay", description=__doc__)
    parser.add_argument("--node", required=True)
    parser.add_argument("--state", required=True, type=Path)
    parser.add_argument("--feed", required=True, type=int, help="descriptor of the inherited feed")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    feed = socket.socket(fileno=options.feed)
    feed.setblocking(False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(options.node, options.state, feed))


if __name__ == "__main__":
    sys.exit(main())
