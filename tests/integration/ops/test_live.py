"""The feed of live events over a real Redis: who listens hears what is new, and who works never pays for it."""

import json
import socket
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import redis

from callbacks import ReplyEvent, ReportEvent, handler
from shared import connections, keys, live
from shared.events import Event
from shared.live import FeedItem, FeedUnavailable, Idle, Listening, Omitted
from tests.integration.harness import Harness, open_harness, record, reply, status, statuses
from tests.redis_server import RedisServer, StartRedis, free_port
from tests.web_process import until
from workers.expand import expansion


@handler(ReportEvent, ReplyEvent)
def everything(event: ReportEvent | ReplyEvent) -> None:
    """Take all there is."""


@contextmanager
def listening(url: str) -> Iterator[Iterator[FeedItem]]:
    """Yield the items of the feed, once it is listening."""
    with closing(live.listen_sync(url, idle_seconds=0.05)) as items:
        assert next(one for one in items if not isinstance(one, Idle)) == Listening()
        yield items


def read_items(items: Iterator[FeedItem], number: int) -> tuple[list[Event], int]:
    """Return the next events until this many were shown or omitted."""
    events: list[Event] = []
    hidden = 0
    for one in items:
        if isinstance(one, ReportEvent | ReplyEvent):
            events.append(one)
        elif isinstance(one, Omitted):
            hidden += one.number
        if len(events) + hidden >= number:
            return events, hidden
    raise AssertionError("it has no end")


def expanded(harness: Harness, *message_ids: str, **more: Any) -> None:
    harness.accept(*statuses(message_ids, **more))
    harness.expand()


def test_who_listens_hears_each_new_event_once_and_no_duplicate(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, everything) as harness, listening(redis_server.url) as items:
        harness.accept(status(record("1"), record("2", "UNDELIV"), record("1")), reply("r1", "q1", text="yes"))
        harness.expand()
        harness.accept(status(record("2", "UNDELIV"), record("3")))
        harness.expand()

        events, hidden = read_items(items, 4)

        received = [event.message_id if event.kind == "report" else event.text for event in events]
        assert (sorted(map(str, received)), hidden) == (["1", "2", "3", "yes"], 0)
        assert {event.id for event in events} == set(harness.waiting_event_ids(everything))
        assert isinstance(next(items), Idle)


def test_of_very_many_a_second_only_some_are_shown_and_the_others_are_counted(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, everything) as harness, listening(redis_server.url) as items:
        expanded(harness, *map(str, range(1000)))

        events, hidden = read_items(items, 1000)

        assert (len(events), hidden) == (live.MAX_EVENTS_PER_SECOND, 1000 - live.MAX_EVENTS_PER_SECOND)
        assert len(harness.waiting_event_ids(everything)) == 1000


def test_the_second_is_that_of_all_workers_together(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, everything) as harness, open_harness(redis_server.url, everything) as other:
        for number in range(50):  # until both fall into one second
            with listening(redis_server.url) as items:
                expanded(harness, *(f"{number}-{each}" for each in range(80)))
                first = harness.connection.hget(keys.LIVE, "second")
                expanded(other, *(f"{number}-{each}" for each in range(80, 160)))
                second = harness.connection.hget(keys.LIVE, "second")
                events, hidden = read_items(items, 160)
            if first == second and len(events) > 80:
                break

        assert (len(events), hidden) == (live.MAX_EVENTS_PER_SECOND, 160 - live.MAX_EVENTS_PER_SECOND)


def test_events_that_are_too_large_for_the_feed_are_counted_alone(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, everything) as harness, listening(redis_server.url) as items:
        large = "x" * (live.MAX_BYTES_PER_SECOND + 1)
        harness.accept(status(record("1"), record("2", text=large), record("3")))
        harness.expand()

        events, hidden = read_items(items, 3)

        assert [event.raw["message_id"] for event in events] == ["1", "3"]
        assert hidden == 1


def test_a_feed_belongs_to_one_database_of_a_server(redis_server: RedisServer) -> None:
    other = redis_server.url.removesuffix("/0") + "/1"
    with (
        open_harness(redis_server.url, everything) as harness,
        open_harness(other, everything) as o,
        listening(other) as items,
    ):
        expanded(harness, "here")
        expanded(o, "there")

        events, _ = read_items(items, 1)

        assert [event.raw["message_id"] for event in events] == ["there"]


