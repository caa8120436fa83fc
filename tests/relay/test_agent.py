"""A node with a state folder: what it takes from the console, what it keeps, and what it does when things break."""

import asyncio
import json
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.core.delivery import Delivery
from gateway.relay import cli, frames, link
from gateway.relay.control import ControlError, call
from gateway.relay.link import LinkError
from gateway.relay.statefolder import StateError, StateFolder
from gateway.relay.status import StatusServer
from identity.core import authority
from tests.ports import free_address
from tests.relay.console import NOW, Clock, Console, document, running, send

ALICE = {"groups": ["Everybody"], "enabled": True}


@pytest.fixture
def console() -> Console:
    return Console()


@pytest.fixture
def edge(tmp_path: Path, console: Console) -> tuple[Path, str]:
    """The folder of an enrolled edge, and where it waits for the console."""
    address = free_address()
    console.enrolled(StateFolder(tmp_path / "edge"), listen=address)
    return tmp_path / "edge", address


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scene()

    asyncio.run(bounded())


def test_what_is_delivered_is_in_force_and_kept(edge: tuple[Path, str], console: Console) -> None:
    path, address = edge

    async def scene() -> None:
        async with running(path) as agent, console.linked(address) as asker:
            assert (await asker.ask({"op": "hello", "revision": 1}, timeout=30))["revision"] == -1
            await console.deliver(asker, document(1))
            answer = await console.deliver(asker, document(2, users={"alice": ALICE}))
            assert (answer["revision"], answer["differences"]) == (2, 1)
            assert agent.node.snapshot.users["alice"].enabled
        async with running(path) as agent:  # with nobody to ask
            assert agent.node.snapshot.document == document(2, users={"alice": ALICE})
            assert (agent.revision, agent.digest) == (2, answer["digest"])

    play(scene)


def test_the_whole_sums_up_the_differences(edge: tuple[Path, str], console: Console) -> None:
    path, address = edge

    async def scene() -> None:
        async with running(path) as agent, console.linked(address) as asker:
            for revision in range(1, 5):
                await console.deliver(asker, document(revision))
            assert len(list((path / "configuration").iterdir())) == 4
            before = agent.node.snapshot
            kept = await send(asker, console.whole(document(4)), "keep")
            assert (kept["revision"], kept["differences"]) == (4, 0)
            assert agent.node.snapshot is before, "it is in force already: nothing is read again"
            assert [file.name for file in (path / "configuration").iterdir()] == ["whole"]
            console.digest = kept["digest"]
            await console.deliver(asker, document(5))
            refused = await send(asker, console.whole(document(6)), "keep")
            assert "sums up what is in force" in refused["error"]
        async with running(path) as agent:
            assert agent.revision == 5

    play(scene)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        pytest.param(lambda ours: ours.whole(document(1)), "older than 2", id="a-replay-of-an-older-revision"),
        pytest.param(lambda ours: ours.whole(document(3), node="inside"), "meant for node inside", id="another-node's"),
        pytest.param(lambda ours: Console().whole(document(3)), "not signed by the console", id="another-console's"),
        pytest.param(lambda ours: ours.change(document(3), stands_on="0" * 64), "another document", id="out-of-order"),
        pytest.param(
            lambda ours: ours.change(document(3, services={"s": {"path": "/"}})), r"services\[s\]", id="contradictory"
        ),
        pytest.param(
            lambda ours: Delivery.of(ours.whole(document(3)).head(), b"{}"), "part of it is missing", id="another-body"
        ),
    ],
)
def test_what_is_refused_leaves_the_last_one_in_force_and_says_why(
    edge: tuple[Path, str], console: Console, made: Callable[[Console], Delivery], words: str
) -> None:
    path, address = edge

    async def scene() -> None:
        async with running(path) as agent, console.linked(address) as asker:
            await console.deliver(asker, document(1))
            await console.deliver(asker, document(2))
            answer = await send(asker, made(console))
            assert pytest.raises(AssertionError, match=words).matches(AssertionError(answer["error"]))
            assert (answer["revision"], agent.node.snapshot.revision) == (2, 2)
            assert agent.about()["refused"]["words"] == answer["error"]
            assert {file.name for file in (path / "configuration").iterdir()} == {"whole", f"{2:020d}"}
            await console.deliver(asker, document(3))  # what comes next is taken
            assert agent.about()["refused"] is None
        async with running(path) as agent:
            assert agent.revision == 3

    play(scene)


def test_a_snapshot_that_is_half_delivered_is_none(edge: tuple[Path, str], console: Console) -> None:
    path, address = edge

    async def scene() -> None:
        async with running(path) as agent:
            async with console.linked(address) as asker:
                await console.deliver(asker, document(1))
                given = console.change(document(2, users={"alice": ALICE}))
                message = {"op": "deliver", "id": 9, "attached": len(given.body)} | given.head()
                asker._writer.write(frames.encode(message) + given.body[: len(given.body) // 2])
                await asker._writer.drain()
            async with console.linked(address) as asker:
                assert (await asker.ask({"op": "hello", "revision": 2}, timeout=30))["revision"] == 1
                assert agent.node.snapshot.revision == 1
                await console.deliver(asker, document(2))
        async with running(path) as agent:
            assert agent.revision == 2

    play(scene)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "difference"])
