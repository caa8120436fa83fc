"""Rows for tests: each valid as it stands, saved inside a change set like every other change."""

from functools import cache
from typing import Any

import factory
from factory.django import DjangoModelFactory

from console.models import Operator, Role
from gateway.audit import change_set
from gateway.models import API, Dial, Endpoint, Node, Port, Registration, Service
from identity.models import ACL, Certificate, Group, Keystore, MappingRule, TrustedCertificate, Truststore, User
from tests.minting import Minted, authority, mint

OPERATOR_PASSWORD = "a password of some length"


@cache
def partner_ca() -> Minted:
    return authority("CN=Partner CA,O=Acme")


@cache
def server_ca() -> Minted:
    return authority("CN=Server CA,O=Acme")


class Configured(DjangoModelFactory):
    """Saves what it makes inside a change set."""

    class Meta:
        abstract = True

    @classmethod
    def _create(cls, model_class: type, *args: Any, **kwargs: Any) -> Any:
        with change_set("tests", f"{model_class.__name__} made"):
            row = cls.build_row(model_class, **kwargs)
            row.save()
            cls.link(row)
        return row

    @classmethod
    def build_row(cls, model_class: type, **kwargs: Any) -> Any:
        return model_class(**kwargs)

    @classmethod
    def link(cls, row: Any) -> None:
        """What can be set only once the row is there."""


class NodeFactory(Configured):
    class Meta:
        model = Node

    name = factory.Sequence(lambda n: f"edge-{n}")
    role = "edge"


class GroupFactory(Configured):
    class Meta:
        model = Group

    name = factory.Sequence(lambda n: f"Group{n}")


class UserFactory(Configured):
    """`UserFactory(groups=[group], password="…")`"""

    class Meta:
        model = User

    name = factory.Sequence(lambda n: f"user{n}")

    @classmethod
    def build_row(cls, model_class: type, groups: Any = (), password: str = "", **kwargs: Any) -> Any:
        row = model_class(**kwargs)
        row.set_password(password)
        row._wanted_groups = groups
        return row

    @classmethod
    def link(cls, row: Any) -> None:
        row.groups.set(row._wanted_groups)


class ACLFactory(Configured):
    """`ACLFactory(allowed=[group], denied=[other])`"""

    class Meta:
        model = ACL

    name = factory.Sequence(lambda n: f"Acl{n}")

    @classmethod
    def build_row(cls, model_class: type, allowed: Any = (), denied: Any = (), **kwargs: Any) -> Any:
        row = model_class(**kwargs)
        row._wanted = allowed, denied
        return row

    @classmethod
    def link(cls, row: Any) -> None:
        row.allowed.set(row._wanted[0])
        row.denied.set(row._wanted[1])


class CertificateFactory(Configured):
    """`CertificateFactory(minted=mint("CN=alice", partner_ca()), user=alice)`; unmapped unless a user is given."""

    class Meta:
        model = Certificate

    name = factory.Sequence(lambda n: f"certificate-{n}")

    @classmethod
    def build_row(cls, model_class: type, minted: Minted | None = None, **kwargs: Any) -> Any:
        row = model_class(**kwargs)
        row.set_certificate((minted or mint(f"CN={row.name},O=Partner", partner_ca())).certificate)
        return row


class TruststoreFactory(Configured):
    """`TruststoreFactory(anchors=[partner_ca()])`"""

    class Meta:
        model = Truststore

    name = factory.Sequence(lambda n: f"truststore-{n}")

    @classmethod
    def build_row(cls, model_class: type, anchors: Any = None, **kwargs: Any) -> Any:
        row = model_class(**kwargs)
        row._anchors = [partner_ca()] if anchors is None else anchors
        return row

    @classmethod
    def link(cls, row: Any) -> None:
        for anchor in row._anchors:
            trusted = TrustedCertificate(truststore=row)
            trusted.set_certificate(anchor.certificate)
            trusted.full_clean()
            trusted.save()


class KeystoreFactory(Configured):
    """A server's by default: `KeystoreFactory(minted=mint("CN=localhost", server_ca(), purpose="server"))`"""

    class Meta:
        model = Keystore

    name = factory.Sequence(lambda n: f"keystore-{n}")

    @classmethod
    def build_row(cls, model_class: type, minted: Minted | None = None, **kwargs: Any) -> Any:
        row = model_class(**kwargs)
        pair = minted or mint(
            "CN=localhost,O=Acme", server_ca(), purpose="server", san=["dns:localhost", "ip:127.0.0.1"]
        )
        row.set_pair((pair.certificate, *(link.certificate for link in pair.above)), pair.key)
        return row


