"""WHO, as rows: one noun a module."""

from identity.models.acls import ACL
from identity.models.certificates import Certificate, Usage
from identity.models.groups import Group
from identity.models.keystores import Keystore
from identity.models.mappings import MappingRule, UserFrom
from identity.models.truststores import (
    Revocation,
    RevocationFetch,
    RevocationList,
    RevocationSource,
    TrustedCertificate,
    Truststore,
)
from identity.models.users import User

__all__ = [
    "ACL",
    "Certificate",
    "Group",
    "Keystore",
    "MappingRule",
    "Revocation",
    "RevocationFetch",
    "RevocationList",
    "RevocationSource",
    "TrustedCertificate",
    "Truststore",
    "Usage",
    "User",
    "UserFrom",
]
