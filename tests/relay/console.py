"""A console of a few lines, for tests of a node's agent: its authority, its signature, its end of a link."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from gateway.core.delivery import Delivery, sign
from gateway.core.difference import difference
from gateway.relay import link
from gateway.relay.agent import Agent
from gateway.relay.link import Asker
from gateway.relay.node import RelayNode
from gateway.relay.statefolder import Identity, StateFolder
from identity.core import authority
from identity.core.authority import Pair

NOW = authority.utc_now()


def document(revision: int, **sections: Any) -> dict[str, Any]:
    """Of a node `edge` that has nothing but what is given."""
    names = ("ports", "services", "apis", "endpoints", "registrations", "users", "acls", "certificates",
             "mapping_rules", "truststores", "keystores")  # fmt: skip
    empty: dict[str, Any] = {name: {} for name in names}
    return (
        empty | {"format": 1, "revision": revision, "node": {"name": "edge", "role": "edge"}, "token": None} | sections
    )


class Console:
    def __init__(self) -> None:
        self.authority = authority.new_authority(NOW)
        self.pair = authority.certify_console(self.authority, NOW)
        self.digest, self.document = "", document(0)

    def enrolled(self, folder: StateFolder, node: str = "edge", *, listen: str = "") -> Identity:
        key = authority.new_key()
        certificate = authority.certify_node(self.authority, authority.request(key, node), node, NOW)
        folder.prepare()
        identity = Identity(node, "edge", certificate, self.authority.certificate, key, listen=listen)
        folder.save_identity(identity)
        return identity

    def whole(self, content: dict[str, Any], *, node: str = "edge") -> Delivery:
        return self._signed(content, "", content["revision"], node)

    def change(self, content: dict[str, Any], *, stands_on: str | None = None) -> Delivery:
        """From what was delivered last."""
        change = difference(self.document, content)
        return self._signed(change, self.digest if stands_on is None else stands_on, content["revision"], "edge")

    def _signed(self, content: dict[str, Any], stands_on: str, revision: int, node: str) -> Delivery:
        body = json.dumps(content).encode()
        return sign(self.pair, node=node, revision=revision, stands_on=stands_on, body=body, now=0.0)

    async def deliver(self, asker: Asker, content: dict[str, Any], *, whole: bool = False) -> dict[str, Any]:
        given = self.whole(content) if whole or not self.digest else self.change(content)
        answer = await send(asker, given)
        if "error" not in answer:
            self.digest, self.document = answer["digest"], content
        return answer

    @contextlib.asynccontextmanager
    async def linked(self, address: str, pair: Pair | None = None) -> AsyncIterator[Asker]:
        """A link with an edge that has no registration port in force."""
        host, _, port = address.rpartition(":")
        tls = link.context(pair or self.pair, self.authority.certificate, server=False)
        reader, writer = await asyncio.open_connection(host, int(port), ssl=tls)
        asker = Asker(reader, writer)
        reading = asyncio.create_task(asker.run())
        try:
            yield asker
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await link.closed(writer)


async def send(asker: Asker, given: Delivery, op: str = "deliver") -> dict[str, Any]:
    return await asker.ask({"op": op} | given.head(), given.body, timeout=30)


class Clock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def running(path: Path, clock: Clock | None = None) -> AsyncIterator[Agent]:
    """The agent of the node whose folder it is, serving."""
    folder = StateFolder(path)
    agent = Agent(folder, folder.identity(), RelayNode(), clock=clock or Clock())
    await agent.start()
    try:
        yield agent
    finally:
        await agent.close()
