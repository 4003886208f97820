"""The table of all stores that can hold a person's number or texts; docs/privacy.md has it.

A new store of ours needs a row here and, if it can hold a number, its place in `callbacks.cli.person_stores`.
"""

from collections.abc import Iterator
from typing import Final, Protocol

from msgspec import Struct

from workers.personal_data.report import FoundItem, StoreResult


class PersonStore(Protocol):
    """A store that is searched for the numbers with which it was made; `name` is that of its row."""

    name: str

    def erase(self, *, dry_run: bool) -> StoreResult:
        """Erase what mentions a number, and return what was found and erased; with `dry_run` only count it."""

    def export(self) -> Iterator[FoundItem]:
        """Yield what mentions a number. Raise StoreUnreadable, OSError or redis.RedisError, at the end if it can."""


class StoreRow(Struct, frozen=True, kw_only=True):
    """One store: where it is, how a number is found in it, how it is erased there, and until when data stay.

    `keys` are the patterns of the keys in Redis (`shared.keys`), those of RQ with `rq:`.
    """

    name: str
    where: str
    keys: tuple[str, ...] = ()
    found: str
    erased: str
    until: str


# In the direction in which events move.
ROWS: Final = (
    StoreRow(
        name="spool",
        where="the folder `CALLBACKS_SPOOL_DIR` of each web process's host",
        found="the bytes of its files are searched, on this host",
        erased="it drains into Redis, where what mentions the number is dropped; a drained file is deleted",
        until="Redis is available",
    ),
    StoreRow(
        name="waiting",
        where="Redis: callbacks that wait to be expanded, events that wait for a handler, run or will be retried",
        keys=("rq:job:<id>", "cb:events"),
        found="every job is read",
        erased="the job is rewritten without those records or events; what runs is waited for",
        until="delivered, or a dead letter",
    ),
    StoreRow(
        name="failures",
        where="Redis: quarantine and dead letters",
        keys=("cb:quarantine:<id>", "cb:dead:<handler>:<id>"),
        found="every failure is read",
        erased="the failure is deleted; of a bundle only the records with the number",
        until="replayed or dropped, at the latest after `CALLBACKS_FAILURES_RETENTION_DAYS` (30) days",
    ),
    StoreRow(
        name="actions",
        where="Redis: what is left to do of operators' bulk actions, with the text that was searched for",
        keys=("cb:actions:<id>:work",),
        found="every one is read",
        erased="it is deleted; an action that runs ends after its step",
        until="the action ends, at most a day after its last step",
    ),
    StoreRow(
        name="sql",
        where="the database of `DATABASE_URL`: messages, statuses, replies, opt-outs",
        found="every row is read",
        erased="rows are deleted, or keep keyed digests (`CALLBACKS_FORGET_SQL`), as opt-outs always do; then VACUUM",
        until="`CALLBACKS_SQL_RETENTION_DAYS`, or erased; opt-outs only until erased",
    ),
    StoreRow(
        name="jsonl",
        where="the folder `CALLBACKS_JSONL_DIR` of this host: open, closed and compressed files",
        found="every line is read",
        erased="the file is written anew without those lines",
        until="the file is removed",
    ),
    StoreRow(
        name="stream",
        where="the Redis stream `CALLBACKS_STREAM_KEY`",
        found="every entry is read",
        erased="the stream is written anew without those entries; consumer groups stay as they are",
        until="`CALLBACKS_STREAM_MAXLEN` newer entries have come",
    ),
    StoreRow(
        name="log",
        where="the file `CALLBACKS_LOG_FILE` of the handler `log` on this host",
        found="every line is read; a masked number is not found",
        erased="the file is written anew without those lines",
        until="the file is rotated or removed",
    ),
    StoreRow(
        name="handler:NAME",
        where="wherever a handler of your own stores events",
        found="by the handler, if it declares `@handler(…, forget=function)`",
        erased="its function is called with each number",
        until="the handler says",
    ),
    StoreRow(
        name="redis-files",
        where="the append-only file of Redis, its dump where `save` is set, its slow log in memory",
        found="it is not read",
        erased="Redis writes the files anew after the erasure, and the command waits for that; the slow log is emptied",
        until="Redis writes the file anew",
    ),
)

# Keys of ours that never hold a number or a text: ids and digests, counters, names and settings of handlers.
KEYS_WITHOUT_NUMBERS: Final = (
    "cb:seen",
    "cb:seen:<generation>:<number>",
    "cb:coalesced:<job id>",
    "cb:events:jobs",
    "cb:forgotten",
    "cb:forgetting",
    "cb:counts",
    "cb:metrics",
    "cb:metrics:processes",
    "cb:metrics:<process>",
    "cb:retention",
    "cb:recent-rate",
    "cb:recent-outcomes",
    "cb:live",
    "cb:quarantine",
    "cb:quarantine:bytes",
    "cb:dead:<handler>",
    "cb:dead:<handler>:bytes",
    "cb:paused:<handler>",
    "cb:subscriptions",
    "cb:filters",
    "cb:notices",
    "cb:notices:sender",
    "cb:revoked-session:<session>",
    "cb:deliveries",
    "cb:deliveries:<ring>:<number>",
    "cb:backfilled:<handler>:<2 hex digits>",
    "cb:actions",
    "cb:actions:<id>",
    "cb:actions:<id>:replayed",
    "cb:actions:<id>:runner",
)

# What no command of ours can reach.
NOT_REACHED: Final = (
    "backups, and snapshots of disks and of the database",
    "disks of Redis's replicas, until they have rewritten their own files",
    "freed blocks of disks, until they are used again",
    "files on other hosts (`jsonl`, `log`, what a spool could not drain): run the command there too",
    "rotated files of `log`, files of `jsonl` that were moved away, and lines in which numbers are masked",
    "what consumers of `stream` have stored, and targets of `forward` and handlers without `_FORGET` or `forget=`",
    "what was printed: standard output, the output of commands, the logs of a proxy",
)

# What of those that `forget` reaches an export does not: only they can read what they hold.
NOT_EXPORTED: Final = (
    "what handlers of your own and targets of `forward` have stored, also those that erase it on request"
)
