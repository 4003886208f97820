"""Which URLs of Redis there are; each that would not be used as it is written is refused, with a name and a remedy."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from shared import connections, redis_url, redis_url_options


@pytest.mark.parametrize(
    ("url", "known_to_redis_py"),
    [
        ("redis://localhost:6380/2", "redis://localhost:6380/2"),
        ("rediss://user:pa%2Fss@h", "rediss://user:pa%2Fss@h"),
        ("valkey://localhost:6380/2", "redis://localhost:6380/2"),
        ("valkeys://user:pa%2Fss@h/0?ssl_cert_reqs=none", "rediss://user:pa%2Fss@h/0?ssl_cert_reqs=none"),
        ("REDIS://localhost", "redis://localhost"),
        ("redis://[::1]:6380/2", "redis://[::1]:6380/2"),
        ("redis://h/?db=3", "redis://h/?db=3"),
        ("redis://h/3?db=3", "redis://h/3?db=3"),
        ("redis:///3", "redis:///3"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("unix://:pw@/run/redis.sock", "unix://:pw@/run/redis.sock"),
        ("redis://:pw@h/0?client_name=callbacks", "redis://:pw@h/0?client_name=callbacks"),
    ],
)
def test_a_url_of_one_server_is_given_to_redis_py_with_a_scheme_that_it_knows(url: str, known_to_redis_py: str) -> None:
    redis_url.check(url)
    parsed = redis_url.parse(url)

    assert (parsed.url, parsed.sentinel) == (known_to_redis_py, None)


@pytest.mark.parametrize(
    ("scheme", "is_encrypted"), [("redis", False), ("rediss", True), ("valkey", False), ("valkeys", True)]
)
def test_each_scheme_of_a_network_has_one_with_sentinels(scheme: str, is_encrypted: bool) -> None:
    service = redis_url.parse(f"{scheme}+sentinel://me:p%40ss@one,[::1]:26380/shop%20a/5").sentinel

    assert service is not None
    assert service.nodes == [("one", 26379), ("::1", 26380)]
    assert (service.service, service.is_encrypted) == ("shop a", is_encrypted)
    assert service.redis_options == {"db": 5, "username": "me", "password": "p@ss"}
    assert service.sentinel_options == ({"ssl": True} if is_encrypted else {})


@pytest.mark.parametrize(
    ("query", "of_redis", "of_sentinels"),
    [
        (
            "sentinel_username=asking&sentinel_password=a%2Fb",
            {},
            {"ssl": True, "username": "asking", "password": "a/b"},
        ),
        ("ssl_ca_certs=ca.pem", {"ssl_ca_certs": "ca.pem"}, {"ssl": True, "ssl_ca_certs": "ca.pem"}),
        (
            "ssl_ca_certs=ca.pem&sentinel_ssl_ca_certs=own.pem&sentinel_ssl_check_hostname=no",
            {"ssl_ca_certs": "ca.pem"},
            {"ssl": True, "ssl_ca_certs": "own.pem", "ssl_check_hostname": False},
        ),
        ("sentinel_ssl=false&ssl_cert_reqs=none", {"ssl_cert_reqs": "none"}, {}),
    ],
)
def test_sentinels_have_a_user_a_password_and_tls_of_their_own(
    query: str, of_redis: dict[str, Any], of_sentinels: dict[str, Any]
) -> None:
    service = redis_url.parse(f"rediss+sentinel://one/shop/0?{query}").sentinel

    assert service is not None
    assert service.redis_options == {"db": 0, **of_redis}
    assert service.sentinel_options == of_sentinels


def test_sentinels_alone_may_use_tls() -> None:
    service = redis_url.parse("redis+sentinel://one/shop?sentinel_ssl=true&sentinel_ssl_ca_certs=own.pem").sentinel

    assert service is not None
    assert not service.is_encrypted
    assert service.redis_options == {"db": 0}
    assert service.sentinel_options == {"ssl": True, "ssl_ca_certs": "own.pem"}


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://h", "must be a URL that begins with one of"),
        ("", "must be a URL that begins with one of"),
        ("redis://", "must be a URL that begins with one of"),
        ("unix+sentinel:///s/0", "must be a URL that begins with one of"),
        ("redis://:se/cret@h", "must be a URL that begins with one of"),
        ("redis://:12#secret@h/0", "must be a URL that begins with one of"),
        ("redis://:12?secret=x@h/0", "must be a URL that begins with one of"),
        ("redis://h:0/0", "its port and its database must be numbers"),
        ("redis://h:99999/0", "its port and its database must be numbers"),
        ("redis://h/first", "its port and its database must be numbers"),
        ("redis://h/1/2", "its port and its database must be numbers"),
        ("redis://h/-1", "its port and its database must be numbers"),
        ("redis+sentinel://h/s/-1", "its port and its database must be numbers"),
        ("redis+sentinel://h:x/s", "its port and its database must be numbers"),
        ("redis+sentinel:///s/0", "must be a URL that begins with one of"),
        ("redis+sentinel://h,,i/s/0", "must be a URL that begins with one of"),
        ("redis://h:6379,i:6380/0", "names several hosts, which only Sentinels can be"),
        ("redis://h,i/0", "names several hosts, which only Sentinels can be"),
        ("unix://redis.sock", "must name a socket by its whole path"),
        ("unix://h/run/redis.sock", "must name a socket by its whole path"),
        ("redis://h/0?socket_timout=5", "unknown options: socket_timout; the known ones are client_name, db, "),
        ("redis://h/0?socket_timeout=5", "unknown options: socket_timeout; "),
        ("redis://h/0?decode_responses=true&protocol=3", "unknown options: decode_responses, protocol; "),
        ("redis://h/0?retry_on_timeout=true", "time-outs, retries, decoding and the protocol are set by the service"),
        ("redis://h/0?sentinel_password=secret", "unknown options: sentinel_password; "),
        ("redis+sentinel://h/s/0?sentinel_pasword=secret", "unknown options: sentinel_pasword; "),
        ("redis://h/0?DB=1", "unknown options: DB; "),
        ("redis://h/0?db=1&db=2", "has options twice: db; "),
        ("redis://h/0?db=", "wrong value of the option db: it must be the number of a database"),
        ("redis://h/0?db=-1", "wrong value of the option db"),
        ("redis://h/0?password=", "wrong value of the option password: it must be not empty"),
        ("redis://h/0?client_name=a%20b", "wrong value of the option client_name: it must be ASCII without blanks"),
        ("rediss://h/0?ssl_cert_reqs=maybe", "option ssl_cert_reqs: it must be none, optional or required"),
        ("rediss://h/0?ssl_check_hostname=maybe", "option ssl_check_hostname: it must be true or false"),
        ("rediss://h/0?ssl_min_version=TLSv1", "option ssl_min_version: it must be 771 (TLS 1.2) or 772 (TLS 1.3)"),
        ("redis+sentinel://h/s/0?sentinel_ssl=maybe", "option sentinel_ssl: it must be true or false"),
        ("redis://h/3?db=7", "names one database in its path and another in its option db"),
        ("redis+sentinel://h/s/3?db=7", "names one database in its path and another in its option db"),
        ("redis://h/0?ssl_ca_certs=/x", "has options of TLS for a connection without TLS: ssl_ca_certs; "),
        ("unix:///x?ssl_ca_certs=/x", "has options of TLS for a connection without TLS: ssl_ca_certs; "),
        ("redis+sentinel://h/s/0?ssl_ca_certs=/x", "for a connection without TLS: ssl_ca_certs; "),
        (
            "rediss+sentinel://h/s/0?sentinel_ssl=no&sentinel_ssl_ca_certs=/x",
            "for a connection without TLS: sentinel_ssl_ca_certs; ",
        ),
        ("rediss://h/0?ssl_ca_certs=/no/ca.pem", "option ssl_ca_certs with a file that does not exist: /no/ca.pem"),
        (
            "rediss+sentinel://h/s/0?sentinel_ssl_certfile=/no/one.pem",
            "option sentinel_ssl_certfile with a file that does not exist: /no/one.pem",
        ),
    ],
)
def test_a_url_that_would_not_be_used_as_it_is_written_is_refused(url: str, problem: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 # its message is compared
        redis_url.check(url)

    assert problem in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_file_is_missed_at_the_start_and_not_at_each_connection(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    url = f"rediss://h/0?ssl_ca_certs={pem}"
    pem.touch()
    redis_url.check(url)
    pem.unlink()
    connections.connect(url).close()


@pytest.mark.parametrize("client", [redis.Redis, redis.asyncio.Redis])
def test_redis_py_takes_each_option_of_a_sentinel_connection(client: type) -> None:
    known = set(inspect.signature(client).parameters)
    with pytest.raises(ValueError, match="unknown options") as raised:
        redis_url_options.read("x=", of_sentinels=True)
    options = str(raised.value).partition("the known ones are ")[2].partition(";")[0].split(", ")

    assert {name.removeprefix("sentinel_") for name in options} <= known
