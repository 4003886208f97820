"""One odd value in one field costs at most its own record: every good record next to it is delivered."""

import http.client
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from shared import audit
from tests.acceptance.processes import TOKEN, Running, get
from tests.redis_server import RedisServer

REPORT_FIELDS: Final = (
    *("type", "message_id", "status", "timestamp", "micro_timestamp", "to", "from", "client_message_id", "error_code"),
    *("sms_from", "viber_from"),
)
ENVELOPE_FIELDS: Final = ("api_job_id", "client_job_id")
REPLY_FIELDS: Final = (
    *("reply_message_id", "req_uuid", "api_job_id", "client_job_id", "orig_message_id", "channel", "timestamp"),
    *("micro_timestamp", "from", "to", "message"),
)
# As they stand in the body: JSON by the grammar, but for the last two.
VALUES: Final = (
    *(
        '"\\n"',
        '"1\\n"',
        '"\\r"',
        '"\\t1"',
        '" 1"',
        '"1 "',
        '"+1"',
        '"-"',
        '"--1"',
        '"1_000"',
        '"0x10"',
        '"1e5"',
        '"1.5"',
    ),
    *('"\\u0661"', '"\\u00b2"', '"\\u2028"', '"\\u0085"', '"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '""', '" "'),
    *(
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-1",
        "1.5",
        "1E5",
        "-0.0",
        "1e308",
        "8.6e+47",
        "[]",
        "{}",
        "[1]",
        '{"text":1}',
    ),
    *("100000000000000000", "100000000000000001", "-100000000000000001", "9223372036854775808", "18446744073709551616"),
    *("253402300800", "253402300799999", "-62135596800", "-62135596801", "9" * 100, f'"{"9" * 17}"', f'"{"9" * 100}"'),
    *(
        '"NaN"',
        '"Infinity"',
        '"None"',
        f'"{"x" * 5000}"',
        '"\\ud83d\\ude00"',
        "[" * 90 + "]" * 90,
        '{"a":' * 90 + "1" + "}" * 90,
    ),
    *("NaN", "1e999"),
)


def bundles() -> Iterator[tuple[str, str]]:
    """Yield each body with the message id of the good record in it."""
    number = itertools.count(1)
    for field, value in itertools.product(REPORT_FIELDS, VALUES):
        good = f"good-{next(number)}"
        fields = {"message_id": f'"odd-{good}"', "status": '"DELIVRD"', field: value}
        odd = ",".join(f'"{name}":{text}' for name, text in fields.items())
        yield f'{{"data":[{{{odd}}},{{"message_id":"{good}","status":"SEEN"}}]}}', good
    for field, value in itertools.product(ENVELOPE_FIELDS, VALUES):
        good = f"good-{next(number)}"
        yield f'{{"{field}":{value},"data":[{{"message_id":"{good}","status":"SEEN"}}]}}', good


def replies() -> Iterator[str]:
    """Yield replies with one odd value each; none of them has a sibling."""
    for index, (field, value) in enumerate(itertools.product(REPLY_FIELDS, VALUES)):
        fields = {"reply_message_id": f'"reply-{index}"', "req_uuid": f'"request-{index}"', field: value}
        yield "{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"


def test_every_good_record_next_to_an_odd_one_is_delivered(
    start: Callable[..., Running], tmp_path: Path, port: int, redis_server: RedisServer
) -> None:
    web = start("web")
    web.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")
    workers = [start("worker", "expand"), start("worker", "deliver")]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    accepted: set[str] = set()
    for path, body, good in (
        *(("status", body, good) for body, good in bundles()),
        *(("reply", body, "") for body in replies()),
    ):
        connection.request("POST", f"/callbacks/{TOKEN}/{path}", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        reply_body = json.loads(answer.read())
        # Not JSON by the grammar: NaN is 400, and only that.
        assert answer.status == (400 if "NaN," in body or ":NaN" in body else 200), (body[:200], reply_body)
        if answer.status == 200 and good and reply_body["status"] == "accepted":
            accepted.add(good)
    connection.close()

    with redis_server.client(decode_responses=False) as client:
        workers[1].until(lambda: audit.run(client).pending == 0, "an empty queue")
        sums = audit.run(client)

    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    delivered = {event["message_id"] for event in events if event["kind"] == "report"}
    assert len(accepted) > 600
    assert accepted - delivered == set()
    assert len(events) == len({event["id"] for event in events}) == sums.unique
    assert sums.balances
    output = "".join(process.output for process in workers)
    assert not re.findall(r"action=(?:job_failed|job_unreadable|fault).*", output)
