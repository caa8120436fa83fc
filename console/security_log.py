"""Who was refused what on the console, a line for each: the log `postern.security`.

Wrong proofs are in `postern.login`, what was done in the audit log. Nothing that was sent is in a line but the path,
and that with its line ends escaped.
"""

import logging

from django.http import HttpRequest
from django.utils.encoding import escape_uri_path

log = logging.getLogger("postern.security")
_PATH = 300  # characters of it


def refused(request: HttpRequest, who: str, why: str) -> None:
    path = escape_uri_path(request.path)[:_PATH]
    log.warning("refused %s from %s: %s %s: %s", who, request.META.get("REMOTE_ADDR", ""), request.method, path, why)
