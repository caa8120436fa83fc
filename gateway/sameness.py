"""Whether the document that a node has in force is the one that would be compiled for it now, told by a mark.

A courier that has begun anew, or that another one was quicker than, knows what a node has by nothing but what the
node tells. The mark is made here, kept by the node beside the document, and given back: it stands for the history of
the configuration up to the document's revision, which is what its users, certificates and rules come of; for all the
rest of the document, which hangs on settings too; and for the code that made it. A node reads nothing in it.
"""

import functools
import hashlib
import inspect
import json

from gateway import compile as compiling
from gateway.core import narrowing
from gateway.core.difference import Document
from gateway.models import Link

_OF_ALL = ("users", "certificates", "mapping_rules", "blocked")  # what rows alone say, of which there may be 100,000


def mark(document: Document) -> str:
    """64 hexadecimal digits; "" where the history does not say. Raises DatabaseError."""
    link = Link.objects.filter(change_set_id=document["revision"]).first()
    if link is None:
        return ""
    rest = {name: section for name, section in document.items() if name not in _OF_ALL}
    told = json.dumps([link.hash, _code(), rest], separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


@functools.cache
def _code() -> str:
    """Another version of us may make another document of the same rows."""
    return hashlib.sha256("".join(map(inspect.getsource, (compiling, narrowing))).encode()).hexdigest()