def test_a_full_disk_refuses_the_new_and_keeps_the_old(edge: tuple[Path, str], console: Console, whole: bool) -> None:
    path, address = edge

    async def scene() -> None:
        async with running(path) as agent, console.linked(address) as asker:
            await console.deliver(asker, document(1))
            # Whatever is written there finds the device full: as a disk that is.
            (path / "configuration" / ("whole.new" if whole else f"{2:020d}.new")).symlink_to("/dev/full")
            answer = await console.deliver(asker, document(2), whole=whole)
            assert "No space left on device" in answer["error"] and answer["revision"] == 1
            assert agent.node.snapshot.revision == 1
            assert (await console.deliver(asker, document(2), whole=whole))["revision"] == 2  # there is room again
        async with running(path) as agent:
            assert agent.revision == 2

    play(scene)


def test_a_file_that_is_damaged_is_not_started_from(edge: tuple[Path, str], console: Console) -> None:
    path, address = edge

    async def scene() -> None:
        async with running(path), console.linked(address) as asker:
            await console.deliver(asker, document(1))
            await console.deliver(asker, document(2))
            await console.deliver(asker, document(3))
        torn = path / "configuration" / f"{3:020d}"
        torn.write_bytes(torn.read_bytes()[:-1])
        async with running(path) as agent:
            assert agent.revision == 2, "what comes before it is whole"
        whole = path / "configuration" / "whole"
        whole.write_bytes(whole.read_bytes().replace(b'"revision"', b'"rovision"'))
        async with running(path) as agent:
            assert agent.revision == -1 and "is not as the console gave it" in agent.about()["refused"]["words"]
            with pytest.raises(ControlError, match="is starting"):
                await asyncio.to_thread(call, path, "edge", {"op": "state"})
            async with console.linked(address) as asker:
                await console.deliver(asker, document(4), whole=True)
            assert agent.revision == 4

    play(scene)


def test_a_node_that_is_cut_off_goes_on_and_says_how_old_its_configuration_is(
    edge: tuple[Path, str], console: Console
) -> None:
    path, address = edge
    clock, status = Clock(), free_address()

    def get(what: str) -> str:
        with urllib.request.urlopen(f"http://{status}{what}", timeout=30) as answer:
            return answer.read().decode()

    async def scene() -> None:
        async with running(path, clock) as agent:
            server = StatusServer(status, agent.control.metrics, agent.control.missing, agent.about)
            await server.open()
            assert "postern_configuration_revision -1.0" in await asyncio.to_thread(get, "/metrics"), "before the first"
            async with console.linked(address) as asker:
                await console.deliver(asker, document(1))
                assert agent.about()["linked"]
            clock.now += 3600
            ready = json.loads(await asyncio.to_thread(get, "/readyz"))
            assert ready["ready"] and ready["configuration"]["age"] == 3600
            assert not ready["configuration"]["linked"]
            metrics = await asyncio.to_thread(get, "/metrics")
            assert "postern_configuration_age_seconds 3600.0" in metrics and "postern_console_linked 0.0" in metrics
            async with console.linked(address) as asker:
                await asker.ask({"op": "ping", "revision": 2}, timeout=30)
                assert agent.about()["age"] == 3600, "there is a newer one"
                await asker.ask({"op": "ping", "revision": 1}, timeout=30)
                assert agent.about()["age"] == 0
            await server.close()

    play(scene)


def test_of_two_consoles_the_newer_revision_stays(edge: tuple[Path, str], console: Console) -> None:
    path, address = edge
    other = Console()
    other.authority, other.pair = console.authority, authority.certify_console(console.authority, NOW)

    async def scene() -> None:
        async with running(path) as agent, console.linked(address) as one, other.linked(address) as two:
            answers = await asyncio.gather(
                *(console.deliver(one, document(revision), whole=True) for revision in (1, 3, 5)),
                *(other.deliver(two, document(revision), whole=True) for revision in (2, 4, 6)),
            )
            assert agent.revision == 6
            for answer in answers:
                assert "error" not in answer or "is older than" in answer["error"]
            # A difference of one whose document is not the one in force any more is refused, and the whole is taken.
            assert "another document" in (await console.deliver(one, document(7)))["error"]
            assert (await console.deliver(one, document(7), whole=True))["revision"] == 7
        async with running(path) as agent:
            assert agent.revision == 7

    play(scene)


def test_nobody_but_the_console_has_a_link(edge: tuple[Path, str], console: Console, tmp_path: Path) -> None:
    path, address = edge
    inside = console.enrolled(StateFolder(tmp_path / "inside"), "inside")
    stranger = Console()

    async def scene() -> None:
        async with running(path) as agent:
            for who in (inside.pair, stranger.pair):
                with pytest.raises((LinkError, OSError)):
                    async with console.linked(address, who) as asker:
                        await asker.ask({"op": "hello", "revision": 1}, timeout=30)
            assert agent.revision == -1

    play(scene)


