"""When Redis keeps what it acknowledges, and when it does not."""

from typing import Any

import pytest
import redis

from shared.durability import (
    CONFIG_PARAMETERS,
    INFO_SECTIONS,
    Barrier,
    choose_barrier,
    evaluate,
    query,
    read_barrier,
)
from shared.durability_findings import Finding, evaluate_config
from shared.setting_values import Durability

CONFIG = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}
INFO: dict[str, Any] = {
    "role": "master",
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "loading": 0,
    "used_memory": 1_000_000,
    "maxmemory": 0,
    "maxmemory_policy": "noeviction",
    "connected_slaves": 1,
    "second_repl_offset": -1,
    "cmdstat_info": {"calls": 1},
    "slave0": {"ip": "10.0.0.2", "port": 6379, "state": "online", "offset": 1, "lag": 0},
}


def failing(found: tuple[Finding, ...]) -> set[str]:
    return {finding.name for finding in found if not finding.ok}


@pytest.mark.parametrize("level", ["memory", "fsync", "replica"])
def test_a_well_configured_redis_passes_at_every_level(level: Durability) -> None:
    assert failing(evaluate_config(level, CONFIG, INFO)) == set()


@pytest.mark.parametrize(
    ("config", "info", "name"),
    [
        ({"appendonly": "no"}, {}, "appendonly"),
        ({"appendfsync": "everysec"}, {}, "appendfsync"),
        ({"appendfsync": "no"}, {}, "appendfsync"),
        ({"no-appendfsync-on-rewrite": "yes"}, {}, "appendfsync"),
        ({"maxmemory-policy": "allkeys-lru"}, {}, "maxmemory_policy"),
        ({}, {"role": "slave"}, "role"),
        ({}, {"aof_last_write_status": "err"}, "aof_last_write"),
        ({}, {"loading": 1}, "appendonly"),
        ({}, {"aof_rewrite_in_progress": 1, "aof_base_size": 0, "cmdstat_config|set": {"calls": 1}}, "appendonly"),
        ({}, {"aof_rewrite_scheduled": 1, "aof_base_size": 0, "cmdstat_config|resetstat": {}}, "appendonly"),
        ({}, {"aof_rewrite_in_progress": 1, "aof_base_size": 0, "cmdstat_config": {}}, "appendonly"),
        ({}, {"aof_rewrite_in_progress": 1, "aof_base_size": 0, "second_repl_offset": 7}, "appendonly"),
        ({}, {"used_memory": 100, "maxmemory": 100}, "memory"),
        ({}, {"used_memory": 90, "maxmemory": 100}, "memory"),
    ],
)
def test_each_failed_check_is_named_with_a_remedy(config: dict[str, str], info: dict[str, Any], name: str) -> None:
    found = evaluate_config("fsync", CONFIG | config, INFO | info)
    assert failing(found) == {name}
    assert all(finding.remedy for finding in found if not finding.ok)


@pytest.mark.parametrize(
    "info",
    [
        {"aof_base_size": 0, "cmdstat_config|get": {"calls": 1}},
        {"aof_base_size": 89, "cmdstat_config|set": {"calls": 1}, "second_repl_offset": 7},
    ],
)
def test_a_complete_file_passes_during_a_rewrite(info: dict[str, Any]) -> None:
    rewritten = INFO | {"aof_rewrite_in_progress": 1} | info
    assert failing(evaluate_config("fsync", CONFIG, rewritten)) == set()
    assert failing(evaluate_config("fsync", None, rewritten)) == set()


def test_level_memory_needs_only_a_primary() -> None:
    anything = CONFIG | {"appendonly": "no", "appendfsync": "no", "maxmemory-policy": "allkeys-lru"}
    assert failing(evaluate_config("memory", anything, INFO)) == set()
    assert failing(evaluate_config("memory", anything, INFO | {"role": "slave"})) == {"role"}


def test_level_replica_needs_an_online_replica() -> None:
    syncing = INFO | {"slave0": {"state": "wait_bgsave"}}
    none = {key: value for key, value in INFO.items() if key != "slave0"}
    assert failing(evaluate_config("replica", CONFIG, syncing)) == {"replicas"}
    assert failing(evaluate_config("replica", CONFIG, none)) == {"replicas"}
    assert failing(evaluate_config("fsync", CONFIG, none)) == set()


