"""The settings: what each variable means, the error of a wrong value, and that no secret is shown."""

import dataclasses
import ipaddress
from typing import Any

import pytest

from shared import settings
from shared.errors import ConfigurationError
from shared.setting_values import ANY_NETWORK, Token
from shared.settings import Settings

SECRET = "s3cret-s3cret-s3cret"
FROM_FILE = (
    *("REDIS_URL", "CALLBACKS_CELLS", "CALLBACKS_TOKENS", "DATABASE_URL", "CALLBACKS_OPS_PASSWORD"),
    *("CALLBACKS_OPS_READ_PASSWORD", "CALLBACKS_OPS_TOKENS", "CALLBACKS_NOTIFY", "CALLBACKS_NOTIFY_SECRET"),
    "CALLBACKS_FORGET_SECRET",
)


def problems(environ: dict[str, str], *needs: settings.Variable) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as error:
        settings.load(environ, needs=needs)
    return error.value.problems


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    read = settings.load({})
    assert (read.port, read.host, read.web_concurrency) == (8080, "127.0.0.1", 1)
    assert read.redis_url == ""
    assert read.tokens == ()
    assert read.allowed_ips == (ipaddress.ip_network("80.252.167.60/32"),)
    assert read.trusted_proxies == ()
    assert read.max_body_bytes == 4 * 1024 * 1024
    assert read.durability == "fsync"
    assert read.dedupe_seconds == 24 * 3600
    assert read.handlers == ("log",)
    assert read.spool_dir == "./var/spool"


