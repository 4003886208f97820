"""`callbacks export` and `callbacks forget` with a key missing: what cannot be opened is named, and is no match."""

import base64
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from callbacks import Reject
from callbacks.cli.main import main
from ingest.spool.folder import SpoolFolder
from shared import batches, keys, sealed_data, sealed_field
from shared.batches import Quarantined
from shared.seal_keys import parse_seal_keys
from tests.integration.harness import Harness, open_harness, record, status
from tests.integration.scripted_handlers import script, single
from tests.redis_server import RedisServer
from workers.admin.action_log import Action, ActionLog

NUMBER = "35699777123"
Run = Callable[..., Result]


class Keys:
    """Files of keys: the lost one, with which all is sealed at first, and another."""

    def __init__(self, folder: Path) -> None:
        self.lost, self.other = (folder / name for name in ("lost", "other"))
        for file in (self.lost, self.other):
            file.write_bytes(base64.b64encode(secrets.token_bytes(32)))
        self.lost_id = parse_seal_keys(str(self.lost))[0].id.hex()

    def seal_with(self, file: Path) -> None:
        sealed_data.use(parse_seal_keys(str(file)))


@pytest.fixture
def seal_keys(tmp_path: Path) -> Iterator[Keys]:
    keys_found = Keys(tmp_path)
    keys_found.seal_with(keys_found.lost)
    yield keys_found
    sealed_data.use([])


@pytest.fixture
def harness(redis_server: RedisServer, seal_keys: Keys, tmp_path: Path) -> Iterator[Harness]:
    """Yield a service in which one number is in each store that is sealed, and another is not sealed at all."""
    with open_harness(redis_server.url, single) as made:
        script.act = lambda event: (_ for _ in ()).throw(Reject("no")) if event.message_id == "1" else None
        made.accept(status(record("1", to=NUMBER)))
        made.expand()
        made.deliver(single)
        body = json.dumps({"to": NUMBER}).encode()
        odd = Quarantined(kind="status", source="gw", received_ms=batches.now_ms(), error="odd", body=body)
        made.accept(quarantined=[odd])
        made.accept(status(record("2", to=NUMBER), record("3")))
        made.expand()
        made.accept(status(record("4", to=NUMBER)), status(record("5")))
        action_id = ActionLog(made.connection).start(
            Action(who="anna", by="page", what="replay", where="dead:single", chosen="some")
        )
        work = keys.action_work(action_id)
        made.connection.hset(work, "work", sealed_field.seal(work, "work", f'{{"error":"{NUMBER}"}}'))
        yield made


