"""`postern-node`: a node on a machine of its own, which needs its state folder and nothing else.

postern-node enrol --state DIR BUNDLE   once: make its key, get its certificate
postern-node run --state DIR            serve, until SIGTERM
postern-node status --state DIR         what runs there, and how old its configuration is
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import uvloop

from gateway.core.addresses import parse_bind
from gateway.core.enrolment import EnrolmentError, read_bundle
from gateway.relay import enrol
from gateway.relay.access_log import AccessLog
from gateway.relay.agent import Agent
from gateway.relay.control import ControlError, NotRunning, call
from gateway.relay.handshake import MAX_WORKERS
from gateway.relay.node import RelayNode
from gateway.relay.siblings import Siblings
from gateway.relay.statefolder import StateError, StateFolder
from gateway.relay.status import StatusServer
from identity.core import log_lines

log = logging.getLogger("gateway.relay")

DEFAULT_STATE = Path("/var/lib/postern-node")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 after a clean stop, 1 where it could not be done, with the reason on standard error."""
    options = _parser().parse_args(arguments)
    prepare_process()
    work = {"run": _run, "enrol": _enrol, "status": _status}[options.command]
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work(options))
    except (StateError, EnrolmentError, ControlError) as error:
        print(f"postern-node: {error}", file=sys.stderr)
        return 1


def prepare_process() -> None:
    """What is made is this account's alone. Every connection is a file, of which it may have more than at the start."""
    os.umask(0o077)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(log_lines.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="postern-node", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="serve until SIGTERM, which lets what is in flight finish")
    run.add_argument("--status", default="", metavar="HOST:PORT", help="where /metrics, /healthz and /readyz are")
    run.add_argument("--access-log", default="", metavar="FILE", help="a line of JSON for each request; - for stdout")
    run.add_argument(
        "--workers", type=_workers, default=1, help="processes that share the node's ports (now %(default)s)"
    )
    enrol = commands.add_parser("enrol", help="make the node's key here, and get its certificate from the console")
    enrol.add_argument("bundle", help="from the node's page: the text, a file that holds it, or - for standard input")
    enrol.add_argument("--wait", type=float, default=600.0, help="seconds for which an edge waits for the console")
    status = commands.add_parser("status", help="what runs, and how old its configuration is")
    status.add_argument("--json", action="store_true", help="all of it, as the node tells it")
    for each in (run, enrol, status):
        each.add_argument("--state", type=Path, default=DEFAULT_STATE, help="the node's folder (now %(default)s)")
    return parser


def _workers(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= MAX_WORKERS):
        raise argparse.ArgumentTypeError(f"give a number from 1 to {MAX_WORKERS}.")
    return int(text)


# --- run ---


def ignore_reloads() -> None:
    """Until there is an access log to open anew: else the signal that asks for it would end the process."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


async def _run(options: argparse.Namespace) -> int:
    ignore_reloads()
    folder = StateFolder(options.state)
    identity = folder.identity()
    folder.prepare()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        access_log = AccessLog(options.access_log) if options.access_log else None
    except OSError as error:
        raise StateError(f"--access-log: {options.access_log}: {error.strerror or error}") from error
    siblings = None
    if options.workers > 1:
        siblings = Siblings(
            folder.path, identity.node, options.workers, access_log=options.access_log, ended=stopping.set
        )
    if access_log is not None:
        loop.add_signal_handler(signal.SIGHUP, partial(_rotated, access_log, siblings))
    node = RelayNode(0, options.workers, access_log)
    agent = Agent(folder, identity, node, siblings=siblings)
    status = await _status_server(options.status, agent)
    try:
        await agent.start()
        await stopping.wait()
    finally:
        await agent.close()
        if status is not None:
            await status.close()
    return siblings.status if siblings is not None else 0


def _rotated(access_log: AccessLog, siblings: Siblings | None) -> None:
    access_log.reopen()
    if siblings is not None:
        siblings.signal(signal.SIGHUP)


async def _status_server(address: str, agent: Agent) -> StatusServer | None:
    """Raises StateError."""
    if not address:
        return None
    try:
        parse_bind(address)
        status = StatusServer(address, agent.control.metrics, agent.control.missing, agent.about)
        await status.open()
    except (ValueError, OSError) as error:
        raise StateError(f"--status: {address}: {error}") from error
    return status


# --- enrol ---


async def _enrol(options: argparse.Namespace) -> int:
    folder = StateFolder(options.state)
    bundle = read_bundle(_text(options.bundle))
    with contextlib.suppress(StateError):
        known = folder.identity()
        if known.node != bundle.node:
            raise EnrolmentError(
                f"{options.state} belongs to node {known.node}, and the bundle is for {bundle.node}: "
                "give another folder."
            )
    if bundle.listen:
        print(f"Waiting at {bundle.listen} for the console …", file=sys.stderr)
    identity = await enrol.enrol(bundle, folder, wait=options.wait)
    print(f"Node {identity.node} is enrolled. Start it: postern-node run --state {options.state}")
    return 0


def _text(argument: str) -> str:
    """Raises EnrolmentError."""
    if argument.startswith("postern-"):
        return argument
    try:
        return sys.stdin.read() if argument == "-" else Path(argument).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise EnrolmentError(f"The bundle cannot be read from {argument}: {error}") from error


# --- status ---


async def _status(options: argparse.Namespace) -> int:
    identity = StateFolder(options.state).identity()
    try:
        state = await asyncio.to_thread(call, options.state, identity.node, {"op": "state"})
    except NotRunning as error:
        raise ControlError(
            f"node {identity.node} does not run. Start it: postern-node run --state {options.state}"
        ) from error
    if options.json:
        print(json.dumps(state, indent=2))
        return 0
    about = state["configuration"]
    age = "of unknown age" if about["age"] is None else f"{about['age']:.0f} s old"
    console = "linked" if about["linked"] else f"not linked{': ' if about['problem'] else ''}{about['problem']}"
    print(f"node      {state['node']} ({identity.role})")
    print(f"revision  {state['revision']}, {age}")
    print(f"console   {console}")
    if about["refused"]:
        print(f"refused   revision {about['refused']['revision']}: {about['refused']['words']}")
    for port in state["ports"]:
        listening = "listening" if port["listening"] else "not listening"
        print(f"port      {port['name']} ({port['type']}): {listening}, {port['connections']} connections")
    return 0


if __name__ == "__main__":
    sys.exit(main())