@pytest.mark.parametrize(
    ("variable", "given", "field", "value"),
    [
        ("PORT", "80", "port", 80),
        ("PORT", " 80 ", "port", 80),
        ("PORT", "0", "port", 0),
        ("HOST", "::", "host", "::"),
        ("WEB_CONCURRENCY", "4", "web_concurrency", 4),
        ("REDIS_URL", "redis://localhost:6379/0", "redis_url", "redis://localhost:6379/0"),
        ("REDIS_URL", "rediss://:pw@host/1", "redis_url", "rediss://:pw@host/1"),
        ("REDIS_URL", "unix:///run/redis.sock", "redis_url", "unix:///run/redis.sock"),
        ("REDIS_URL", "redis+sentinel://a,b:1/main/0", "redis_url", "redis+sentinel://a,b:1/main/0"),
        ("CALLBACKS_TOKENS", f"old={SECRET}", "tokens", (Token("old", SECRET),)),
        ("CALLBACKS_TOKENS", "a=one-token , a=two-token", "tokens", (Token("a", "one-token"), Token("a", "two-token"))),
        ("CALLBACKS_ALLOWED_IPS", "10.1.2.3/8, ::1",
         "allowed_ips", (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"))),
        ("CALLBACKS_ALLOWED_IPS", "*", "allowed_ips", ANY_NETWORK),
        ("CALLBACKS_TRUSTED_PROXIES", "10.0.0.1", "trusted_proxies", (ipaddress.ip_network("10.0.0.1/32"),)),
        ("CALLBACKS_TRUSTED_PROXIES", "", "trusted_proxies", ()),
        ("CALLBACKS_MAX_BODY_BYTES", "1048576", "max_body_bytes", 1048576),
        ("CALLBACKS_BODY_TIMEOUT_SECONDS", "2.5", "body_timeout_seconds", 2.5),
        ("CALLBACKS_DURABILITY", "memory", "durability", "memory"),
        ("CALLBACKS_DEDUPE_SECONDS", "600", "dedupe_seconds", 600),
        ("CALLBACKS_HANDLERS", "log, shop.refunds,", "handlers", ("log", "shop.refunds")),
        ("CALLBACKS_SPOOL_DIR", "", "spool_dir", ""),
        ("CALLBACKS_SPOOL_DIR", "/var/spool/cb", "spool_dir", "/var/spool/cb"),
        ("CALLBACKS_RUN_DIR", "", "run_dir", ""),
    ],
)  # fmt: skip
def test_a_variable_is_read(variable: str, given: str, field: str, value: Any) -> None:
    assert getattr(settings.load({variable: given}), field) == value


@pytest.mark.parametrize(
    "variable",
    [row.variable for row in settings.table_rows() if row.variable not in ("CALLBACKS_SPOOL_DIR", "CALLBACKS_RUN_DIR")],
)
def test_an_empty_value_is_the_same_as_none(variable: str) -> None:
    assert settings.load({variable: "  "}) == settings.load({})


@pytest.mark.parametrize(
    ("variable", "given"),
    [
        ("PORT", "http"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "٨٠"),
        ("PORT", "8_0"),
        ("WEB_CONCURRENCY", "0"),
        ("WEB_CONCURRENCY", "1.5"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "redis://[::1"),
        ("CALLBACKS_TOKENS", SECRET),
        ("CALLBACKS_TOKENS", f"main={SECRET},"),
        ("CALLBACKS_TOKENS", f"={SECRET}"),
        ("CALLBACKS_TOKENS", f"a name={SECRET}"),
        ("CALLBACKS_TOKENS", "main="),
        ("CALLBACKS_TOKENS", f"main={SECRET}/x"),
        ("CALLBACKS_TOKENS", f"main={SECRET}é"),
        ("CALLBACKS_TOKENS", f"a={SECRET},b={SECRET}"),
        ("CALLBACKS_ALLOWED_IPS", "gateway.fortytwo.com"),
        ("CALLBACKS_ALLOWED_IPS", "80.252.167.600"),
        ("CALLBACKS_ALLOWED_IPS", ","),
        ("CALLBACKS_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("CALLBACKS_MAX_BODY_BYTES", "4M"),
        ("CALLBACKS_MAX_BODY_BYTES", "0"),
        ("CALLBACKS_MAX_BODY_BYTES", str((16 << 20) + 1)),
        ("CALLBACKS_BODY_TIMEOUT_SECONDS", "0"),
        ("CALLBACKS_BODY_TIMEOUT_SECONDS", "nan"),
        ("CALLBACKS_DURABILITY", "always"),
        ("CALLBACKS_DEDUPE_SECONDS", "0"),
        ("CALLBACKS_HANDLERS", "shop/refunds.py"),
        ("CALLBACKS_HANDLERS", ".refunds"),
        ("CALLBACKS_HANDLERS", ","),
    ],
)
def test_a_wrong_value_is_reported_with_the_variables_name_and_without_secrets(variable: str, given: str) -> None:
    (problem,) = problems({variable: given})
    assert problem.startswith(f"{variable}: ")
    assert SECRET not in problem


def test_a_wrong_redis_url_is_not_repeated_as_it_may_hold_a_password() -> None:
    (problem,) = problems({"REDIS_URL": "http://:hunter2@localhost"})
    assert "hunter2" not in problem
    assert "redis://" in problem


def test_what_kubernetes_says_of_a_service_named_like_a_setting_is_not_its_value() -> None:
    links = {"CALLBACKS_OPS_SERVICE_HOST": "10.0.0.8", "CALLBACKS_OPS_PORT": "tcp://10.0.0.8:8090"}
    assert settings.load(links) == settings.load({})


def test_all_mistakes_are_reported_at_once() -> None:
    messages = problems(
        {"PORT": "x", "CALLBACKS_DURABILITY": "y", "CALLBACKS_HANDLERS": "z!"}, "REDIS_URL", "CALLBACKS_TOKENS"
    )
    assert {problem.split()[0].rstrip(":") for problem in messages} == {
        "PORT", "CALLBACKS_DURABILITY", "CALLBACKS_HANDLERS", "REDIS_URL", "CALLBACKS_TOKENS",
    }  # fmt: skip


@pytest.mark.parametrize("variable", ["REDIS_URL", "CALLBACKS_TOKENS"])
def test_what_the_caller_needs_must_be_set(variable: settings.Variable) -> None:
    assert problems({}, variable)[0].startswith(f"{variable} is not set")
    assert problems({variable: " "}, variable)[0].startswith(f"{variable} is not set")


def test_no_secret_is_in_the_repr() -> None:
    read = settings.load(
        {
            "CALLBACKS_TOKENS": f"main={SECRET}",
            "REDIS_URL": "redis://:hunter2@localhost",
        }
    )
    assert read.tokens[0].secret == SECRET
    for shown in (repr(read), str(read), repr(read.tokens), f"{read.tokens[0]}"):
        assert SECRET not in shown
        assert "hunter2" not in shown


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.load({}).port = 1  # type: ignore[misc] # what a module may try


def test_without_a_mapping_the_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBACKS_HANDLERS", "shop")
    assert settings.load().handlers == ("shop",)


def test_the_table_explains_every_setting_once() -> None:
    rows = settings.table_rows()
    assert len(rows) == len({row.variable for row in rows})
    assert len(rows) == len(dataclasses.fields(Settings)) + len(FROM_FILE)
    assert all(row.help for row in rows)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:se/cret@host",
        "redis://h:abc",
        "redis+sentinel://h:x/m",
        "redis+sentinel://h:1/m/x",
        "http://h",
        "redis://",
    ],
)
def test_a_url_that_redis_cannot_use_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        settings.load({"REDIS_URL": url})
    assert str(error.value).startswith("REDIS_URL: must be a URL")
    assert "se/cret" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6380/2",
        "rediss://user:pa%2Fss@h",
        "unix:///run/redis.sock?db=1",
        "redis+sentinel://:pw@h1:26379,[::1]:26380,h3/service/1",
    ],
)
def test_a_url_that_redis_can_use_is_accepted(url: str) -> None:
    assert settings.load({"REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize("password", ["hunter2", "x" * 11, "x" * 257])
def test_a_password_that_is_too_short_or_too_long_is_refused_without_being_quoted(password: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^CALLBACKS_OPS_PASSWORD: must have 12 to 256 characters") as error:
        settings.load({"CALLBACKS_OPS_PASSWORD": password})
    assert password not in str(error.value)


def test_the_tokens_of_operators_have_a_name_and_a_role() -> None:
    read = settings.load({"CALLBACKS_OPS_TOKENS": f"ci:read={SECRET}, ann:act=+/~._-abcdef=="}).ops_tokens
    assert [(token.name, token.role, token.secret) for token in read] == [
        ("ci", "read", SECRET),
        ("ann", "act", "+/~._-abcdef=="),
    ]
    assert SECRET not in repr(read)
    assert SECRET not in repr(settings.load({"CALLBACKS_OPS_TOKENS": f"ci:read={SECRET}"}))


@pytest.mark.parametrize(
    "value",
    [
        *(f"ci={SECRET}", f"ci:write={SECRET}", f":read={SECRET}", f"ci:read:{SECRET}", f"c i:read={SECRET}"),
        *("ci:read=short", f"ci:read={SECRET} {SECRET}", f"ci:read=ü{SECRET}", f"ci:read={SECRET},b:act={SECRET}"),
    ],
)
def test_a_wrong_token_of_operators_is_refused_without_being_quoted(value: str) -> None:
    (problem,) = problems({"CALLBACKS_OPS_TOKENS": value})
    assert problem.startswith("CALLBACKS_OPS_TOKENS: ")
    assert SECRET not in problem


def test_the_password_of_the_page_is_in_no_repr() -> None:
    loaded = settings.load({"CALLBACKS_OPS_PASSWORD": "correct horse battery"})
    assert loaded.ops_password == "correct horse battery"
    assert "horse" not in repr(loaded)


@pytest.mark.parametrize("given", [{"PORT": "http"}, {"DATABASE_URL_FILE": "/nowhere"}, {"CALLBACKS_TOKENS": "/"}])
def test_a_variable_that_the_caller_does_not_read_may_be_wrong(given: dict[str, str]) -> None:
    (variable,) = (name.removesuffix("_FILE") for name in given)

    assert settings.load(given, unused=(variable,)) == settings.load({})
    with pytest.raises(ConfigurationError, match=variable):
        settings.load(given)