@pytest.fixture
def run(harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def run_command(*words: str, seal_keys: Path | None) -> Result:
        environment = {"REDIS_URL": harness.url, "DATABASE_URL": f"sqlite:///{tmp_path}/none.db"}
        if seal_keys is not None:
            environment["CALLBACKS_SEAL_KEYS_FILE"] = str(seal_keys)
        return CliRunner().invoke(main, words, env=environment)

    return run_command


def stores_of(ended: Result) -> dict[str, dict[str, Any]]:
    return {one["store"]: one for one in json.loads(ended.stdout)["stores"]}


def test_with_its_keys_an_export_has_all_of_it(run: Run, seal_keys: Keys) -> None:
    ended = run("export", NUMBER, seal_keys=seal_keys.lost)

    document = json.loads(ended.stdout)
    assert (ended.exit_code, document["not_read"]) == (0, [])
    assert [item["store"] for item in document["items"]] == ["waiting", "waiting", "failures", "failures", "actions"]


@pytest.mark.parametrize("number", [NUMBER, "35699000999"])
@pytest.mark.parametrize("is_set", [True, False])
def test_an_export_names_what_it_cannot_open_and_prints_none_of_it(
    number: str, is_set: bool, run: Run, seal_keys: Keys
) -> None:
    ended = run("export", number, seal_keys=seal_keys.other if is_set else None)

    document = json.loads(ended.stdout)
    assert (ended.exit_code, document["items"]) == (1, [])
    to_do = "add it to that file" if is_set else "set it to the file with that key"
    for store, many in (("waiting", "2 jobs"), ("failures", "2 failures"), ("actions", "1 action")):
        (why,) = (one for one in document["not_read"] if one.startswith(f"{store}: "))
        assert f"{many} not read: sealed with key {seal_keys.lost_id}" in why
        assert "CALLBACKS_SEAL_KEYS_FILE" in why
        assert to_do in why


@pytest.mark.parametrize("dry_run", [True, False])
def test_forget_names_what_it_cannot_open_and_is_not_complete(
    dry_run: bool, run: Run, seal_keys: Keys, harness: Harness
) -> None:
    words = ("forget", NUMBER, "--json", *(("--dry-run",) if dry_run else ()))
    ended = run(*words, seal_keys=seal_keys.other)

    assert (ended.exit_code, json.loads(ended.stdout)["complete"]) == (1, False)
    for store, many in (("waiting", "2 jobs"), ("failures", "2 failures"), ("actions", "1 action")):
        found = stores_of(ended)[store]
        assert (found["erased"], found["unreadable"]) == (0, int(many[0]))
        assert f"{many} not read: sealed with key {seal_keys.lost_id}" in found["why"]
    # A run that was not interrupted has overwritten what it erased: the next one need not do it again.
    assert not harness.connection.exists(keys.FORGETTING)
    text = run(*words[:2], *words[3:], seal_keys=seal_keys.other)
    assert text.exit_code == 1
    assert "could not be searched: see above" in text.stdout

    if not dry_run:
        again = run("forget", NUMBER, "--json", seal_keys=seal_keys.lost)
        assert (again.exit_code, json.loads(again.stdout)["complete"]) == (0, True), again.output
        assert run("export", NUMBER, seal_keys=seal_keys.lost).exit_code == 0
        seal_keys.seal_with(seal_keys.lost)
        assert harness.audit().balances


def test_a_job_that_a_newer_release_wrote_is_not_read(run: Run, seal_keys: Keys, harness: Harness) -> None:
    sealed_data.use([])
    harness.accept(status(record("6", to=NUMBER)))
    *_, job_id = harness.waiting_jobs("expand")
    data = harness.connection.hget(keys.job(job_id), "data")
    harness.connection.hset(keys.job(job_id), "data", data.replace(b"null,[1,", b"null,[2,", 1))

    ended = run("export", NUMBER, seal_keys=seal_keys.lost)

    document = json.loads(ended.stdout)
    assert (ended.exit_code, len(document["items"])) == (1, 5)
    (why,) = document["not_read"]
    assert why.startswith("waiting: 1 job not read: arguments of version 2")


def test_a_spool_that_holds_the_number_is_named_as_its_content_is_not_read(
    run: Run, seal_keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLBACKS_SPOOL_DIR", str(tmp_path / "spool"))
    folder = SpoolFolder(tmp_path / "spool", limit_bytes=1 << 20)
    folder.append([status(record("7", to="35699000002"))])

    ended = run("export", NUMBER, seal_keys=seal_keys.lost)

    # Only a web process opens it, whatever the keys.
    document = json.loads(ended.stdout)
    assert (ended.exit_code, len(document["items"])) == (1, 5)
    (why,) = document["not_read"]
    assert why.startswith("spool: ")
    assert "sealed" in why
    folder.close()
    for file in folder.path.iterdir():
        file.unlink()

    sealed_data.use([])
    folder = SpoolFolder(tmp_path / "spool", limit_bytes=1 << 20)
    folder.append([status(record("7", to=NUMBER))])
    ended = run("export", NUMBER, seal_keys=seal_keys.lost)
    document = json.loads(ended.stdout)
    assert (ended.exit_code, [item["store"] for item in document["items"]].count("spool")) == (1, 1)
    (why,) = document["not_read"]
    assert "drained" in why
    folder.close()
