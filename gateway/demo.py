"""A demonstration: the forum case with its own minted authorities, certificates and keys.

An API on an edge in the DMZ calls a service on an internal node, directly and through reverse invoke, with
each of the four identities; a partner with a certificate, one whose certificate nobody mapped, one whose has
expired.
"""

import datetime
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.topology.apply import apply
from gateway.topology.document import load

PORTS = {"ext": 8443, "reg": 8444, "inside-https": 8445}


@dataclass(frozen=True, slots=True)
class Minted:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def mint(
    subject: str,
    issuer: Minted | None = None,
    *,
    purpose: x509.ObjectIdentifier | None = None,
    names: tuple[str, ...] = (),
    days: tuple[int, int] = (-1, 365),
) -> Minted:
    """A key and its certificate; without an issuer an authority that signs itself. `days`: validity, from today."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name.from_rfc4514_string(subject), datetime.datetime.now(datetime.UTC)
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_alternative_name(each) for each in names]), critical=False
        )
    return Minted(builder.sign(signer, hashes.SHA256()), key)


def _alternative_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pki() -> dict[str, Minted]:
    client, server = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
    partners = mint("CN=Partner CA,O=Demo", days=(-1, 3650))
    servers = mint("CN=Server CA,O=Demo", days=(-1, 3650))
    here = ("localhost", "127.0.0.1")
    return {
        "partner-ca": partners,
        "server-ca": servers,
        "edge-server": mint("CN=localhost,O=Demo,OU=Edge", servers, purpose=server, names=here),
        "inside-server": mint("CN=localhost,O=Demo,OU=Inside", servers, purpose=server, names=here),
        "inside-client": mint("CN=inside,O=Demo", servers, purpose=client),
        "edge-client": mint("CN=api-gateway,O=Demo", partners, purpose=client),
        "alice": mint("CN=alice,O=Partner One", partners, purpose=client, names=("alice.partner.example",)),
        "stranger": mint("CN=stranger,O=Partner Two", partners, purpose=client),
        "expired": mint("CN=bob,O=Partner Three", partners, purpose=client, days=(-400, -35)),
        "renewing": mint("CN=carol,O=Partner Four", partners, purpose=client, days=(-350, 15)),
    }


def _write_private(path: Path, data: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123
        file.write(data)


def free_port(wanted: int) -> int:
    """`wanted` on 127.0.0.1 if nobody listens there, else one that is free."""
    for number in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port is free on 127.0.0.1")


def seed(folder: Path) -> int:
    """Write certificates, keys (0600) and `topology.yaml` into `folder`, and apply it; the external port's number."""
    pki = folder / "pki"
    pki.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, minted in _pki().items():
        (pki / f"{name}.pem").write_bytes(minted.certificate.public_bytes(serialization.Encoding.PEM))
        pem = minted.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write_private(pki / f"{name}.key", pem)
    ports = {name: free_port(number) for name, number in PORTS.items()}
    text = yaml.safe_dump(_topology(ports), sort_keys=False, width=140)
    _write_private(folder / "topology.yaml", text.encode())  # it holds the demo's passwords
    apply(load(text, folder), actor="demo")
    return ports["ext"]


