"""What an error of Redis says to people: one sentence, without the full stop that the text around it adds."""

import pytest
import redis

from shared.connections import describe_error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            redis.ConnectionError("Error 111 connecting to 127.0.0.1:1. Connection refused."),
            "cannot connect to 127.0.0.1:1: Connection refused",
        ),
        (
            redis.ConnectionError("Error -2 connecting to nohost:6379. Name or service not known."),
            "cannot connect to nohost:6379: Name or service not known",
        ),
        (
            redis.ConnectionError("Error 2 connecting to unix:/run/x.sock. No such file or directory."),
            "cannot connect to unix:/run/x.sock: No such file or directory",
        ),
        (redis.ConnectionError("Error 113 connecting to ::1:6379."), "cannot connect to ::1:6379"),
        (
            redis.ConnectionError("Error 104 while writing to socket. Connection reset by peer."),
            "the connection broke: Connection reset by peer",
        ),
        (
            redis.ConnectionError("Error while reading from 127.0.0.1:1 : (104, 'Connection reset by peer')"),
            "the connection broke: Connection reset by peer",
        ),
        (
            redis.ConnectionError("Error while reading from socket: ('Connection closed by server.',)"),
            "the connection broke: Connection closed by server",
        ),
        (
            redis.sentinel.MasterNotFoundError("No master found for 'm' : <redis.client.Redis(host=a)> - b"),
            "No master found for 'm'",
        ),
        (redis.ResponseError("DB index is out of range"), "DB index is out of range"),
        (redis.TimeoutError(), "TimeoutError"),
        (
            redis.AuthenticationError("HELLO must be called with the client already authenticated, otherwise …"),
            "Redis asks for a password: put it into REDIS_URL, redis://:PASSWORD@host",
        ),
        (
            redis.AuthenticationError("Authentication required."),
            "Redis asks for a password: put it into REDIS_URL, redis://:PASSWORD@host",
        ),
    ],
)
def test_an_error_is_one_plain_sentence(error: redis.RedisError, words: str) -> None:
    assert describe_error(error) == words
