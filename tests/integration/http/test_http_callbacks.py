"""A callback that is posted as documented: the answer, and what is in Redis by then."""

import json
import socket

import pytest

from tests.redis_server import RedisServer
from tests.web_process import TOKEN, StartWeb, WebProcess, counts, jobs, kept, payload, quarantine, report

ACCEPTED = b'{"status":"accepted"}'


@pytest.mark.parametrize(
    ("name", "path", "counted"),
    [
        ("status_bundle", "status", {"report.received": 3}),
        ("status_bundle", "", {"report.received": 3}),
        ("status_two_factor", "status", {"report.received": 1}),
        ("status_sms_gateway", "status", {"report.received": 2}),
        ("status_sms_gateway", "", {"report.received": 2}),
        ("reply", "reply", {"reply.received": 1}),
        ("reply", "", {"reply.received": 1}),
        ("reply_sticker", "reply", {"reply.received": 1}),
    ],
)
def test_a_documented_callback_is_accepted_and_stored(
    web: WebProcess, redis_server: RedisServer, name: str, path: str, counted: dict[str, int]
) -> None:
    answer = web.post(payload(name), path)
    assert (answer.status_code, answer.content) == (200, ACCEPTED)
    assert answer.headers["content-type"] == "application/json"
    assert "server" not in answer.headers
    [callback] = kept(redis_server)
    assert (callback.kind, callback.source) == (name.partition("_")[0], "gateway")
    assert callback.body.encode() == payload(name)
    assert counts(redis_server) == counted == {next(iter(counted)): callback.records}
    assert quarantine(redis_server) == []


@pytest.mark.parametrize("media_type", ["application/json", "text/plain", "application/octet-stream", "nonsense"])
def test_whatever_the_content_type_says_json_is_json(
    web: WebProcess, redis_server: RedisServer, media_type: str
) -> None:
    assert web.post(payload("reply"), "reply", **{"content-type": media_type}).status_code == 200
    assert len(kept(redis_server)) == 1


def test_a_missing_content_type_is_no_reason_to_refuse(web: WebProcess, redis_server: RedisServer) -> None:
    with web.client() as client:
        answer = client.post(f"/callbacks/{TOKEN}/reply", content=payload("reply"))
    assert answer.content == ACCEPTED
    assert len(kept(redis_server)) == 1


def test_the_identity_encoding_is_none(web: WebProcess) -> None:
    assert web.post(payload("reply"), "reply", **{"content-encoding": "Identity"}).content == ACCEPTED


def test_a_chunked_body_is_accepted(web: WebProcess, redis_server: RedisServer) -> None:
    body = payload("status_bundle")
    with web.client() as client:
        answer = client.post(
            f"/callbacks/{TOKEN}/status", content=(body[start : start + 7] for start in range(0, len(body), 7))
        )
    assert answer.content == ACCEPTED
    assert kept(redis_server)[0].body.encode() == body


def test_a_body_in_many_small_pieces_is_accepted(web: WebProcess, redis_server: RedisServer) -> None:
    body = payload("reply")
    with socket.create_connection(("127.0.0.1", web.port)) as connection:
        connection.sendall(b"POST /callbacks/%s/reply HTTP/1.1\r\nHost: x\r\n" % TOKEN.encode())
        connection.sendall(b"Content-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 50):
            connection.sendall(body[start : start + 50])
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert kept(redis_server)[0].body.encode() == body


def test_pipelined_requests_are_answered_one_after_the_other(web: WebProcess, redis_server: RedisServer) -> None:
    requests = b"".join(
        b"POST /callbacks/%s/status HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
        % (TOKEN.encode(), len(report(number)), report(number))
        for number in range(5)
    )
    with socket.create_connection(("127.0.0.1", web.port)) as connection:
        connection.sendall(requests)
        received = b""
        while received.count(ACCEPTED) < 5:
            piece = connection.recv(4096)
            assert piece, received
            received += piece
    assert [callback.body.encode() for callback in kept(redis_server)] == [report(number) for number in range(5)]


def test_an_answer_is_one_packet_with_the_same_headers_as_one_that_ends_its_connection(web: WebProcess) -> None:
    heads = []
    for last in (b"", b"Connection: close\r\n"):
        with socket.create_connection(("127.0.0.1", web.port)) as connection:
            connection.sendall(
                b"POST /callbacks/%s/status HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s"
                % (TOKEN.encode(), last, len(report(1)), report(1))
            )
            answer = connection.recv(4096)
            if not last:
                assert answer.endswith(ACCEPTED), "all of it came at once"
            else:
                while piece := connection.recv(4096):
                    answer += piece
            head, _, body = answer.partition(b"\r\n\r\n")
            assert body == ACCEPTED
            lines = head.split(b"\r\n")
            assert b"date: " in head
            heads.append([line for line in lines if not line.startswith((b"date: ", b"connection: "))])
    assert heads[0] == heads[1]


def test_a_client_that_waits_for_100_continue_gets_it(web: WebProcess, redis_server: RedisServer) -> None:
    body = payload("reply")
    with socket.create_connection(("127.0.0.1", web.port)) as connection:
        connection.sendall(
            b"POST /callbacks/%s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
            % (TOKEN.encode(), len(body))
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_bundle_with_an_unreadable_record_is_stored_whole_and_the_answer_says_so(
    web: WebProcess, redis_server: RedisServer
) -> None:
    answer = web.post(payload("status_one_unreadable_record"))
    assert answer.status_code == 200
    document = answer.json()
    assert (document["status"], document["quarantined"]) == ("accepted", 1)
    assert "$.data[1].status" in document["error"]
    [callback] = kept(redis_server)
    assert callback.records == 2
    assert counts(redis_server) == {"report.received": 2}
    assert quarantine(redis_server) == []  # the workers quarantine the record


@pytest.mark.parametrize("path", ["status", ""])
def test_a_callback_of_another_shape_is_quarantined_with_200(
    web: WebProcess, redis_server: RedisServer, path: str
) -> None:
    answer = web.post(payload("status_unreadable"), path)
    assert answer.status_code == 200
    assert answer.json()["status"] == "quarantined"
    assert "$.data[0].status" in answer.json()["error"]
    [entry] = quarantine(redis_server)
    assert entry["body"].encode() == payload("status_unreadable")
    assert (entry["source"], entry["error"]) == ("gateway", answer.json()["error"])
    assert jobs(redis_server) == []


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"[]", "status"),
        (b"7", ""),
        (b'"text"', "reply"),
        (b"{}", ""),
        (b'{"data":[]}', "status"),
        (b'{"data":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "status"),
        (b'{"data":[{"message_id":"1","status":[]}]}', "status"),
    ],
)
def test_json_that_is_not_a_callback_is_quarantined(
    web: WebProcess, redis_server: RedisServer, body: bytes, path: str
) -> None:
    answer = web.post(body, path)
    assert answer.status_code == 200
    assert answer.json()["status"] == "quarantined"
    assert [entry["body"].encode() for entry in quarantine(redis_server)] == [body]


