"""`python -m gateway.relay --node NAME --state DIR --feed FD`: a process of one node, without Django.

Without a feed, `python -m gateway.relay --state DIR` is `postern-node run`: a node on its own machine.

Its configuration comes over the feed, a socket that it inherits: documents and differences in, acknowledgements
out. On a node's own machine the first worker feeds the others (`siblings`). The first document starts it; the end of
the feed, like SIGTERM, makes it finish what is in flight and stop.
"""

import argparse
import asyncio
import logging
import signal
import socket
import sys
from pathlib import Path

import uvloop

from gateway.core.document import SnapshotError
from gateway.relay import cli, frames
from gateway.relay.access_log import AccessLog
from gateway.relay.control import ControlError, ControlServer
from gateway.relay.node import RelayNode
from gateway.relay.siblings import Carrier
from gateway.relay.statefolder import StateError, StateFolder
from gateway.relay.status import StatusServer

log = logging.getLogger("gateway.relay")


async def run(options: argparse.Namespace, feed: socket.socket) -> int:
    """Exit status: 0 after a clean stop, 1 where the node could not start."""
    name: str = options.node
    reader, writer = await asyncio.open_connection(sock=feed, limit=1 << 20)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    status: StatusServer | None = None
    carrier: Carrier | None = None
    try:
        access_log = AccessLog(options.access_log) if options.access_log else None
        node = RelayNode(options.worker, options.workers, access_log)
        if access_log is not None:
            loop.add_signal_handler(signal.SIGHUP, access_log.reopen)
        if options.sibling:
            node.links = carrier = Carrier(StateFolder(options.state), name)
        control = ControlServer(node, options.state, name)
        await control.open()
        if options.status and options.worker == 0:
            status = StatusServer(options.status, control.metrics, control.missing)
            await status.open()
    except (ControlError, StateError, OSError, ValueError) as error:
        return await _give_up(name, error, writer)
    if options.sibling:
        writer.write(frames.encode({"revision": -1}))  # it is there, and waits for what is to be in force
    else:
        try:
            await node.apply((await frames.read(reader))["document"])
        except (SnapshotError, asyncio.IncompleteReadError) as error:
            await control.close()
            return await _give_up(name, error, writer)
        writer.write(frames.encode({"revision": node.snapshot.revision}))
    feeding = asyncio.create_task(_take_documents(node, reader, writer, stopping))
    await stopping.wait()
    feeding.cancel()
    await control.close()
    if carrier is not None:
        await carrier.close()
    if node.snapshot is not None:
        await node.drain()
    else:
        node.passwords.close()
    if status is not None:
        await status.close()
    writer.close()
    return 0


async def _give_up(name: str, error: Exception, writer: asyncio.StreamWriter) -> int:
    log.error("node %s cannot start: %s", name, error)
    writer.write(frames.encode({"error": str(error)}))
    await writer.drain()
    return 1


async def _take_documents(
    node: RelayNode, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stopping: asyncio.Event
) -> None:
    try:
        while True:
            message = await frames.read(reader)
            try:
                if "links" in message:
                    node.links_changed()
                elif "difference" in message:
                    await node.amend(message["difference"])
                else:
                    await node.apply(message["document"])
            except SnapshotError as error:
                refused = message.get("difference") or message["document"]
                log.error("revision %s is refused: %s", refused.get("revision"), error)
                writer.write(frames.encode({"error": str(error)}))
            else:
                writer.write(frames.encode({"revision": node.snapshot.revision if node.snapshot else -1}))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        log.warning("the feed has ended: stopping")
    finally:
        stopping.set()


def main() -> int:
    if not any(word.startswith("--feed") for word in sys.argv[1:]):
        return cli.main(["run", *sys.argv[1:]])
    parser = argparse.ArgumentParser(prog="python -m gateway.relay", description=__doc__)
    parser.add_argument("--node", required=True)
    parser.add_argument("--state", required=True, type=Path)
    parser.add_argument("--feed", required=True, type=int, help="descriptor of the inherited feed")
    parser.add_argument("--worker", type=int, default=0, help="which of the processes that share the node this is")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--sibling", action="store_true", help="its first worker feeds it, on its own machine")
    parser.add_argument("--status", default="", help="where /metrics, /healthz and /readyz are: HOST:PORT")
    parser.add_argument(
        "--access-log", default="", help="a file that requests are written to, or - for standard output"
    )
    options = parser.parse_args()
    cli.prepare_process()
    cli.ignore_reloads()
    feed = socket.socket(fileno=options.feed)
    feed.setblocking(False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(options, feed))


if __name__ == "__main__":
    sys.exit(main())
