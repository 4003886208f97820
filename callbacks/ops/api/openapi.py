"""The OpenAPI document (3.1) of `/api`, made from the table of operations and the types that they read and return."""

import re
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any, Final

import msgspec

from callbacks.distribution import DISTRIBUTION
from callbacks.ops.api.operations import Operation
from callbacks.ops.api.problems import MEDIA_TYPE, ApiProblemDocument

_PROBLEMS: Final = {
    400: "A parameter is unknown, repeated or wrong.",
    401: "There is no token, or an unknown one.",
    403: "The token's role does not allow this.",
    404: "There is no such thing.",
    405: "The path does not have this method; Allow names those that it has.",
    409: "The id names several messages.",
    429: "Too many requests; Retry-After says when to send the next one.",
    503: "Redis or the database cannot be used now.",
}
# Of every operation.
_ALWAYS: Final = (400, 401, 405, 429, 503)


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the document."""
    queries = list(dict.fromkeys(one.query for one in operations))
    results = list(dict.fromkeys(result for one in operations for result in one.results))
    named: list[Any] = [ApiProblemDocument, *results, *queries]
    (problem, *schemas), components = msgspec.json.schema_components(named, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(results, schemas, strict=False))
    query_of = {query: components.pop(query.__name__) for query in queries}
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        answers = [schema_of[result] for result in one.results]
        result = answers[0] if len(answers) == 1 else {"anyOf": answers}
        item = paths.setdefault(one.path.replace(":path}", "}"), {})
        item[one.method.lower()] = _operation(one, result, query_of[one.query], problem)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Callbacks for operators",
            "version": metadata.version(DISTRIBUTION),
            "description": "What the operators' page shows, for programs. Phone numbers are masked unless asked for.",
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of CALLBACKS_OPS_TOKENS. Its role is read or act.",
                }
            },
        },
    }


def _operation(
    one: Operation, result: dict[str, Any], query: dict[str, Any], problem: dict[str, Any]
) -> dict[str, Any]:
    statuses = sorted({*_ALWAYS, *one.problems, *((403,) if one.role == "act" else ())})
    return {
        "operationId": one.name,
        "summary": one.summary,
        "description": f"Needs a token with the role {'act' if one.role == 'act' else 'read or act'}.",
        "parameters": [*_path_parameters(one.path), *_query_parameters(query)],
        "responses": {
            "200": {"description": "The answer.", "content": {"application/json": {"schema": result}}},
            **{str(status): _problem(status, problem) for status in statuses},
        },
    }


def _path_parameters(path: str) -> Iterable[dict[str, Any]]:
    for name in re.findall(r"\{(\w+)", path):
        schema = {"type": "string", "minLength": 1, "maxLength": 300}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(query: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for name, schema in query.get("properties", {}).items():
        yield {"name": name, "in": "query", "required": name in query.get("required", ()), "schema": _present(schema)}


def _present(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter that is there: one that is left out is not null."""
    choices = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(choices) == len(schema.get("anyOf", ())):
        return schema
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    return rest | (choices[0] if len(choices) == 1 else {"anyOf": choices})


def _problem(status: int, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": _PROBLEMS[status], "content": {MEDIA_TYPE: {"schema": schema}}}
