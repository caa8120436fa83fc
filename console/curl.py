"""The `curl` that would send what a test invoke sends: with names of files in place of keys, and no password."""

import shlex
from urllib.parse import quote

from console.invocation import Invocation
from gateway.core.addresses import join_host_port, parse_bind

ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened at


def curl(invocation: Invocation) -> str:
    """One line for a POSIX shell. What only the caller has stands in it in capitals, or is asked by curl itself."""
    words = ["curl"]
    secure = invocation.port.tls_keystore_id is not None
    if secure:
        words += ["--cacert", "SERVER-CA.pem"]
    if invocation.chain:
        words += ["--cert", "CERTIFICATE.pem", "--key", "KEY.pem"]
    if invocation.credential == "password":
        words += ["--user", shlex.quote(invocation.username)]
    if invocation.method == "HEAD":
        words.append("--head")
    elif invocation.method != "GET" or invocation.body:
        words += ["--request", invocation.method]
    for name, value in invocation.headers:
        words += ["--header", shlex.quote(f"{name}: {value}")]
    if invocation.body:
        words += ["--data-binary", "@BODY"]
    # What curl would take for a range or a set is what was typed.
    words += [
        "--globoff",
        "--path-as-is",
        shlex.quote(f"http{'s' if secure else ''}://{_host(invocation)}{_path(invocation)}"),
    ]
    return " ".join(words)


def _host(invocation: Invocation) -> str:
    host, number = parse_bind(invocation.port.bind)
    return f"HOST:{number}" if host in ANYWHERE else join_host_port(host, number)


def _path(invocation: Invocation) -> str:
    return quote(invocation.target, safe="/?#[]@!$&'()*+,;=:%-._~|\\^`{}\"<>")