def test_who_works_sends_the_same_commands_whether_anybody_listens_or_not(redis_server: RedisServer) -> None:
    def commands_of(number: int) -> tuple[Counter[str], Counter[str]]:
        """Return what a worker sends for a batch, and what its scripts call: by the name of the command."""
        with (
            open_harness(redis_server.url, everything) as harness,
            redis_server.client() as client,
            client.monitor() as monitor,
        ):
            harness.accept(*statuses([f"{number}-{each}" for each in range(2500)]))
            harness.expand()
            client_id = f"the end of {number}"
            harness.connection.echo(client_id)
            by_port: defaultdict[str, Counter[str]] = defaultdict(Counter)
            while client_id not in (line := monitor.next_command())["command"]:
                by_port[line["client_port"]][line["command"].split()[0].upper()] += 1
        called = by_port.pop("")  # what scripts call
        sent: Counter[str] = sum(by_port.values(), Counter())
        del sent["INFO"]  # sent by the clock: a worker's question for Redis's memory, and other clients'
        return sent, called

    commands_of(0)  # and Redis has the scripts
    unwatched, unwatched_calls = commands_of(1)
    with listening(redis_server.url):
        watched, watched_calls = commands_of(2)

    fan_outs = -(-2500 // (expansion.MAX_CHUNK_WRITES // 2))
    assert unwatched == watched
    assert "PUBSUB" not in unwatched
    assert "PUBLISH" not in unwatched
    assert watched_calls - unwatched_calls == Counter(
        {"PUBLISH": fan_outs, "HMGET": fan_outs, "HSET": fan_outs, "EXPIRE": fan_outs, "TIME": fan_outs}
    )
    assert unwatched_calls["PUBSUB"] == watched_calls["PUBSUB"] == fan_outs
    assert unwatched_calls["PUBLISH"] == 0


def test_an_unwatched_service_leaves_nothing_of_the_feed_in_redis_and_a_watched_one_for_seconds(
    redis_server: RedisServer,
) -> None:
    with open_harness(redis_server.url, everything) as harness:
        expanded(harness, "1")
        assert not harness.connection.exists(keys.LIVE)
        with listening(redis_server.url):
            expanded(harness, "2")
            assert 0 < harness.connection.ttl(keys.LIVE) <= 10


@pytest.mark.parametrize("right", ["+pubsub|numsub", "+publish", "&cb:live:*"])
def test_a_worker_that_may_not_tell_expands_as_ever(
    right: str, start_redis: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_redis()
    rights = ["~*", "+@all", "-pubsub", "-publish", "+pubsub|numsub", "+publish", "&cb:live:*"]
    kept = [word for word in rights if word != right]
    with server.client() as client:
        command: Any = client.execute_command
        command("ACL", "SETUSER", "worker", "on", ">secret", "resetchannels", *kept)
    url = server.url.replace("redis://", "redis://worker:secret@")
    with open_harness(url, everything) as harness, listening(server.url) as items:
        harness.accept(*statuses(["1", "2"]))
        harness.expand(max_jobs=1)

        assert "job_failed" not in caplog.text
        assert len(harness.waiting_event_ids(everything)) == 2
        assert harness.audit().balances
        assert isinstance(next(items), Idle)


def test_who_may_not_listen_is_told_so(start_redis: StartRedis) -> None:
    server = start_redis()
    with server.client() as client:
        command: Any = client.execute_command
        command("ACL", "SETUSER", "deaf", "on", ">secret", "resetchannels", "~*", "+@all")
    for login, error in (
        ("deaf:secret", redis.exceptions.NoPermissionError),
        ("deaf:wrong", redis.AuthenticationError),
    ):
        with pytest.raises(error):
            next(live.listen_sync(server.url.replace("redis://", f"redis://{login}@")))


def test_a_listener_that_never_reads_holds_up_nobody(redis_server: RedisServer) -> None:
    with (
        socket.create_connection(("127.0.0.1", redis_server.port)) as deaf,
        open_harness(redis_server.url, everything) as harness,
    ):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(b"SUBSCRIBE cb:live:0\r\n")
        until(lambda: harness.connection.pubsub_numsub("cb:live:0")[0][1] == 1)
        began = harness.connection.time()[0]
        for number in range(20):
            large = "x" * 20_000
            harness.accept(status(*(record(f"{number}-{each}", text=large) for each in range(100))))
            harness.expand()

        assert len(harness.waiting_event_ids(everything)) == 2000
        seconds = harness.connection.time()[0] - began + 1
        [listener] = harness.connection.client_list(_type="pubsub")
        assert int(listener["omem"]) <= seconds * live.MAX_BYTES_PER_SECOND


def test_it_says_that_redis_went_away_and_hears_again_when_it_is_back(start_redis: StartRedis) -> None:
    server = start_redis()
    with listening(server.url) as items:
        server.kill()
        assert next(one for one in items if not isinstance(one, Idle)) == FeedUnavailable("ConnectionError")
        assert [type(next(items)) for _ in range(3)] == [Idle] * 3  # once said
        server.start()
        assert next(one for one in items if not isinstance(one, Idle)) == Listening()
        with open_harness(server.url, everything) as harness:
            expanded(harness, "1")
        events, _ = read_items(items, 1)
        assert len(events) == 1


def test_a_redis_that_is_not_there_yet_is_waited_for(start_redis: StartRedis) -> None:
    port = free_port()
    with closing(live.listen_sync(f"redis://127.0.0.1:{port}/0")) as items:
        assert isinstance(next(items), FeedUnavailable)
        start_redis(port=port)
        assert next(one for one in items if not isinstance(one, Idle)) == Listening()


def test_a_redis_that_hangs_is_unavailable(start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_QUIET_SECONDS", 1.5)
    server = start_redis()
    with listening(server.url) as items:
        # A quiet one is asked, and answers, again and again.
        assert {type(next(items)) for _ in range(60)} == {Idle}
        server.pause()
        assert next(one for one in items if not isinstance(one, Idle)) == FeedUnavailable("TimeoutError")
        server.resume()
        assert next(one for one in items if not isinstance(one, Idle)) == Listening()


def test_a_thread_can_listen(redis_server: RedisServer) -> None:
    found: list[Event] = []
    started = threading.Event()

    def listen() -> None:
        with listening(redis_server.url) as items:
            started.set()
            found.extend(read_items(items, 1)[0])

    thread = threading.Thread(target=listen)
    thread.start()
    assert started.wait(30)
    with open_harness(redis_server.url, everything) as harness:
        expanded(harness, "1")
    thread.join()
    assert len(found) == 1


def test_what_another_release_says_is_counted_as_not_shown(redis_server: RedisServer) -> None:
    with listening(redis_server.url) as items, connections.connect(redis_server.url) as client:
        for message in (b"[2,0,[]]", json.dumps({"v": 3}).encode(), b"\xff", b'[1,0,[["sms",1]]]', b"[1,7,[]]"):
            client.publish(live.channel(client), message)
        assert read_items(items, 10) == ([], 10)
