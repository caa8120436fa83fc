"""What was sent against the schema that its operation declares: what the document says, and nothing besides, is taken.

Of JSON Schema no more than operations use. Whether it can be done is asked of forms and models afterwards.
"""

from typing import Any

from console.api.problems import malformed

Schema = dict[str, Any]
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "boolean": (bool,), "integer": (int,), "array": (list,), "object": (dict,), "null": (type(None),),
}  # fmt: skip
_WORDS = {
    "string": "a text", "boolean": "true or false", "integer": "a whole number", "array": "a list",
    "object": "an object", "null": "null",
}  # fmt: skip


def check(content: Any, schema: Schema, field: str = "") -> None:
    """Raises Refused, which names the field."""
    if problem := _problem(content, schema, field):
        where, words = problem
        raise malformed(f"{where or 'The body'} {words}.", where)


def _problem(content: Any, schema: Schema, field: str) -> tuple[str, str] | None:
    """The first field that is wrong, and what would be right."""
    if several := schema.get("anyOf"):
        found = [_problem(content, each, field) for each in several]
        return None if None in found else found[0]
    kind = schema.get("type", "string")
    if kind == "integer" and isinstance(content, float) and content.is_integer():
        content = int(content)  # 7.0 is a whole number in JSON
    if not isinstance(content, _TYPES[kind]) or (kind == "integer" and isinstance(content, bool)):
        return field, f"has to be {_WORDS[kind]}"
    if known := schema.get("enum"):
        return None if content in known else (field, f"is one of {', '.join(known)}")
    match kind:
        case "string":
            return _of_text(content, schema, field)
        case "integer":
            least, most = schema.get("minimum", 0), schema["maximum"]
            return None if least <= content <= most else (field, f"is {least} to {most}")
        case "array":
            return _of_list(content, schema, field)
        case "object":
            return _of_object(content, schema, field)
    return None


def _of_text(content: str, schema: Schema, field: str) -> tuple[str, str] | None:
    if len(content) > schema.get("maxLength", len(content)):
        return field, f"has {schema['maxLength']} characters at most"
    return (field, "is empty") if len(content) < schema.get("minLength", 0) else None


def _of_list(content: list[Any], schema: Schema, field: str) -> tuple[str, str] | None:
    if not schema.get("minItems", 0) <= len(content) <= schema.get("maxItems", len(content)):
        return field, f"holds {schema.get('minItems', 0)} to {schema.get('maxItems', 'many')}"
    return next((found for each in content if (found := _problem(each, schema["items"], field))), None)


def _of_object(content: dict[str, Any], schema: Schema, field: str) -> tuple[str, str] | None:
    known = schema["properties"]
    below = f"{field}." if field else ""
    for name in content:
        if name not in known:
            listed = ", ".join(known)
            return f"{below}{name[:100]}", f"is no field here; known are: {listed}"
    for name in schema.get("required", ()):
        if name not in content:
            return f"{below}{name}", "is missing"
    return next(
        (found for name, each in content.items() if (found := _problem(each, known[name], f"{below}{name}"))), None
    )
