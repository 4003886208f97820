"""What an operation of `/api` is. The routes, the checks of a request and the OpenAPI document are made from it."""

import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct
from starlette.datastructures import QueryParams

from callbacks.ops.api import problems
from shared.setting_values import OperatorToken, Role
from workers.handlers.number_mask import mask_number

# Of the name of an unknown parameter.
_SHOWN_CHARACTERS = 40

Method: TypeAlias = Literal["GET", "POST"]


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """An operation without parameters."""


class AnyQuery(Struct, frozen=True):
    """Parameters that are not checked, of an operation that is always refused."""


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
    if query is AnyQuery:
        return AnyQuery()
    types_of = typing.get_type_hints(query)
    values: dict[str, Any] = {}
    for name, value in given.multi_items():
        if name not in types_of:
            known = ", ".join(types_of) or "none"
            shown = mask_number(name)[:_SHOWN_CHARACTERS]
            raise problems.bad_parameter(f"{shown!r} is not a parameter here; use: {known}.")
        if _is_list(types_of[name]):
            values.setdefault(name, []).append(value)
        elif name in values:
            raise problems.bad_parameter(f"{name} must not be repeated.")
        else:
            values[name] = value
    try:
        return msgspec.convert(values, query, strict=False)
    except msgspec.ValidationError as exc:
        raise problems.bad_parameter(_what_is_wrong(str(exc), query)) from None


def _is_list(kind: Any) -> bool:
    return typing.get_origin(kind) is list


def _what_is_wrong(error: str, query: type[Struct]) -> str:
    """Return what a parameter must be, for msgspec's error, which ends with the parameter's path: at `$.limit`.

    The error may quote the value, which may be a phone number in the wrong parameter.
    """
    what, _, path = error.rpartition(" - at `$.")
    name = path.rstrip("`").partition("[")[0]
    hint = typing.get_type_hints(query, include_extras=True)[name]
    for limit in typing.get_args(hint)[1:]:
        if isinstance(limit, msgspec.Meta) and limit.ge is not None and limit.le is not None:
            return f"{name} must be from {limit.ge} to {limit.le}."
    if allowed := list(_allowed_values(hint)):
        return f"{name} must be {' or '.join(allowed)}."
    return f"{name}: {what}."


def _allowed_values(hint: Any) -> Iterator[str]:
    """Yield the values of the Literal within a type."""
    if typing.get_origin(hint) is Literal:
        yield from map(str, typing.get_args(hint))
    else:
        for part in typing.get_args(hint):
            yield from _allowed_values(part)