def test_if_config_is_forbidden_info_counts_and_the_rest_is_unverified() -> None:
    found = evaluate_config("fsync", None, INFO)
    assert failing(found) == set()
    assert [finding.name for finding in found if finding.remedy] == ["appendfsync"]
    assert failing(evaluate_config("fsync", None, INFO | {"aof_enabled": 0})) == {"appendonly"}
    assert failing(evaluate_config("fsync", None, INFO | {"maxmemory_policy": "volatile-lru"})) == {"maxmemory_policy"}


def test_an_empty_info_fails() -> None:
    assert failing(evaluate_config("replica", None, {})) == {
        "role",
        "appendonly",
        "aof_last_write",
        "maxmemory_policy",
        "replicas",
    }


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ({"appendfsync": "everysec"}, "everysec; each commit waits"),
        ({"no-appendfsync-on-rewrite": "yes"}, "always, but not during a rewrite of the file; each commit waits"),
        (None, "unknown, as CONFIG is forbidden here; each commit waits"),
    ],
)
def test_if_a_commit_can_wait_for_its_fsync_always_is_not_required(config: dict[str, str] | None, shown: str) -> None:
    configured = None if config is None else CONFIG | config
    found = evaluate_config("fsync", configured, INFO, can_wait=True)
    assert failing(found) == set()
    [fsync] = [finding for finding in found if finding.remedy]
    assert fsync.detail.startswith(shown)
    # Waiting does not protect the workers' own writes.
    assert "rolled back" in fsync.remedy
    assert "delivered twice" in fsync.remedy
    assert choose_barrier("fsync", configured, can_wait=True) == Barrier(synced=True)
    assert choose_barrier("replica", configured, can_wait=True) == Barrier(synced=True, replicas=1)


def test_appendfsync_no_fails_even_with_waitaof() -> None:
    assert failing(evaluate_config("fsync", CONFIG | {"appendfsync": "no"}, INFO, can_wait=True)) == {"appendfsync"}


def test_a_commit_waits_only_if_it_must() -> None:
    for can_wait in (False, True):
        assert choose_barrier("fsync", CONFIG, can_wait=can_wait) == Barrier()
        assert choose_barrier("replica", CONFIG, can_wait=can_wait) == Barrier(replicas=1)
        assert choose_barrier("memory", CONFIG | {"appendfsync": "everysec"}, can_wait=can_wait) == Barrier()


def test_no_barrier_uses_a_command_that_the_server_lacks() -> None:
    assert choose_barrier("fsync", None, can_wait=False) == Barrier()
    assert choose_barrier("replica", None, can_wait=False) == Barrier(replicas=1)