class MappingRuleFactory(Configured):
    class Meta:
        model = MappingRule

    name = factory.Sequence(lambda n: f"rule-{n}")
    san = "dns:*.partner.example"
    user = factory.SubFactory(UserFactory)


class RegistrationPortFactory(Configured):
    class Meta:
        model = Port

    name = factory.Sequence(lambda n: f"reg-{n}")
    node = factory.SubFactory(NodeFactory)
    type = "registration"
    client_auth = "require"
    bind = factory.Sequence(lambda n: f"127.0.0.1:{20000 + n}")
    tls_keystore = factory.SubFactory(KeystoreFactory)
    tls_truststore = factory.LazyFunction(lambda: TruststoreFactory(anchors=[server_ca()]))


class ExternalPortFactory(Configured):
    class Meta:
        model = Port

    name = factory.Sequence(lambda n: f"ext-{n}")
    type = "external"
    client_auth = "request"
    bind = factory.Sequence(lambda n: f"127.0.0.1:{30000 + n}")
    registration_port = factory.SubFactory(RegistrationPortFactory)
    node = factory.SelfAttribute("registration_port.node")
    tls_keystore = factory.SubFactory(KeystoreFactory)
    tls_truststore = factory.SubFactory(TruststoreFactory)


class RegularPortFactory(Configured):
    """Plain HTTP, asking nobody for a certificate."""

    class Meta:
        model = Port

    name = factory.Sequence(lambda n: f"regular-{n}")
    node = factory.SubFactory(NodeFactory, role="internal", name=factory.Sequence(lambda n: f"inside-{n}"))
    type = "regular"
    bind = factory.Sequence(lambda n: f"127.0.0.1:{40000 + n}")


class RegistrationFactory(Configured):
    class Meta:
        model = Registration

    name = factory.Sequence(lambda n: f"registration-{n}")
    port = factory.SubFactory(RegistrationPortFactory)
    node = factory.SubFactory(NodeFactory, role="internal", name=factory.Sequence(lambda n: f"inside-reg-{n}"))

    @classmethod
    def build_row(cls, model_class: type, minted: Minted | None = None, **kwargs: Any) -> Any:
        row = model_class(**kwargs)
        row.set_certificate((minted or mint(f"CN={row.name},O=Acme", server_ca())).certificate)
        return row


class InternalPortFactory(Configured):
    """Dials for the registration that is given, or for one of its own."""

    class Meta:
        model = Port

    name = factory.Sequence(lambda n: f"dial-{n}")
    type = "internal"
    client_auth = "request"
    tls_keystore = factory.SubFactory(KeystoreFactory)
    tls_truststore = factory.LazyFunction(lambda: TruststoreFactory(anchors=[server_ca()]))
    client_truststore = factory.SubFactory(TruststoreFactory)

    @classmethod
    def build_row(cls, model_class: type, registration: Any = None, **kwargs: Any) -> Any:
        registration = registration or RegistrationFactory()
        row = model_class(node=kwargs.pop("node", registration.node), **kwargs)
        row._registration = registration
        return row

    @classmethod
    def link(cls, row: Any) -> None:
        Dial(port=row, address=row._registration.port.bind, registration=row._registration).save()


class ServiceFactory(Configured):
    class Meta:
        model = Service

    name = factory.Sequence(lambda n: f"service:{n}")
    node = factory.SubFactory(NodeFactory, role="internal", name=factory.Sequence(lambda n: f"inside-svc-{n}"))
    path = factory.Sequence(lambda n: f"/service-{n}")
    builtin = "whoami"


class EndpointFactory(Configured):
    """`EndpointFactory(identity="basic", username="batch", password="…")`; https and anonymous by default."""

    class Meta:
        model = Endpoint

    name = factory.Sequence(lambda n: f"endpoint-{n}")
    url = "https://inside.example:8445/orders"

    @classmethod
    def build_row(cls, model_class: type, password: str = "", **kwargs: Any) -> Any:
        row = model_class(**kwargs)
        row.set_password(password)
        return row


class APIFactory(Configured):
    class Meta:
        model = API

    name = factory.Sequence(lambda n: f"api-{n}")
    node = factory.SubFactory(NodeFactory)
    path = factory.Sequence(lambda n: f"/gateway/{n}")
    endpoint = factory.SubFactory(EndpointFactory)


class OperatorFactory(DjangoModelFactory):
    """`OperatorFactory(role="viewer")`; the password is `OPERATOR_PASSWORD`."""

    class Meta:
        model = Operator

    username = factory.Sequence(lambda n: f"operator{n}")
    role = Role.OWNER

    @classmethod
    def _create(cls, model_class: type, *args: Any, **kwargs: Any) -> Operator:
        return Operator.objects.create_operator(kwargs.pop("username"), OPERATOR_PASSWORD, **kwargs)
