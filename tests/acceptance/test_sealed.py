"""With a key, real processes leave no number and no text in any file of Redis or of the spool; people still see them.

A report and a reply with both in each field, and what cannot be read, pass all stages: they are delivered, fail, are
retried, paused, quarantined, and wait in the spool without Redis. Then a process without the key says which one
it lacks, and one that has it continues.
"""

import base64
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from shared import keys
from tests.acceptance.processes import TOKEN, get, run, started
from tests.acceptance.quoting_handlers import HANDLERS, NUMBER, TEXT
from tests.redis_server import RedisServer, free_port
from tests.text_forms import forms_of

NAMES: Final = "handlers,log"
_RECORD: Final = {"message_id": "m-1", "type": "SMS", "status": "UNDELIV", "to": f"+{NUMBER}", "from": NUMBER}
REPORT: Final = {
    "api_job_id": "job-1",
    "data": [{**_RECORD, "client_message_id": f"order-{NUMBER}", "remark": TEXT}],
}
REPLY: Final = {
    "reply_message_id": "r-1",
    "orig_message_id": "m-1",
    "from": NUMBER,
    "to": "Fortytwo",
    "channel": "VIBER",
    "message": {"text": TEXT, "caption": TEXT},
    "remark": TEXT,
}
UNREADABLE: Final = {"data": [{"to": NUMBER, "status": ["UNDELIV"], "text": TEXT}]}
NO_JSON: Final = f'{{"data": [{{"to": "{NUMBER}", "text": "{TEXT}"'
# Of what `Reject` and `raise` leave, and of what the web process and expand quarantine.
DEAD, QUARANTINED = 4, 2


class Service:
    """The service in a folder, with a file of keys, and a Redis whose files are searched."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        self.folder, self.redis, self.port = folder, redis, free_port()
        self.environment = {
            "REDIS_URL": redis.url,
            "PORT": str(self.port),
            "CALLBACKS_TOKENS": f"acceptance={TOKEN}",
            "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
            "CALLBACKS_HANDLERS": NAMES,
            "CALLBACKS_LOG_FILE": str(folder / "events.log"),
            "CALLBACKS_LOG_LEVEL": "DEBUG",
            "CALLBACKS_SEAL_KEYS_FILE": str(self.write_keys("keys", new_key())),
        }

    def write_keys(self, name: str, *found: str) -> Path:
        path = self.folder / name
        path.write_text("\n".join(found))
        return path

    def post(self, body: str, kind: str) -> None:
        url = f"http://127.0.0.1:{self.port}/callbacks/{TOKEN}/{kind}"
        request = urllib.request.Request(url, body.encode(), {"content-type": "application/json"}, method="POST")
        try:
            urllib.request.urlopen(request, timeout=30).close()
        except urllib.error.HTTPError as refused:
            refused.close()

    def is_ready(self) -> bool:
        return get(f"http://127.0.0.1:{self.port}/readyz")[0] == 200

    def command(self, *words: str, **environment: str) -> str:
        ended = run(*words, cwd=self.folder, environment={**self.environment, **environment})
        return ended.stdout + ended.stderr

    def first_dead(self) -> str:
        with self.redis.client() as client:
            return str(client.zrange(keys.dead("raising"), 0, 0)[0])

    def dead(self) -> int:
        with self.redis.client() as client:
            return sum(client.zcard(keys.dead(handler)) for handler in ("raising", "rejecting"))

    def shown_in_files(self) -> set[bytes]:
        """Return the forms of the number and the text that a file of Redis or of the spool shows."""
        with self.redis.client() as client:
            client.save()
        folders = (self.redis.folder, self.folder / "var" / "spool")
        contents = [path.read_bytes() for one in folders for path in one.rglob("*") if path.is_file()]
        return {form for form in forms_of(NUMBER, NUMBER[-7:], TEXT) if any(form in content for content in contents)}


def new_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    with RedisServer({"rdbcompression": "no"}) as redis:
        yield Service(tmp_path, redis)


def test_no_file_shows_what_waits_and_who_has_the_key_sees_it(service: Service) -> None:
    with started(service.folder, service.environment) as start:
        web = start("web")
        web.until(service.is_ready, "readiness")
        # Into the spool first, so that its files are searched while they hold something.
        service.redis.kill()
        for body, kind in ((json.dumps(REPORT), "status"), (json.dumps(REPLY), "reply")):
            service.post(body, kind)
        spooled = [path.read_bytes() for path in (service.folder / "var" / "spool").iterdir()]
        assert max(map(len, spooled)) > len(json.dumps(REPORT))
        assert not [form for form in forms_of(NUMBER, TEXT) if any(form in content for content in spooled)]
        service.redis.start()
        workers = [start("worker", "expand"), start("worker", "deliver")]
        for unreadable in (json.dumps(UNREADABLE), NO_JSON):
            service.post(unreadable, "status")
        web.until(lambda: is_settled(service), "all of it is settled", pause_seconds=0.2)

        assert service.shown_in_files() == set()
        assert NUMBER in service.command("dead", "show", "raising", service.first_dead(), "--numbers", "full")
        assert NUMBER in service.command("dead", "export", "raising", "--numbers", "full")
        assert NUMBER in service.command("export", NUMBER)
        without = service.command("dead", "show", "raising", service.first_dead(), CALLBACKS_SEAL_KEYS_FILE="")
        assert "CALLBACKS_SEAL_KEYS_FILE is not set" in without

        for one in workers:
            one.stop()
        service.post(json.dumps(REPORT).replace("m-1", "m-2"), "status")
        keyless = start("worker", "expand", CALLBACKS_SEAL_KEYS_FILE=str(service.write_keys("other", new_key())))
        keyless.wait_for_output("action=job_sealed")
        assert keyless.stop() == 0
        assert service.dead() == DEAD
        both = service.write_keys("both", new_key(), Path(service.environment["CALLBACKS_SEAL_KEYS_FILE"]).read_text())
        for words in (("worker", "expand"), ("worker", "deliver")):
            start(*words, CALLBACKS_SEAL_KEYS_FILE=str(both))
        web.until(lambda: service.dead() == DEAD + 2, "it is delivered", pause_seconds=0.2)
        logs = "".join(path.read_text(errors="replace") for path in service.folder.glob("*.log"))
        assert Path(service.environment["CALLBACKS_SEAL_KEYS_FILE"]).read_text() not in logs
    # The same search finds what was never sealed.
    with service.redis.client() as client:
        client.set("plain", f"{NUMBER} {TEXT}")
    assert {NUMBER.encode(), TEXT.encode()} <= service.shown_in_files()


def is_settled(service: Service) -> bool:
    with service.redis.client() as client:
        return (
            service.dead() == DEAD
            and client.zcard(keys.QUARANTINE) == QUARANTINED
            and client.exists(keys.paused("pausing")) == 1
            and client.zcard("rq:scheduled:deliver-retrying") == 2
        )