class RecordingPipeline:
    """A pipeline that only records its commands."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def config_get(self, parameter: str) -> None:
        self.asked.append(("config", parameter))

    def info(self, section: str) -> None:
        self.asked.append(("info", section))

    def execute_command(self, name: str, *numbers: int) -> None:
        # The probe for WAITAOF waits for nothing.
        assert numbers == (0, 0, 0)
        self.asked.append(("command", name))


def test_replies_are_read_in_the_order_of_the_commands() -> None:
    pipeline = RecordingPipeline()
    query(pipeline)
    config = CONFIG | {"appendfsync": "everysec"}
    replies: list[Any] = [
        {name: config.get(name, "0")} if kind == "config" else INFO if kind == "info" else [1, 1]
        for kind, name in pipeline.asked
    ]
    assert failing(evaluate("replica", replies)) == set()
    assert read_barrier("replica", replies) == Barrier(synced=True, replicas=1)
    assert pipeline.asked[-1] == ("command", "WAITAOF")
    # A server before 7.2 does not know the command; a managed one may not allow it.
    for refusal in (redis.ResponseError("unknown command"), redis.exceptions.NoPermissionError("NOPERM")):
        assert failing(evaluate("replica", [*replies[:-1], refusal])) == {"appendfsync"}
        assert read_barrier("replica", [*replies[:-1], refusal]) == Barrier(replicas=1)


@pytest.mark.parametrize(
    ("server", "waits"),
    [
        ({"redis_version": "7.2.0"}, True),
        ({"redis_version": "7.4.0"}, False),
        ({"redis_version": "7.4.2"}, False),
        ({"redis_version": "7.4.3"}, True),
        ({"redis_version": "8.2.3"}, True),
        ({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "7.2.11"}, True),
        ({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.0.0"}, False),
        ({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.1.2"}, False),
    ],
)
@pytest.mark.parametrize("level", ["fsync", "replica"])
def test_a_waitaof_that_acknowledges_before_the_fsync_is_not_relied_on(
    server: dict[str, str], waits: bool, level: Durability
) -> None:
    config: list[Any] = [{name: (CONFIG | {"appendfsync": "everysec"}).get(name, "0")} for name in CONFIG_PARAMETERS]
    replies = [*config, *[INFO | server] * len(INFO_SECTIONS), [1, 1]]

    assert failing(evaluate(level, replies)) == (set() if waits else {"appendfsync"})
    assert read_barrier(level, replies).synced is waits


def test_a_forbidden_config_differs_from_a_forbidden_info() -> None:
    refused = redis.ResponseError("NOPERM")
    configured: list[Any] = [refused] * len(CONFIG_PARAMETERS)
    sections: list[Any] = [INFO] * len(INFO_SECTIONS)
    assert failing(evaluate("fsync", [*configured, *sections, refused])) == set()
    assert failing(evaluate("fsync", [*configured, *sections, [1, 0]])) == set()
    assert read_barrier("fsync", [*configured, *sections, [1, 0]]) == Barrier(synced=True)
    assert failing(evaluate("fsync", [*configured, *[refused] * len(INFO_SECTIONS), [1, 0]])) == {"redis"}


def test_a_redis_that_is_too_old_fails() -> None:
    assert failing(evaluate_config("memory", CONFIG, INFO | {"redis_version": "6.0.16"})) == {"version"}
    for version in ("6.2.14", "7.0.15", "10.1.0"):
        assert failing(evaluate_config("memory", CONFIG, INFO | {"redis_version": version})) == set()


class TestManaged:
    """`managed`: the provider's promise is taken for the disk, and what the server shows to be wrong still counts."""

    def test_no_append_only_file_and_no_config_are_needed(self) -> None:
        anything = CONFIG | {"appendonly": "no", "appendfsync": "no"}
        for config in (None, anything):
            assert failing(evaluate_config("managed", config, INFO | {"aof_enabled": 0})) == set()

    def test_it_is_a_warning_for_as_long_as_it_holds(self) -> None:
        [finding] = [found for found in evaluate_config("managed", None, INFO) if found.remedy]
        assert (finding.name, finding.ok) == ("managed", True)
        assert "cannot check" in finding.detail

    @pytest.mark.parametrize(
        ("info", "name"),
        [
            ({"role": "slave"}, "role"),
            ({"loading": 1}, "loading"),
            ({"redis_version": "6.0.16"}, "version"),
            ({"aof_enabled": 1, "aof_last_write_status": "err"}, "aof_last_write"),
            ({"maxmemory_policy": "volatile-lru"}, "maxmemory_policy"),
            ({"used_memory": 95, "maxmemory": 100}, "memory"),
            ({"redis_mode": "cluster"}, "mode"),
        ],
    )
    def test_what_info_shows_to_be_wrong_fails(self, info: dict[str, Any], name: str) -> None:
        found = evaluate_config("managed", None, INFO | info)
        assert failing(found) == {name}
        assert all(finding.remedy for finding in found if not finding.ok)

    def test_what_info_does_not_say_is_assumed_with_a_warning(self) -> None:
        found = evaluate_config("managed", None, {})
        assert failing(found) == set()
        assert [finding.name for finding in found if finding.remedy] == [
            "managed",
            "role",
            "maxmemory_policy",
            "memory",
        ]

    def test_a_refused_info_is_no_failure(self) -> None:
        refused = redis.exceptions.NoPermissionError("NOPERM")
        replies = [refused] * (len(CONFIG_PARAMETERS) + len(INFO_SECTIONS) + 1)
        assert failing(evaluate("managed", replies)) == set()

    def test_a_commit_waits_for_nothing(self) -> None:
        for config in (None, CONFIG | {"appendfsync": "everysec"}):
            assert choose_barrier("managed", config, can_wait=True) == Barrier()


@pytest.mark.parametrize("level", ["memory", "fsync", "replica"])
def test_a_cluster_is_refused_at_every_level(level: Durability) -> None:
    assert failing(evaluate_config(level, CONFIG, INFO | {"redis_mode": "cluster"})) == {"mode"}
