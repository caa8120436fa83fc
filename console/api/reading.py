"""A request → values: the body as JSON, the query as declared. What is ambiguous or unknown is refused."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, UnreadablePostError

from console.api.problems import Refused, malformed

MAX_DEPTH = 20  # of nesting, as in a file
MAX_MESSAGE = 500  # characters of what a change is for
MESSAGE = "Change-Message"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Query:
    """One parameter of an address's query. `schema`: a boolean, an integer with its bounds, a text or one of some."""

    name: str
    schema: dict[str, Any]
    words: str
    required: bool = False

    def read(self, text: str) -> Any:
        """Raises Refused."""
        match self.schema:
            case {"type": "boolean"}:
                if text in ("true", "false"):
                    return text == "true"
                self._refuse("is true or false")
            case {"type": "integer", "minimum": least, "maximum": most}:
                if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most:
                    return int(text)
                self._refuse(f"is a whole number, {least} to {most}")
            case {"enum": known}:
                if text in known:
                    return text
                self._refuse(f"is one of {', '.join(known)}")
            case {"maxLength": most}:
                if len(text) <= most and "\0" not in text:
                    return text
                self._refuse(f"has {most} characters at most, and no NUL")
        raise AssertionError(self.schema)

    def _refuse(self, text: str) -> NoReturn:
        raise malformed(f"The parameter {self.name} {text}.", self.name)


def query_of(request: HttpRequest, known: Iterable[Query]) -> dict[str, Any]:
    """What the address says. A parameter that is misspelt would be one that is missing: `dryrun=true` is refused."""
    by_name = {each.name: each for each in known}
    found = {}
    for name, values in request.GET.lists():
        if name not in by_name:
            listed = ", ".join(by_name) or "none"
            raise malformed(f"There is no such parameter here; known are: {listed}.", name[:100])
        if len(values) > 1:
            raise malformed(f"The parameter {name} is given twice.", name)
        found[name] = by_name[name].read(values[0])
    for each in by_name.values():
        if each.required and each.name not in found:
            raise malformed(f"The parameter {each.name} is missing.", each.name)
    return found


def check_type(request: HttpRequest, taken: tuple[str, ...]) -> None:
    """Raises Refused unless the body says that it is one of these."""
    if request.content_type not in taken:
        words = f"The body has to be {' or '.join(taken)}."
        raise Refused(415, "unsupported_media_type", words, headers={"Accept": ", ".join(taken)})


def body_of(request: HttpRequest) -> dict[str, Any]:
    """The object in the body. Raises Refused."""
    try:
        text = request.body.decode()
    except RequestDataTooBig as error:
        raise Refused(413, "too_large", "The body is larger than is taken; send it in parts.") from error
    except UnreadablePostError as error:
        raise malformed("The body broke off.") from error
    except UnicodeDecodeError as error:
        raise malformed("The body is no text in UTF-8.") from error
    try:
        content = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise malformed(f"The body is not JSON: line {error.lineno}, column {error.colno}: {error.msg}.") from error
    except (ValueError, RecursionError) as error:
        raise malformed("The body holds what cannot be read: a key twice, a number too long, or too deep.") from error
    if not isinstance(content, dict):
        raise malformed("The body has to be an object.")
    _check(content)
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _check(content: Any) -> None:
    """No text that a database could not hold, and no nesting that whoever reads on could not bear."""
    level, depth = [content], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise malformed("The body is nested too deeply.")
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below += [*each, *each.values()]
            elif isinstance(each, list):
                below += each
            elif isinstance(each, str) and ("\0" in each or any("\ud800" <= c <= "\udfff" for c in each)):
                raise malformed("The body holds a NUL, or half a character.")
        level = below


def message_of(request: HttpRequest) -> str:
    """What the change is for; "" where nobody says. Header bytes are read as UTF-8."""
    raw = request.headers.get(MESSAGE, "")
    try:
        text = raw.encode("latin-1").decode()
    except (UnicodeEncodeError, UnicodeDecodeError) as error:
        raise malformed(f"{MESSAGE} is no text in UTF-8.", MESSAGE) from error
    if len(text) > MAX_MESSAGE or not (text.isprintable() or not text):
        raise malformed(f"{MESSAGE} has at most {MAX_MESSAGE} printable characters.", MESSAGE)
    return text.strip()
