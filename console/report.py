"""What came of a request, as a page tells it: one line of identity, the refusal with its remedy, the trace.

Of a test invoke, whose answer is at hand, and of a request that a node told of.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from django.db.models import Model
from django.urls import reverse
from django.utils.translation import gettext, gettext_lazy

from console.invocation import Invocation
from console.kept import ShownCertificate
from console.nouns import TITLES, label_of, url_of
from console.suggestions import link, to_admit
from gateway.core.reasons import BY_CODE, REASONS, ReasonInfo
from gateway.models import API, Endpoint, EndpointIdentity, Port, Registration, Service
from identity.core.reasons import IdentityReason
from identity.models import ACL, Certificate, User
from identity.models.users import DEFAULT

LANE_ENDS = {
    "execute": gettext_lazy("executed"),
    "call": gettext_lazy("called its endpoint"),
    "refuse": gettext_lazy("refused"),
}


@dataclass(frozen=True, slots=True)
class Word:
    """One word of the line of identity. `kind`: credential, arrow or who."""

    kind: str
    text: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Lane:
    """One node's part. `tunnel`: how the request came here from the node before, in words; "" at the first."""

    node: str
    port: str
    port_url: str | None
    route: str
    route_url: str | None
    end: str
    tunnel: str
    steps: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Where it ended and why.

    Attributes:
        found, against: what the check looked at, and what it compared it with.
        told: what the caller is told in its place, where that is another reason.
        changes: (label, URL) of what could be changed so that it does not end there.
    """

    headline: str
    found: str
    against: str
    info: ReasonInfo | None
    told: ReasonInfo | None
    changes: list[tuple[str, str]]
    translated: bool = False  # whether `found` is in the reader's language, and not in the node's own words


@dataclass(frozen=True, slots=True)
class Report:
    status: int
    reason: str | None
    identity: list[Word]
    refusal: Refusal | None
    lanes: list[Lane]
    beyond: str  # where it went after the last lane, when that is no node of ours


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request came from.

    Attributes:
        words: the credential as the first word of what happened.
        sha256: of the certificate, where there was one.
        username: that was given with a password.
        path: of the request, without its query.
        method: of the request.
        address: the caller's.
    """

    words: str
    sha256: str = ""
    username: str = ""
    path: str = ""
    method: str = ""
    address: str = ""

    @classmethod
    def of(cls, invocation: Invocation) -> "Caller":
        chain = invocation.chain
        sha256 = hashlib.sha256(chain[0]).hexdigest() if chain else ""
        path = invocation.target.partition("?")[0]
        return cls(invocation.caller, sha256, invocation.username, path, invocation.method)


def report(invocation: Invocation, answer: dict[str, Any]) -> Report:
    """Of an answer of `invocation.send` or `invocation.simulated`."""
    return report_of(Caller.of(invocation), answer)


def report_of(caller: Caller, answer: dict[str, Any]) -> Report:
    """`answer`: `status`, `reason` and `lanes` as a node tells them."""
    lanes: list[dict[str, Any]] = answer["lanes"]
    routes = [_route(lane) for lane in lanes]
    return Report(
        status=answer["status"],
        reason=answer.get("reason"),
        identity=_identity(caller, lanes, routes),
        refusal=_refusal(caller, answer, lanes, routes),
        lanes=[_lane(number, lanes, routes) for number in range(len(lanes))],
        beyond=_beyond(lanes, routes),
    )


def _route(lane: dict[str, Any]) -> Service | API | None:
    """The row that a lane's `route` means (`service NAME`, `API NAME`); None where there is none, or no longer."""
    kind, _, name = lane["route"].partition(" ")
    model = {"service": Service, "API": API}.get(kind)
    if model is None:
        return None
    related = ("execute_acl", "endpoint__keystore", "endpoint__registration_port") if model is API else ("execute_acl",)
    row: Service | API | None = model._default_manager.select_related(*related).filter(name=name).first()
    return row