def _topology(ports: dict[str, int]) -> dict[str, object]:
    address = {name: f"127.0.0.1:{number}" for name, number in ports.items()}
    api = [("direct", "direct", None), ("certificate", "reverse-certificate", None), ("basic", "reverse-basic", None),
           ("caller", "reverse-caller", None), ("anonymous", "reverse-anonymous", None),
           ("opened", "reverse-certificate", "Anonymous")]  # fmt: skip
    return {
        "version": 1,
        "nodes": [
            {"name": "edge", "role": "edge", "description": "In the DMZ"},
            {"name": "inside", "role": "internal", "description": "Behind the inner firewall"},
        ],
        "truststores": [
            {"name": "partners", "certificates": "pki/partner-ca.pem", "description": "Who signs for partners"},
            {"name": "servers", "certificates": "pki/server-ca.pem", "description": "Who signs for our own nodes"},
        ],
        "keystores": [
            {"name": name, "certificate": f"pki/{name}.pem", "private_key": f"pki/{name}.key"}
            for name in ("edge-server", "inside-server", "inside-client", "edge-client")
        ],
        "groups": [
            {"name": "Partners", "description": "Who may call the orders services"},
            {"name": "Gateways", "description": "The gateway itself, when an endpoint gives its own identity"},
        ],
        "users": [
            {"name": "alice", "groups": ["Partners"], "description": "Partner One"},
            {"name": "carol", "groups": ["Partners"], "description": "Partner Four"},
            {"name": "bob", "groups": ["Partners"], "description": "Partner Three"},
            {"name": "api_gateway", "groups": ["Gateways"], "description": "The endpoint's certificate"},
            {"name": "batch", "groups": ["Gateways"], "password": "correct horse battery", "description": "By password"},
        ],
        "acls": [{"name": "PartnerApi", "allowed": ["Partners", "Gateways"], "description": "The orders services"}],
        "certificates": [
            {"name": "alice", "certificate": "pki/alice.pem", "user": "alice"},
            {"name": "carol", "certificate": "pki/renewing.pem", "user": "carol"},
            {"name": "bob", "certificate": "pki/expired.pem", "user": "bob"},
            {"name": "stranger", "certificate": "pki/stranger.pem", "description": "Trusted, and mapped to nobody"},
            {"name": "gateway", "certificate": "pki/edge-client.pem", "user": "api_gateway"},
        ],
        "services": [
            {"name": "orders:whoami", "node": "inside", "path": "/orders", "builtin": "whoami",
             "execute_acl": "PartnerApi"},
            {"name": "orders:submit", "node": "inside", "path": "/submit", "builtin": "echo",
             "execute_acl": "PartnerApi"},
            {"name": "status:whoami", "node": "inside", "path": "/status", "builtin": "whoami",
             "execute_acl": "Anonymous", "description": "Open to everybody"},
        ],
        "endpoints": [
            {"name": "direct", "url": f"https://{address['inside-https']}/orders", "identity": "certificate",
             "keystore": "edge-client", "truststore": "servers"},
            {"name": "reverse-certificate", "url": "reverse://reg/orders", "identity": "certificate",
             "keystore": "edge-client"},
            {"name": "reverse-basic", "url": "reverse://reg/orders", "identity": "basic", "username": "batch",
             "password": "correct horse battery"},
            {"name": "reverse-caller", "url": "reverse://reg/orders", "identity": "caller"},
            {"name": "reverse-anonymous", "url": "reverse://reg/orders", "identity": "anonymous"},
        ],
        "apis": [
            {"name": name, "node": "edge", "path": f"/gateway/{name}", "endpoint": endpoint}
            | ({"execute_acl": acl} if acl else {})
            for name, endpoint, acl in api
        ],
        "ports": [
            {"name": "ext", "node": "edge", "type": "external", "bind": address["ext"],
             "tls": {"keystore": "edge-server", "truststore": "partners"}, "client_auth": "request",
             "registration_port": "reg", "service_access": {"default": "deny",
             "allow": ["/orders", "/submit", "/status", "/gateway"]}, "explain": True},
            {"name": "reg", "node": "edge", "type": "registration", "bind": address["reg"],
             "tls": {"keystore": "edge-server", "truststore": "servers"}},
            {"name": "dial", "node": "inside", "type": "internal",
             "connect": [{"address": address["reg"], "registration": "inside-at-reg"}],
             "tls": {"keystore": "inside-client", "truststore": "servers", "server_name": "localhost"},
             "client_auth": "request", "client_truststore": "partners", "service_access": {"default": "allow"}},
            {"name": "inside-https", "node": "inside", "type": "regular", "bind": address["inside-https"],
             "tls": {"keystore": "inside-server", "truststore": "partners"}, "client_auth": "request",
             "service_access": {"default": "allow"}},
        ],
        "registrations": [
            {"name": "inside-at-reg", "port": "reg", "node": "inside", "certificate": "pki/inside-client.pem",
             "allow_test": True, "may_assert": {"truststores": ["partners"], "groups": ["Partners", "Gateways"]}},
        ],
    }  # fmt: skip
