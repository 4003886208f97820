"""What an operation of `/api` is. The routes, the checks of a request and the OpenAPI document are made from it."""

import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct
from starlette.datastructures import QueryParams

from callbacks.ops.api import problems
from shared.setting_values import OperatorToken, Role

Method: TypeAlias = Literal["GET", "POST"]


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """An operation without parameters."""


class Call(Struct, frozen=True):
    """One request: whose it is, its parameters, checked, and the values in its path."""

    token: OperatorToken
    query: Any
    path: Mapping[str, str]


class Operation(Struct, frozen=True, kw_only=True):
    """One operation. `call` runs in a thread, and returns what is encoded as JSON; it raises ApiProblem.

    `path` may end in `{name:path}`, which takes slashes too. `results` are the types by which the
    answer is documented, `problems` the statuses of problems that it can have besides those that all have.
    """

    name: str
    method: Method = "GET"
    path: str
    summary: str
    call: Callable[[Call], Any]
    query: type[Struct] = NoQuery
    results: Sequence[Any]
    role: Role = "read"
    problems: Sequence[int] = ()


def parse_query(query: type[Struct], given: QueryParams) -> Any:
    """Return the parameters of a query. Raise ApiProblem for one that is unknown, repeated or wrong."""
    types_of = typing.get_type_hints(query)
    values: dict[str, Any] = {}
    for name, value in given.multi_items():
        if name not in types_of:
            known = ", ".join(types_of) or "none"
            raise problems.bad_parameter(f"There is no such parameter. Known here: {known}.")
        if _is_list(types_of[name]):
            values.setdefault(name, []).append(value)
        elif name in values:
            raise problems.bad_parameter(f"{name} must not be repeated.")
        else:
            values[name] = value
    try:
        return msgspec.convert(values, query, strict=False)
    except msgspec.ValidationError as exc:
        raise problems.bad_parameter(f"{exc}.") from None


def _is_list(kind: Any) -> bool:
    return typing.get_origin(kind) is list
