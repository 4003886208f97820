"""`forget` over opt-outs: the number goes, and the wish not to be written to stays until a later START."""

import json
from collections.abc import Callable
from typing import Any, Literal

import pytest

from shared.number_search import NumberSearch
from tests.integration.sql.conftest import BACKENDS
from tests.integration.sql.databases import Database
from tests.integration.sql.test_forget import traces
from tests.integration.sql.test_optouts import invoke, said
from workers.handlers.optout import wish_table
from workers.handlers.sql.event_store import EventStore
from workers.personal_data.sql_tables import SqlTables

NUMBER, OTHER = "35679444123", "447700900123"
SEARCH = NumberSearch.parse([NUMBER])
SECRET = "a secret of this test"
NewDatabase = Callable[[str], Database]


def write(database: Database, *events: Any, secret: str = "") -> None:
    store = EventStore(
        database.address,
        lambda connection, batch: wish_table.write_events(connection, batch, secret=secret),
        retry_seconds=0,
    )
    store.write(events)
    store.close()


def forget(database: Database, secret: str = "", how: Literal["erase", "pseudonymise"] = "erase") -> str:
    result = SqlTables(database.address, SEARCH, how=how, secret=secret).erase(dry_run=False)
    assert (result.left, result.failed) == (0, False), result
    return result.why


def check(database: Database, number: str = NUMBER, secret: str = "") -> int:
    return invoke(database, "check", number, CALLBACKS_FORGET_SECRET=secret).exit_code


@pytest.mark.parametrize(("how", "secret"), [("erase", ""), ("erase", SECRET), ("pseudonymise", SECRET)])
@pytest.mark.parametrize("kind", BACKENDS)
def test_a_forgotten_number_stays_opted_out_until_a_later_start(
    kind: str, how: Literal["erase", "pseudonymise"], secret: str, new_database: NewDatabase
) -> None:
    database = new_database(kind)
    stop = said("STOP", minutes=2, sender=f"+{NUMBER}")
    write(database, said("STOP", minutes=1, sender=OTHER), stop, secret=secret)

    assert forget(database, secret, how) == "1 opt-out among them: kept under a keyed digest, without the number"

    assert [NUMBER in str(database.table(name)) for name in ("opt_outs", "digest_keys")] == [False, False]
    assert kind != "sqlite" or traces(database) == []
    assert [check(database, number, secret) for number in (NUMBER, f"00{NUMBER}", OTHER)] == [1, 1, 1]
    assert check(database, "43664123456", secret) == 0
    # What was said before, and the same reply again, change nothing; nor does forgetting again.
    write(database, said("START", minutes=1, sender=NUMBER), stop, secret=secret)
    assert NUMBER not in str(database.table("opt_outs"))
    assert (forget(database, secret, how), check(database, NUMBER, secret)) == ("", 1)

    write(database, said("START", minutes=3, sender=NUMBER), secret=secret)

    assert check(database, NUMBER, secret) == 0
    assert len(database.table("opt_outs")) == 2
    forget(database, secret, how)
    assert (check(database, NUMBER, secret), len(database.table("opt_outs"))) == (0, 1)


def test_list_and_export_show_it_as_forgotten_and_import_skips_it(new_database: NewDatabase) -> None:
    database = new_database("sqlite")
    write(database, said("STOP", minutes=1, sender=OTHER), said("STOP", minutes=2, sender=NUMBER))
    forget(database)

    first, *_, last = invoke(database, "list").stdout.splitlines()
    assert first == "2026-11-01T12:02:00.000Z  out  forgotten  main  VIBER  -"
    assert last == "2 numbers opted out in total"
    exported = invoke(database, "export", "--numbers", "full").stdout
    line = json.loads(exported.splitlines()[0])
    assert (line["number"], line["opted_out"], line["forgotten"]) == (None, True, True)
    as_csv = invoke(database, "export", "--numbers", "full", "--csv").stdout
    assert as_csv.splitlines()[1].startswith("forgotten,")
    for given in (exported, as_csv):
        ended = invoke(database, "import", given=given)
        assert ended.stdout == "read: 2; changed: 0 numbers; skipped: 1 forgotten number\n", ended.output


def test_without_the_key_nobody_can_say_that_a_number_may_be_written_to(new_database: NewDatabase) -> None:
    database = new_database("sqlite")
    write(database, said("STOP", minutes=1, sender=NUMBER))
    forget(database, SECRET)

    for secret in ("", "another secret of this test"):
        ended = invoke(database, "check", NUMBER, CALLBACKS_FORGET_SECRET=secret)
        assert (ended.exit_code, "set CALLBACKS_FORGET_SECRET as it was" in ended.stderr) == (2, True), ended.output
    # A worker without the key writes the later wish, which counts.
    write(database, said("START", minutes=2, sender=NUMBER))
    assert check(database, NUMBER, SECRET) == 0


def test_somebody_elses_opt_out_that_mentions_the_number_keeps_its_own(new_database: NewDatabase) -> None:
    database = new_database("sqlite")
    write(database, said("STOP", minutes=1, sender=OTHER, recipient=f"+{NUMBER}"))

    forget(database)

    (row,) = database.table("opt_outs")
    assert (row["number"], row["number_key"], row["recipient"]) == (OTHER, OTHER, None)
    assert check(database, OTHER) == 1


def test_a_wish_that_changed_meanwhile_is_forgotten_as_it_is_by_then(new_database: NewDatabase) -> None:
    database = new_database("sqlite")
    write(database, said("START", minutes=1, sender=NUMBER))
    tables = SqlTables(database.address, SEARCH)
    written = tables._write

    def late(engine: Any, table: Any, row_keys: Any) -> None:
        write(database, said("STOP", minutes=2, sender=NUMBER))
        written(engine, table, row_keys)

    tables._write = late  # type: ignore[method-assign]
    result = tables.erase(dry_run=False)

    assert (result.found, result.erased, result.left) == (1, 1, 0)
    assert (forget(database), check(database)) == ("", 1)
