"""WHERE, as rows: one noun a module."""

from gateway.models.apis import API
from gateway.models.audit import Action, AppendOnlyError, Change, ChangeSet, Head, KeptSecret, Link
from gateway.models.endpoints import Endpoint, EndpointIdentity
from gateway.models.nodes import Node, Role
from gateway.models.ports import CipherSet, ClientAuth, Dial, Port, PortType, TLSVersion
from gateway.models.registrations import Registration
from gateway.models.services import Builtin, Service

__all__ = [
    "API",
    "Action",
    "AppendOnlyError",
    "Builtin",
    "Change",
    "ChangeSet",
    "CipherSet",
    "ClientAuth",
    "Dial",
    "Endpoint",
    "EndpointIdentity",
    "Head",
    "KeptSecret",
    "Link",
    "Node",
    "Port",
    "PortType",
    "Registration",
    "Role",
    "Service",
    "TLSVersion",
]