def test_a_certificate_is_renewed_over_the_link_and_kept(edge: tuple[Path, str], console: Console) -> None:
    path, address = edge
    before = StateFolder(path).identity()

    async def scene() -> None:
        async with running(path) as agent:
            async with console.linked(address) as asker:
                unasked = authority.request(authority.new_key(), "edge")
                stray = authority.certify_node(console.authority, unasked, "edge", NOW)
                for given, words in (("x", "not taken"), (stray, "no renewal")):
                    answer = await asker.ask({"op": "certificate", "certificate": given}, timeout=30)
                    assert words in answer["error"]
                asked = (await asker.ask({"op": "renew"}, timeout=30))["request"]
                other = authority.certify_node(console.authority, asked, "inside", NOW)
                answer = await asker.ask({"op": "certificate", "certificate": other}, timeout=30)
                assert "another node's" in answer["error"]
                asked = (await asker.ask({"op": "renew"}, timeout=30))["request"]
                mine = authority.certify_node(console.authority, asked, "edge", NOW)
                assert "error" not in await asker.ask({"op": "certificate", "certificate": mine}, timeout=30)
            async with console.linked(address) as asker:
                shown = link.peer_of(asker._writer)
                assert shown is not None and shown == agent.identity.pair.parsed

    play(scene)
    after = StateFolder(path).identity()
    assert after.certificate != before.certificate and after.key != before.key
    assert (path / "identity.json").stat().st_mode & 0o777 == 0o600


def test_of_two_consoles_that_renew_at_once_the_first_is_heard(edge: tuple[Path, str], console: Console) -> None:
    path, address = edge

    async def scene() -> None:
        async with running(path) as agent, console.linked(address) as one, console.linked(address) as other:
            asked = [(await asker.ask({"op": "renew"}, timeout=30))["request"] for asker in (one, other)]
            first, second = (authority.certify_node(console.authority, each, "edge", NOW) for each in asked)
            for asker, certificate in ((other, second), (one, first)):
                assert "error" not in await asker.ask({"op": "certificate", "certificate": certificate}, timeout=30)
            assert agent.identity.certificate == second, "either would do; a node has one"

    play(scene)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "no answer in time"),
        (ConnectionResetError(), "ConnectionResetError"),
        (OSError("no route to host"), "no route to host"),
    ],
    ids=["timeout", "wordless", "worded"],
)
def test_a_link_that_breaks_says_why(error: Exception, words: str) -> None:
    assert link.words_of(error) == words


def test_a_folder_that_belongs_to_no_node_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="postern-node enrol"):
        StateFolder(tmp_path).identity()
    (tmp_path / "identity.json").write_text('{"node": "edge"}')
    with pytest.raises(StateError, match="Enrol the node again"):
        StateFolder(tmp_path).identity()


def test_an_unknown_question_does_not_end_the_link(edge: tuple[Path, str], console: Console) -> None:
    path, address = edge

    async def scene() -> None:
        async with running(path), console.linked(address) as asker:
            assert "is starting" in (await asker.ask({"op": "state"}, timeout=30))["error"]
            await console.deliver(asker, document(1))
            assert "no operation 'sing'" in (await asker.ask({"op": "sing"}, timeout=30))["error"]
            state: Any = await asker.ask({"op": "state"}, timeout=30)
            assert state["configuration"]["revision"] == 1

    play(scene)


def test_a_node_that_does_not_run_is_started_by_its_own_command(
    edge: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status", "--state", str(edge[0])]) == 1
    assert f"Start it: postern-node run --state {edge[0]}" in capsys.readouterr().err


def test_a_node_takes_no_authorities_by_which_it_would_be_cut_off(edge: tuple[Path, str], console: Console) -> None:
    path, address = edge
    ours, new = console.authority.certificate, authority.new_authority(NOW)

    async def scene() -> None:
        async with running(path) as agent, console.linked(address) as asker:

            async def told(pem: str) -> dict[str, Any]:
                return await asker.ask({"op": "authorities", "authority": pem}, timeout=30)

            for pem in ("", "none at all", new.certificate):
                assert "the authorities are not taken" in (await told(pem))["error"]
            await console.deliver(asker, document(1))
            assert len((await told(new.certificate + ours))["authorities"]) == 2
            # It has a certificate of the new one now; but what it would start from is signed by the old console.
            asked = (await asker.ask({"op": "renew"}, timeout=30))["request"]
            certificate = authority.certify_node(new, asked, "edge", NOW)
            assert "error" not in await asker.ask({"op": "certificate", "certificate": certificate}, timeout=30)
            assert "not signed by the console" in (await told(new.certificate))["error"]
            assert StateFolder(path).identity().authority == agent.identity.authority == new.certificate + ours
            console.pair = authority.certify_console(new, NOW)
            assert "error" not in await send(asker, console.whole(document(1)), "keep")
            assert len((await told(new.certificate))["authorities"]) == 1
            # What this link was proved by is believed no more: it is answered nothing.
            with pytest.raises(LinkError):
                await asker.ask({"op": "hello", "revision": 1}, timeout=30)
        async with running(path) as agent:
            assert agent.revision == 1

    play(scene)