def _identity(caller: Caller, lanes: list[dict[str, Any]], routes: list[Service | API | None]) -> list[Word]:
    words = [Word("credential", caller.words)]
    for number, (lane, route) in enumerate(zip(lanes, routes, strict=True)):
        words.append(Word("arrow", f"{lane['node']} →"))
        if lane["user"]:
            words.append(Word("who", lane["user"], _url_of_user(lane["user"])))
        elif lane["outcome"] == "pass":
            words.append(Word("arrow", gettext("hands it on,")))
        else:
            words.append(Word("arrow", gettext("nobody")))
        last = number == len(lanes) - 1
        if isinstance(route, API) and (not last or lane["outcome"] == "call"):
            words += _shown_by(route.endpoint)
    return words


def _shown_by(endpoint: Endpoint) -> list[Word]:
    match endpoint.effective_identity:
        case EndpointIdentity.CERTIFICATE if endpoint.keystore:
            return [Word("arrow", gettext("endpoint shows")), Word("credential", endpoint.keystore.subject)]
        case EndpointIdentity.BASIC:
            user = gettext("user {user}").format(user=endpoint.username)
            return [Word("arrow", gettext("endpoint gives")), Word("credential", user)]
        case EndpointIdentity.CALLER:
            return [Word("arrow", gettext("endpoint hands the caller on,"))]
    return [Word("arrow", gettext("endpoint shows nothing,"))]


def _url_of_user(name: str) -> str | None:
    row = User.objects.filter(name=name).first()
    return url_of(row) if row else None


def _lane(number: int, lanes: list[dict[str, Any]], routes: list[Service | API | None]) -> Lane:
    lane, route = lanes[number], routes[number]
    port = Port.objects.filter(name=lane["port"]).first()
    return Lane(
        node=lane["node"],
        port=lane["port"],
        port_url=url_of(port) if port else None,
        route=lane["route"],
        route_url=url_of(route) if route else None,
        end=str(LANE_ENDS.get(lane["outcome"], "")),
        tunnel=_tunnel(lanes[number - 1], routes[number - 1], lane) if number else "",
        steps=lane["steps"],
    )


def _tunnel(before: dict[str, Any], route: Service | API | None, lane: dict[str, Any]) -> str:
    """How a request came from one node to the next, and as whom."""
    if isinstance(route, API) and route.endpoint.registration_port:
        return _through_endpoint(route.endpoint, before["credential"], lane["node"])
    port = Port.objects.select_related("registration_port").filter(name=before["port"]).first()
    way = f"{port.registration_port} → {lane['node']}" if port and port.registration_port else f"→ {lane['node']}"
    match before["credential"]:
        case "certificate":
            words = gettext("Tunnel {way}: passed through with the caller's own certificate.")
        case "basic":
            words = gettext("Tunnel {way}: passed through with the caller's own user and password.")
        case _:
            words = gettext("Tunnel {way}: passed through with the caller's request and no credential.")
    return words.format(way=way)


def _through_endpoint(endpoint: Endpoint, credential: str, node: str) -> str:
    """`credential`: the caller's, as the node before knows it."""
    match endpoint.effective_identity, credential:
        case EndpointIdentity.CERTIFICATE, _:
            words = gettext(
                "Tunnel {way}: endpoint {endpoint} shows the certificate of keystore {keystore}, signed with its key."
            )
        case EndpointIdentity.BASIC, _:
            words = gettext("Tunnel {way}: endpoint {endpoint} gives user {user} and the password.")
        case EndpointIdentity.CALLER, "certificate":
            words = gettext("Tunnel {way}: endpoint {endpoint} hands the caller's own certificate on.")
        case EndpointIdentity.CALLER, "basic":
            words = gettext("Tunnel {way}: endpoint {endpoint} hands the caller's own user and password on.")
        case EndpointIdentity.CALLER, _:
            words = gettext("Tunnel {way}: endpoint {endpoint} hands the caller's request and no credential on.")
        case _:
            words = gettext("Tunnel {way}: endpoint {endpoint} shows nothing of who called.")
    return words.format(
        way=f"{endpoint.registration_port} → {node}",
        endpoint=endpoint,
        keystore=endpoint.keystore,
        user=endpoint.username,
    )


