"""Several server certificates at one port: which one a name chooses, and which hosts a connection may speak of.

A name chooses what is shown and nothing else: whom the port trusts, and whether it asks for a certificate, is the
port's. Where one certificate is all there is, every Host is taken, as without TLS.
"""

from collections.abc import Sequence

from gateway.core.snapshot import Keystore


def plain(name: str) -> str:
    """A host name as it is compared: without the port, brackets and final dot, in lower case."""
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    return name.removesuffix(".").lower()


class ServerNames:
    """The keystores of one port: the first is shown where no name chooses another."""

    def __init__(self, keystores: Sequence[Keystore]) -> None:
        self.default = keystores[0]
        self._by_name: dict[str, Keystore] = {}
        for keystore in keystores:
            for name in keystore.certificate.host_names:
                self._by_name.setdefault(name, keystore)

    def choose(self, name: str | None) -> Keystore:
        """The keystore for the name that a client asks for; a name in full beats one with `*`."""
        return self._find(plain(name)) if name else self.default

    def _find(self, host: str) -> Keystore:
        wildcard = f"*.{host.partition('.')[2]}"
        return self._by_name.get(host) or self._by_name.get(wildcard) or self.default

    def admits(self, asked: str | None, host: str) -> bool:
        """Whether a connection that was asked for by the name `asked` may speak of `host` (RFC 9110, section 7.4).

        It may speak of what its certificate covers, and of the name itself. One that asked for no name was shown the
        default, and may speak of all that no other certificate is there for.
        """
        wanted = plain(host)
        if not asked:
            return self._find(wanted) is self.default
        if wanted == plain(asked):
            return True
        covered = self.choose(asked).certificate.host_names
        return wanted in covered or f"*.{wanted.partition('.')[2]}" in covered