@pytest.mark.parametrize(("name", "path", "kind"), [("reply", "status", "reply"), ("status_bundle", "reply", "status")])
def test_a_callback_at_the_other_url_is_accepted_as_what_it_is(
    web: WebProcess, redis_server: RedisServer, name: str, path: str, kind: str
) -> None:
    assert web.post(payload(name), path).content == ACCEPTED
    assert [callback.kind for callback in kept(redis_server)] == [kind]
    assert f"action=misdirected kind={kind}" in web.output


@pytest.mark.parametrize(
    "body",
    [
        payload("status_bundle")[:-1],
        payload("status_bundle")[: len(payload("status_bundle")) // 2],
        b"data=%7B%7D",
        b"\xff\xfe{}",
        b'{"data":[{"message_id":"\xff","status":"SEEN"}]}',
        b'{"data":NaN}',
        b"\x1f\x8b\x08\x00",
        b" ",
        b"\0",
    ],
)
def test_a_body_that_is_not_json_gets_400_and_a_copy_is_quarantined(
    web: WebProcess, redis_server: RedisServer, body: bytes
) -> None:
    answer = web.post(body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    with redis_server.client(decode_responses=False) as client:
        [failure_id] = client.zrange("cb:quarantine", 0, -1)
        assert client.hget(b"cb:quarantine:" + failure_id, "body") == body
    assert jobs(redis_server) == []


def test_an_empty_body_is_refused_without_a_copy(web: WebProcess, redis_server: RedisServer) -> None:
    answer = web.post(b"")
    assert answer.status_code == 400
    assert answer.json()["detail"] == "The body is empty."
    assert quarantine(redis_server) == []


@pytest.mark.parametrize("promised", [b"Content-Length: 500", b"Transfer-Encoding: chunked"])
def test_a_client_that_closes_early_leaves_nothing(web: WebProcess, redis_server: RedisServer, promised: bytes) -> None:
    with socket.create_connection(("127.0.0.1", web.port)) as connection:
        connection.sendall(
            b'POST /callbacks/%s/status HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n5\r\n{"dat' % (TOKEN.encode(), promised)
        )
    assert web.post(report(1)).status_code == 200
    assert len(kept(redis_server)) == 1
    assert quarantine(redis_server) == []


def test_each_token_has_its_name(start_web: StartWeb, redis_server: RedisServer) -> None:
    web = start_web(redis_server, CALLBACKS_TOKENS="old=aaaa,new=bbbb")
    with web.client() as client:
        for token in ("bbbb", "aaaa"):
            assert client.post(f"/callbacks/{token}/status", content=report(1)).status_code == 200
    assert [callback.source for callback in kept(redis_server)] == ["new", "old"]


def test_a_percent_encoded_token_is_the_same_token(start_web: StartWeb, redis_server: RedisServer) -> None:
    web = start_web(redis_server, CALLBACKS_TOKENS="gateway=a~b")
    with web.client() as client:
        assert client.post("/callbacks/a%7Eb/status", content=report(1)).status_code == 200


def test_every_answer_is_json_that_a_machine_can_read(web: WebProcess) -> None:
    for body in (report(1), payload("status_unreadable"), b"rubbish"):
        json.loads(web.post(body).content)
