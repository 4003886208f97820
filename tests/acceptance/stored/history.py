"""A service that leaves each form of stored data behind: what its processes go through until all of them are killed.

Everything is done by the service's own processes and commands. Two things are done by hand, as no process can be made
to: a job is popped as RQ pops it, and not started; and a job looks for a while as if a newer release had written it.
"""

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import httpx

from shared import audit, keys, queues
from tests.acceptance.processes import (
    CALLBACKS,
    REPOSITORY,
    TOKEN,
    WAIT_SECONDS,
    descendants_of,
    get,
    started,
)
from tests.acceptance.stored import late_handlers, shop_handlers, stuck_handlers
from tests.acceptance.stored.shop_handlers import FINISHED_SUFFIX, LAST, WAITS_SUFFIX
from tests.redis_server import RedisServer, free_port
from workers.admin.action_log import Action
from workers.admin.bulk_action import BulkActions, RemainingRetries, RemainingWork, Work

PASSWORD: Final = "correct horse battery"
BUILT_IN: Final = ("log", "sql", "jsonl", "stream", "optout")
EARLY: Final = ",".join((*BUILT_IN, shop_handlers.__name__))
ALL: Final = f"{EARLY},{late_handlers.__name__},{stuck_handlers.__name__}"
# They are forgotten: erased, replaced by digests, and by a command that is killed.
ERASED: Final = "35699000066"
FORGOTTEN: Final = "35699000077"
FORGETTING: Final = "35699000088"
_PAYLOADS: Final = REPOSITORY / "tests" / "payloads"
_PSEUDONYMISE: Final = {
    "CALLBACKS_FORGET_SQL": "pseudonymise",
    "CALLBACKS_FORGET_SECRET": "a secret of sixteen characters",
}
# Spans are sent to nobody.
_TRACED: Final = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


def environment(redis_url: str, *, port: int, ops_port: int) -> dict[str, str]:
    """Return the settings of every process; all files are in its current folder."""
    return {
        "PYTHONPATH": str(REPOSITORY),
        "REDIS_URL": redis_url,
        "PORT": str(port),
        "CALLBACKS_OPS_PORT": str(ops_port),
        "CALLBACKS_OPS_PASSWORD": PASSWORD,
        "CALLBACKS_TOKENS": f"shop={TOKEN}",
        "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
        "CALLBACKS_HANDLERS": ALL,
        "CALLBACKS_LOG_FILE": "log.jsonl",
        "CALLBACKS_LOG_NUMBERS": "full",
        "CALLBACKS_JSONL_DIR": "events",
        "CALLBACKS_JSONL_MAX_BYTES": "4096",
        "CALLBACKS_JSONL_GZIP": "true",
        "CALLBACKS_SPOOL_DIR": "spool",
        "CALLBACKS_RUN_DIR": "run",
        "DATABASE_URL": "sqlite:///callbacks.db",
        "CALLBACKS_RETENTION_DAYS": "36500",
        "CALLBACKS_FAILURES_RETENTION_DAYS": "366",
        "CALLBACKS_NOTIFY": "webhook+https://127.0.0.1:1/notices",
        "CALLBACKS_NOTIFY_SECRET": "whsec_dGhpcnR5LXR3byBieXRlcyBvZiBhIG5vdGljZSBrZXk=",
        "CALLBACKS_NOTIFY_AFTER_SECONDS": "1",
    }


class _Interrupted(BaseException):
    """The process that runs a bulk action ends here."""