def _beyond(lanes: list[dict[str, Any]], routes: list[Service | API | None]) -> str:
    if not lanes or not isinstance(routes[-1], API) or lanes[-1]["outcome"] != "call":
        return ""
    endpoint = routes[-1].endpoint
    words = gettext("Endpoint {endpoint}: {url}. What is decided there is not shown here.")
    return words.format(endpoint=endpoint, url=endpoint.url)


# --- the refusal --------------------------------------------------------------------------------------------


def _refusal(
    caller: Caller, answer: dict[str, Any], lanes: list[dict[str, Any]], routes: list[Service | API | None]
) -> Refusal | None:
    """The innermost one: it is the cause of those before it."""
    told = _info(answer.get("reason"))
    for number in range(len(lanes) - 1, -1, -1):
        lane = lanes[number]
        if not lane["reason"]:
            continue
        step = next((each for each in reversed(lane["steps"]) if not each["passed"]), None)
        before = routes[number - 1] if number else None
        return Refusal(
            headline=_headline(lane, step),
            found=_said(lane["reason"], step["found"] if step else ""),
            against=step["against"] if step else "",
            info=_info(lane["reason"]),
            told=told if answer.get("reason") != lane["reason"] else None,
            changes=_changes(lane["reason"], lane, routes[number], before, caller),
            translated=_says_nothing(lane["reason"], step["found"] if step else ""),
        )
    if told is None:
        return None
    lane_of_all, route = (lanes[-1], routes[-1]) if lanes else (None, None)
    changes = _changes(answer["reason"], lane_of_all, route, None, caller)
    return Refusal(gettext(told.title), gettext(told.words).rstrip("."), "", told, None, changes, translated=True)


def _headline(lane: dict[str, Any], step: dict[str, Any] | None) -> str:
    """What comes of a request after it was admitted is no refusal."""
    info = _info(lane["reason"])
    if step and step["check"] == "execution" and info:
        words = gettext("{node} admitted it and could not finish: {what}")
        return words.format(node=lane["node"], what=gettext(info.title))
    if step:
        words = gettext("{node} refused at the check “{check}”")
        return words.format(node=lane["node"], check=gettext(step["check"]))
    return gettext("{node} refused").format(node=lane["node"])


def _info(code: str | None) -> ReasonInfo | None:
    reason = BY_CODE.get(code or "")
    return REASONS[reason] if reason else None


def _said(code: str, found: str) -> str:
    """Some steps find nothing but the code itself; its words say more."""
    info = _info(code)
    return gettext(info.words).rstrip(".") if info and _says_nothing(code, found) else found


def _says_nothing(code: str, found: str) -> bool:
    return found in ("", code)


