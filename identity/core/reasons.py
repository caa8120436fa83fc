"""Why an identity was refused, as codes. A code is interface: added, never renamed. No HTTP here."""

from enum import StrEnum


class IdentityReason(StrEnum):
    AUTHENTICATION_REQUIRED = "authentication_required"
    INVALID_CREDENTIALS = "invalid_credentials"
    CERTIFICATE_REQUIRED = "certificate_required"
    CERTIFICATE_UNTRUSTED = "certificate_untrusted"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_REVOKED = "certificate_revoked"
    REVOCATION_UNKNOWN = "revocation_unknown"
    CERTIFICATE_UNMAPPED = "certificate_unmapped"
    MAPPING_AMBIGUOUS = "mapping_ambiguous"
    USER_DISABLED = "user_disabled"
    ACL_DENIED = "acl_denied"
    ASSERTION_INVALID = "assertion_invalid"
    ASSERTION_NOT_PERMITTED = "assertion_not_permitted"
