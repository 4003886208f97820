"""The handler `stream`: one entry for each event, once, in a stream of bounded length, in whatever Redis it names."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from callbacks import Event, Pause, redis, samples
from shared import keys, settings
from tests.integration.faults import Faulty
from tests.integration.harness import Harness, open_harness, reply, statuses
from tests.integration.runtime.pools import Command, until
from tests.redis_server import RedisServer, StartRedis
from workers.handlers.stream.handler import EventStream
from workers.handlers.stream.handler import stream as stream_handler
from workers.handlers.stream.redis_stream import RedisStream
from workers.runtime.settlement import MAX_DEATHS

LAST_MS = 2**64 - 1
TEXT = "a person's own words"


def some(number: int) -> list[Event]:
    return [samples.reply(TEXT) for _ in range(number)]


def stream(server: RedisServer, **options: str) -> EventStream:
    return EventStream.from_environ({"REDIS_URL": server.url, **options})


def entries(server: RedisServer, key: str = "callbacks") -> list[dict[str, str]]:
    with server.client() as client:
        found: Any = client.xrange(key)
        return [fields for _, fields in found]


def ids(server: RedisServer) -> list[str]:
    return [fields["id"] for fields in entries(server)]


def test_each_event_is_an_entry_of_its_own(redis_server: RedisServer) -> None:
    given = samples.named()

    stream(redis_server).add(list(given.values()))

    assert entries(redis_server) == [
        {"id": event.id, "kind": event.kind, "event": event.to_json()} for event in given.values()
    ]


def test_a_batch_goes_in_one_round_trip_in_portions_that_hold_redis_up_for_a_moment_only(
    redis_server: RedisServer,
) -> None:
    given = [*some(1200), *(samples.reply("x" * 600_000) for _ in range(3))]
    client = redis.connect(redis_server.url)
    client.connection_pool.connection_class = Faulty
    Faulty.at, Faulty.count = 0, 0
    client.ping()
    before = Faulty.count
    with redis_server.client() as watching:
        watching.config_resetstat()
        RedisStream(client, "callbacks", max_entries=None).add(given)
        calls = watching.info("commandstats")["cmdstat_eval"]["calls"]
    client.close()

    assert Faulty.count - before == 1
    assert calls == 6, "500, 500, 200, and each large one alone"
    assert ids(redis_server) == [event.id for event in given]


def test_an_event_that_comes_twice_has_one_entry(redis_server: RedisServer) -> None:
    first, second, third = some(3)
    stream(redis_server).add([first, second, first])
    stream(redis_server).add([second, third])
    stream(redis_server).add([third])

    assert ids(redis_server) == [first.id, second.id, third.id]


@pytest.mark.parametrize("fault", ["unsent", "lost"])
def test_a_connection_that_breaks_makes_no_second_entry_and_loses_none(redis_server: RedisServer, fault: Any) -> None:
    given = some(700)
    adding = stream(redis_server)
    adding.add(given[:1])
    adding.close()
    adding._client = redis.connect(redis_server.url)
    adding._client.connection_pool.connection_class = Faulty
    Faulty.at = 0
    adding._client.ping()  # connecting takes exchanges too: only the batch's is to be cut
    Faulty.at, Faulty.fault = Faulty.count + 1, fault
    with pytest.raises(Pause, match="cut "):
        adding.add(given)
    Faulty.at = 0
    assert (len(ids(redis_server)) > 1) == (fault == "lost")

    adding.add(given)

    assert ids(redis_server) == [event.id for event in given]


def test_what_is_remembered_is_bounded_reaches_far_enough_back_and_has_a_lifetime(redis_server: RedisServer) -> None:
    client = redis.connect(redis_server.url)
    target = RedisStream(client, "callbacks", max_entries=None, max_ids=10)
    given = some(100)
    for event in given:
        target.add([event])
    with redis_server.client() as watching:
        sizes = [watching.scard(f"{{callbacks}}:{name}") for name in ("ids", "previous-ids")]
        assert 10 <= sum(sizes) < 20
        assert all(0 < watching.ttl(f"{{callbacks}}:{name}") <= 7 * 86_400 for name in ("previous-ids",))
        assert set(watching.keys()) <= {"callbacks", "{callbacks}:ids", "{callbacks}:previous-ids"}

    target.add(given[-10:])
    assert len(ids(redis_server)) == 100
    target.add(given[:1])
    assert len(ids(redis_server)) == 101, "it was long ago"
    client.close()


def test_the_stream_keeps_about_the_given_number_of_the_latest_or_all(redis_server: RedisServer) -> None:
    given = some(3000)
    stream(redis_server, CALLBACKS_STREAM_MAXLEN="1000").add(given)
    assert 1000 <= len(ids(redis_server)) <= 1100
    assert ids(redis_server)[-1000:] == [event.id for event in given[-1000:]]

    with redis_server.client() as client:
        client.flushall()
    stream(redis_server, CALLBACKS_STREAM_MAXLEN="").add(given)
    assert len(ids(redis_server)) == 3000


def test_another_redis_and_another_key_may_be_named(redis_server: RedisServer, start_redis: StartRedis) -> None:
    other = start_redis({"requirepass": "s3cr-t"})
    given = some(2)
    url = f"redis://:s3cr-t@127.0.0.1:{other.port}/0"
    adding = stream(redis_server, CALLBACKS_STREAM_URL=url, CALLBACKS_STREAM_KEY="{shop}events")
    adding.add(given)

    assert ids(redis_server) == []
    with redis.connect(url) as client:
        assert {key.decode() for key in client.scan_iter()} == {"{shop}events", "{shop}events:ids"}


def test_an_unavailable_redis_is_used_again_and_its_password_is_not_shown(start_redis: StartRedis) -> None:
    server = start_redis({"requirepass": "s3cr3t"})
    given = some(3)
    adding = stream(server)
    adding.add(given[:1])
    server.stop()
    for _ in range(2):
        with pytest.raises(Pause, match="Connection refused") as pause:
            adding.add(given)
        assert "s3cr3t" not in str(pause.value)
        assert pause.value.__cause__ is None
    server.start()
    adding.add(given)
    adding.close()

    assert ids(server) == [event.id for event in given]


@pytest.mark.parametrize(
    ("broken", "repaired", "words"),
    [
        ((("config", "set", "maxmemory", "1"),), (("config", "set", "maxmemory", "0"),), "OOM|not allowed"),
        ((("replicaof", "127.0.0.1", "1"),), (("replicaof", "no", "one"),), "is a replica now"),
        ((("set", "callbacks", "x"),), (("del", "callbacks"),), "STREAM_KEY: 'callbacks' at .*: it is a string"),
        ((("set", "{callbacks}:previous-ids", "x"),), (("del", "{callbacks}:previous-ids"),), "wrong kind of value"),
        ((("xadd", "callbacks", f"{LAST_MS}-{LAST_MS - 1}", "a", "b"),), (("del", "callbacks"),), "ID"),
    ],
    ids=["full", "read only", "no stream", "no set", "the stream is at its end"],
)  # fmt: skip
def test_a_redis_that_takes_nothing_has_events_wait_and_then_has_each_once(
    start_redis: StartRedis, broken: Any, repaired: Any, words: str
) -> None:
    server = start_redis()
    given = some(5)
    adding = stream(server)
    with server.client() as client:
        for command in broken:
            client.execute_command(*command)
        with pytest.raises(Pause, match=words) as pause:
            adding.add(given)
        taken = 1 if "xadd" in str(broken) else 0
        assert client.scard("{callbacks}:ids") == taken, "an entry that was not made is not marked"
        assert TEXT not in str(pause.value)
        assert pause.value.__cause__ is None
        assert adding._client is None, "it connects anew, as its name may lead to another server by then"
        for command in repaired:
            client.execute_command(*command)
    adding.add(given)
    adding.close()

    assert ids(server) == [event.id for event in given[taken:]]


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("CALLBACKS_STREAM_URL", "http://:s3cret@h", "must be a URL"),
        ("CALLBACKS_STREAM_KEY", "cb:mine", "are the service's own"),
        ("CALLBACKS_STREAM_MAXLEN", "0", "must be a whole number from 1, or empty for all, not '0'"),
        ("CALLBACKS_STREAM_MAXLEN", "1e6", "must be a whole number"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, value: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{variable}: .*{words}") as error:
        EventStream.from_environ({variable: value})
    assert "s3cret" not in str(error.value)


def test_the_defaults_are_those_of_the_table_and_without_an_address_events_wait() -> None:
    table = {row.variable: row.default for row in settings.table_rows()}
    found = EventStream.from_environ({})
    assert found._key == table["CALLBACKS_STREAM_KEY"]
    assert str(found._max_entries) == table["CALLBACKS_STREAM_MAXLEN"]
    with pytest.raises(Pause, match="neither CALLBACKS_STREAM_URL nor REDIS_URL is set"):
        found.add(some(1))


@pytest.fixture
def harness(redis_server: RedisServer) -> Iterator[Harness]:
    with open_harness(redis_server.url, stream_handler) as made:
        yield made


def test_workers_that_are_killed_again_and_again_add_each_event_once(harness: Harness, tmp_path: Path) -> None:
    for callback in [*statuses([str(number) for number in range(4000)], bundle=10), reply("r-1", text="nul\0")]:
        harness.accept(callback)
    harness.expand()

    def delivered() -> int:
        return next(one.delivered for one in harness.audit().handlers if one.handler == "stream")

    def start() -> Command:
        command = Command(
            harness, tmp_path / "log", "deliver", "--handler", "stream", "--processes", "2",
            CALLBACKS_HANDLERS="workers.handlers.stream.handler",
        )  # fmt: skip
        stack.callback(command.end)
        return command

    with ExitStack() as stack:
        for _ in range(MAX_DEATHS - 1):  # one more, and the event at which each was killed would be a dead letter
            before = harness.connection.xlen("callbacks")
            command = start()
            until(
                lambda before=before: harness.connection.xlen("callbacks") > before or delivered() == 4001,  # type: ignore[misc]
                "one more",
            )
            command.kill()
        last = start()
        until(lambda: delivered() == 4001, "all is delivered")
        assert last.stop() == 0

    found = [fields[b"id"] for _, fields in harness.connection.xrange("callbacks")]
    assert Counter(Counter(found).values()) == {1: 4001}
    assert harness.connection.exists(keys.dead("stream")) == 0


def test_while_its_redis_is_unavailable_all_events_wait_and_none_loses_an_attempt(
    harness: Harness, start_redis: StartRedis, tmp_path: Path
) -> None:
    target = start_redis()
    for callback in statuses([str(number) for number in range(300)], bundle=10):
        harness.accept(callback)
    harness.expand()
    target.stop()
    command = Command(
        harness, tmp_path / "log", "deliver", "--handler", "stream",
        CALLBACKS_HANDLERS="workers.handlers.stream.handler", CALLBACKS_STREAM_URL=target.url,
    )  # fmt: skip
    with ExitStack() as stack:
        stack.callback(command.end)
        until(lambda: "action=handler_paused" in command.log, "a pause")
        target.start()
        until(lambda: harness.audit().handlers[0].delivered == 300, "all is delivered")
        assert command.stop() == 0

    assert len(ids(target)) == len(set(ids(target))) == 300
    assert "event_retried" not in command.log
    assert harness.connection.exists(keys.dead("stream")) == 0