def _changes(
    code: str,
    lane: dict[str, Any] | None,
    route: Service | API | None,
    before: Service | API | None,
    caller: Caller,
) -> list[tuple[str, str]]:
    """Where to go to change what refused: the objects that the check looked at.

    Args:
        before: what stood at the path on the node before; an API's endpoint may have given the identity.
    """
    port = _port(lane["port"]) if lane else None
    user = User.objects.filter(name=lane["user"]).first() if lane and lane["user"] else None
    rows: list[Model | None] = []
    links: list[tuple[str, str]] = []
    first: list[tuple[str, str]] = []  # what would let it through, filled in
    match code:
        case "certificate_unmapped" | "certificate_revoked" | "certificate_expired":
            certificate = _certificate(before, caller)
            rows = [certificate]
            links = [] if certificate else [_to_map(before, caller)]
        case "mapping_ambiguous":
            links = [(gettext("Open the mapping rules"), reverse("mapping_rules-list"))]
        case "user_disabled" | "invalid_credentials":
            rows = [user or User.objects.filter(name=caller.username).first()]
            first = [
                link(gettext("Enable user {user}").format(user=row), row, enable="1")
                for row in rows
                if row and not row.enabled
            ]
        case "acl_denied" | "authentication_required":
            rows = [_acl(route), route, user if user and user.name != DEFAULT else None]
            first = to_admit(_acl(route), user)
        case "service_not_on_port" | "ip_denied" | "certificate_required" | "overloaded":
            rows = [port]
            first = _to_show(code, port, caller)
        case "certificate_untrusted" | "revocation_unknown":
            store = _truststore(port)
            rows = [store, port]
            if code == "certificate_untrusted" and store and caller.sha256:
                first = [
                    link(
                        gettext("Trust its authority in {truststore}").format(truststore=store),
                        store,
                        trust=caller.sha256,
                    )
                ]
        case "not_on_channel" | "assertion_not_permitted" | "assertion_invalid" | "no_internal_connection":
            channels = _registrations(port, route)
            rows = list(channels)
            if code == "not_on_channel" and caller.path:
                first = [
                    link(
                        gettext("Let {registration} carry {path}").format(registration=each, path=caller.path),
                        each,
                        carry=caller.path,
                    )
                    for each in channels
                ]
        case "not_found" | "method_not_allowed":
            rows = [route]
            links = [] if route else [(str(TITLES[kind]), reverse(f"{kind}-list")) for kind in ("services", "apis")]
            if code == "method_not_allowed" and route and caller.method:
                first = [
                    link(
                        gettext("Allow {method} at {route}").format(method=caller.method, route=route),
                        route,
                        method=caller.method,
                    )
                ]
        case "endpoint_refused" | "tunnel_lost":
            rows = [route.endpoint if isinstance(route, API) else None]
        case "backend_unreachable" | "backend_protocol_error" | "backend_timeout":
            rows = [route.endpoint if isinstance(route, API) else route]
    if isinstance(before, API) and isinstance(BY_CODE.get(code), IdentityReason):
        rows.append(before.endpoint)
    found = [
        (gettext("Open {object}").format(object=label_of(row)), url) for row in rows if row and (url := url_of(row))
    ]
    return [*first, *dict.fromkeys(found), *links]


def _to_show(code: str, port: Port | None, caller: Caller) -> list[tuple[str, str]]:
    if port is None:
        return []
    if code == "service_not_on_port" and caller.path:
        return [link(gettext("Show {path} at port {port}").format(path=caller.path, port=port), port, show=caller.path)]
    if code == "ip_denied" and caller.address:
        return [
            link(
                gettext("Let {address} call port {port}").format(address=caller.address, port=port),
                port,
                admit=caller.address,
            )
        ]
    return []


def _port(name: str) -> Port | None:
    return Port.objects.select_related("tls_truststore", "client_truststore").filter(name=name).first()


def _truststore(port: Port | None) -> Model | None:
    if port is None:
        return None
    return port.client_truststore if port.type == "internal" else port.tls_truststore


def _acl(route: Service | API | None) -> ACL | None:
    if route is None:
        return None
    return route.execute_acl or ACL.objects.filter(name="Default").first()


def _certificate(before: Service | API | None, caller: Caller) -> Certificate | None:
    """The one on file that was looked at: the endpoint's where one gave the identity, else the caller's."""
    if isinstance(before, API) and before.endpoint.effective_identity == EndpointIdentity.CERTIFICATE:
        return Certificate.objects.speaking_for(before.endpoint.keystore.sha256 if before.endpoint.keystore else "")
    return Certificate.objects.speaking_for(caller.sha256) if caller.sha256 else None


def _to_map(before: Service | API | None, caller: Caller) -> tuple[str, str]:
    """Where what was looked at is put on file: what the caller showed is there already, and needs no file."""
    place = reverse("certificates-add")
    own = not (isinstance(before, API) and before.endpoint.effective_identity == EndpointIdentity.CERTIFICATE)
    if own and caller.sha256 and ShownCertificate.objects.filter(pk=caller.sha256).exists():
        return gettext("Look at the certificate, and map it"), f"{place}?shown={caller.sha256}"
    return gettext("Upload the certificate"), place


def _registrations(port: Port | None, route: Service | API | None) -> list[Registration]:
    """Those that a request could have come or gone through."""
    if port is None:
        return []
    rows = Registration.objects.order_by("name")
    if port.type == "internal":
        return list(rows.filter(dials__port=port).distinct()[:3])
    beyond = route.endpoint.registration_port if isinstance(route, API) else port.registration_port
    return list(rows.filter(port=beyond)[:3]) if beyond else []