class History:
    """The service in `folder`; `play` leaves it as it is after a crash of everything."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        self._folder = folder
        self._redis = redis
        self._port, self._ops_port, self._traced_port, self._spooling_port = (free_port() for _ in range(4))
        self._environment = environment(redis.url, port=self._port, ops_port=self._ops_port)
        self._number = 0
        self._client: Any = None

    def play(self) -> None:
        """Run the service, command after command, then kill all of it."""
        with (
            started(self._folder, self._environment, forked=False) as self._start,
            closing(self._redis.client()) as client,
        ):
            self._client = client
            try:
                self._deliver_what_can_be()
                self._let_operators_act()
                self._name_late_handlers()
                self._leave_running_jobs()
                self._kill_amid_a_delivery()
                self._leave_waiting_callbacks()
            finally:
                self._kill_all()

    def _deliver_what_can_be(self) -> None:
        self._start_web(self._port)
        self._start_web(self._traced_port, CALLBACKS_SPOOL_DIR="", **_TRACED)
        self._start("ops")
        self._expand = self._start("worker", "expand", CALLBACKS_HANDLERS=EARLY, **_TRACED)
        deliver = self._start("worker", "deliver", CALLBACKS_HANDLERS=EARLY)
        self._command("handlers", "pause", "held")
        for name in (
            "status_bundle",
            "status_sms_gateway",
            "status_two_factor",
            "status_one_unreadable_record",
            "status_unreadable",
        ):
            self._post((_PAYLOADS / f"{name}.json").read_bytes())
        for name in ("reply", "reply_sticker"):
            self._post((_PAYLOADS / f"{name}.json").read_bytes(), kind="reply")
        # Stored whole, as they are not written as documented.
        self._report("delivrd", "+356 99 000 002", port=self._traced_port)
        self._post(b'{"reply_message_id": 7, "from": 35699000008, "channel": "sms", "message": "hello"}', kind="reply")
        self._report("UNDELIV", FORGOTTEN, "35699000003")
        self._reply("STOP", "35699000004")
        self._reply("STOP", ERASED)
        self._reply("STOP", FORGOTTEN)
        for _ in range(2):
            self._post(b'{"data": [{"message_id"', answer=400)
        self._post(b"callback=1&status=DELIVRD", answer=415, content_type="application/x-www-form-urlencoded")
        self._until_settled("shop", "later", "sql", "archive")
        # The worker dies at the second event. The next supervisor finds that the first was finished.
        self._report("EXPIRED", "35699000005", "35699000006", last=True)
        self._until(lambda: deliver.process.poll() is not None, "the death of a supervisor")
        self._command("handlers", "pause", "dying")

    def _let_operators_act(self) -> None:
        self._start("worker", "deliver", CALLBACKS_HANDLERS=EARLY)
        self._until(lambda: self._waiting_with("deliver-dying", "deaths"), "the dead worker's job in its queue")
        self._command("dead", "replay", "shop", "--all")
        self._until_settled("shop")
        (row, *_) = self._lines("retries", "list", "--json")
        self._command("retries", "give-up", "later", row["id"], "--yes")
        (entry, *_) = self._lines("quarantine", "list", "--json")
        self._command("quarantine", "drop", entry["id"], "--yes")
        self._command("optouts", "import", "-", given='{"number": "35699000007", "source": "paper"}\n')
        self._command("forget", ERASED)
        self._command("forget", FORGOTTEN, **_PSEUDONYMISE)
        self._sign_in_and_out()
        self._until(lambda: '"unsent":[{' in (self._client.get(keys.NOTICES) or ""), "a notice that cannot be sent")

    def _name_late_handlers(self) -> None:
        # A subscription begins when no worker is left that does not know the handler.
        assert self._expand.stop() == 0
        self._kill_workers()
        self._start("worker", "expand", **_TRACED)
        self._start("worker", "deliver")
        self._until(lambda: (self._client.hget(keys.SUBSCRIPTIONS, "fresh") or "?") != "?", "a subscription")
        self._command("backfill", "fresh", "--since", "1h")
        self._until((self._folder / f"fresh{FINISHED_SUFFIX}").exists, "past events")

    def _leave_running_jobs(self) -> None:
        """Leave a job that has coalesced others, and one whose worker was asked to stop, both in a call."""
        self._kill_workers()
        self._start("worker", "expand", **_TRACED)
        deliver = self._start("worker", "deliver", CALLBACKS_HANDLERS=EARLY)
        self._start("worker", "deliver", CALLBACKS_HANDLERS=stuck_handlers.__name__)
        self._wait_at_last("stuck", "UNKNOWN")
        self._wait_at_last("slow", "REJECTD")
        forget = self._start("forget", FORGETTING)
        self._until(lambda: self._client.exists(keys.FORGETTING), "a forgetting that waits for the calls")
        forget.process.kill()
        deliver.ask_to_stop()
        runs = "rq:execution:*"
        self._until(
            lambda: any(self._client.hexists(key, "stopping") for key in self._client.scan_iter(runs)), "a stop"
        )
        self._kill_workers()

    def _wait_at_last(self, handler: str, status: str) -> None:
        """Let a handler claim three jobs at once, and wait in one of them."""
        # A handler that was fast is given more at once.
        self._report(status, "35699000010")
        self._until((self._folder / f"{handler}{FINISHED_SUFFIX}").exists, "a call that is fast")
        self._command("handlers", "pause", handler)
        for number in (1, 2, 3):
            self._report(status, FORGETTING, f"3569900001{number}", f"3569900002{number}", last=True)
            self._until_waiting(queues.delivery_queue(handler), number)
        self._command("handlers", "resume", handler)
        self._until((self._folder / f"{handler}{WAITS_SUFFIX}").exists, "a call that lasts")

    def _kill_amid_a_delivery(self) -> None:
        """Leave a worker's completion journal, and what is published for those who watch."""
        self._start("web", PORT=str(self._spooling_port), REDIS_URL="redis://127.0.0.1:1")
        self._until(lambda: get(f"http://127.0.0.1:{self._spooling_port}/livez")[0] == 200, "a web process")
        self._start("tail").wait_for_output("Listening to")
        self._start("worker", "expand")
        deliver = self._start("worker", "deliver", CALLBACKS_HANDLERS=late_handlers.__name__)
        self._report("DELETED", "35699000041", "35699000042", last=True)
        self._until(lambda: deliver.process.poll() is not None, "the death of a supervisor")
        self._kill_workers()

    def _leave_waiting_callbacks(self) -> None:
        self._leave_a_failed_job()
        self._report("SENT", "35699000031", port=self._traced_port)
        self._report("SENT", "35699000032")
        # Blanks around a body would be lost in JSON, so it is stored as text.
        self._post(b' {"data": [{"message_id": "blanks", "status": "SENT"}]}\n')
        self._reply("two rooms, please", "35699000033")
        # Their Redis is unavailable.
        self._report("SENT", "35699000034", port=self._spooling_port)
        self._reply("one room, please", "35699000035", port=self._spooling_port)
        waiting = keys.rq_queue(queues.EXPAND)
        self._client.lmove(waiting, keys.rq_intermediate(queues.EXPAND), "LEFT", "LEFT")
        self._interrupt_bulk_actions()

    def _leave_a_failed_job(self) -> None:
        """Leave a callback whose job an expand worker could not read: it runs alone from then on."""
        for recipient in ("35699000029", "35699000030"):
            self._report("SENT", recipient)
        _, job_id = self._client.lrange(keys.rq_queue(queues.EXPAND), 0, -1)
        data = self._client.hget(keys.job(job_id), "data")
        self._client.hset(keys.job(job_id), "data", '["workers.jobs.expand",null,[1000000,[]],{}]')
        self._start("worker", "expand")
        self._until(lambda: self._client.hexists(keys.job(job_id), "failures"), "a failed run")
        self._kill_workers()
        self._client.hset(keys.job(job_id), "data", data)

    def _sign_in_and_out(self) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{self._ops_port}", timeout=30) as browser:

            def fill_in(path: str, read: str, **fields: str) -> None:
                found = re.search(r'name="csrf" value="([0-9a-f]+)"', browser.get(read).text)
                assert found
                browser.post(path, data={"csrf": found[1], **fields})

            fill_in("/sign-in", "/sign-in", name="eva", password=PASSWORD)
            fill_in("/sign-out", "/actions")

    def _interrupt_bulk_actions(self) -> None:
        """Leave two actions of a page whose process died before a step."""

        def interrupt() -> bool:
            raise _Interrupted

        works: tuple[tuple[Work, str], ...] = (
            (RemainingWork(task="replay", handler="shop", ids=("0" * 24,)), "dead:shop"),
            (RemainingRetries(task="retry", job_ids=("0" * 32,)), "retries"),
        )
        with self._redis.client(decode_responses=False) as client:
            actions = BulkActions(client)
            for work, where in works:
                action = Action(who="eva", by="page", what=work.task, where=where, chosen="1 selected", number=1)
                with suppress(_Interrupted):
                    actions.run(actions.start(action, work), is_stopping=interrupt)

    def _report(self, status: str, *recipients: str, last: bool = False, port: int | None = None) -> None:
        """Post a report of this status to each recipient; `last` marks the last one."""
        records = []
        for recipient in recipients:
            self._number += 1
            is_last = last and recipient == recipients[-1]
            records.append(
                {
                    "message_id": f"14466445287300{self._number:06}",
                    "client_message_id": LAST if is_last else f"order-{self._number}",
                    "type": "SMS",
                    "status": status,
                    "to": recipient,
                    "from": "Shop",
                    "timestamp": int(time.time()),
                }
            )
        self._post(json.dumps({"client_job_id": "autumn", "data": records}).encode(), port=port)

    def _reply(self, text: str, sender: str, *, port: int | None = None) -> None:
        self._number += 1
        body = {
            "reply_message_id": f"r-{self._number}",
            "from": sender,
            "to": "Shop",
            "channel": "SMS",
            "message": {"text": text},
        }
        self._post(json.dumps(body).encode(), kind="reply", port=port)

    def _post(
        self,
        body: bytes,
        *,
        kind: str = "status",
        answer: int = 200,
        content_type: str = "application/json",
        port: int | None = None,
    ) -> None:
        url = f"http://127.0.0.1:{port or self._port}/callbacks/{TOKEN}/{kind}"
        request = urllib.request.Request(url, body, {"content-type": content_type}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as answered:
                status = answered.status
        except urllib.error.HTTPError as exc:
            with exc:
                status = exc.code
        assert status == answer, f"{body!r} was answered {status}"

    def _start_web(self, port: int, **extra: str) -> None:
        self._start("web", PORT=str(port), **extra)
        self._until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "a web process that is ready")

    def _command(self, *words: str, given: str = "", **extra: str) -> str:
        ended = subprocess.run(
            [CALLBACKS, *words],
            cwd=self._folder,
            env={**os.environ, **self._environment, **extra},
            input=given,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
        assert ended.returncode == 0, f"{words}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def _lines(self, *words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._command(*words).splitlines()]

    def _until_settled(self, *handlers: str) -> None:
        """Wait until each event is delivered to these handlers, dead, or waits for a later time."""
        with self._redis.client(decode_responses=False) as client:

            def is_settled() -> bool:
                waiting = [queues.EXPAND, *map(queues.delivery_queue, handlers)]
                lists = [name(queue) for queue in waiting for name in (keys.rq_queue, keys.rq_intermediate)]
                busy = sum(map(client.llen, lists)) + sum(client.zcard(keys.rq_started(queue)) for queue in waiting)
                return not busy and audit.run(client).balances

            self._until(is_settled, "the end of all deliveries")

    def _until_waiting(self, queue: str, jobs: int) -> None:
        self._until(lambda: self._client.llen(keys.rq_queue(queue)) == jobs, f"{jobs} jobs of {queue}")

    def _waiting_with(self, queue: str, field: str) -> bool:
        jobs = self._client.lrange(keys.rq_queue(queue), 0, -1)
        return any(self._client.hexists(keys.job(job_id), field) for job_id in jobs)

    def _until(self, true: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not true():
            assert time.monotonic() < deadline, f"{what} did not happen in {self._folder}"
            time.sleep(0.02)

    def _processes(self) -> dict[int, str]:
        return descendants_of(self._folder)

    def _kill_workers(self) -> None:
        """Kill all workers and their supervisors, as a power cut does."""
        for pid, command in self._processes().items():
            if " worker" in command or "--lifeline" in command:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        # Until Redis has noticed, it would give a job to a worker that is dead.
        self._until(lambda: not self._client.info("clients")["blocked_clients"], "the end of their connections")

    def _kill_all(self) -> None:
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
