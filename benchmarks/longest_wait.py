"""How long a large body keeps the web process from everything else: the longest wait of a request sent meanwhile."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from benchmarks import bodies
from benchmarks.deployment import TargetUrl
from benchmarks.one_connection import exchange

_BODY_BYTES: Final = 11 << 20
# It has no id and no status that can be read, so the body has to be read in full, and cannot be accepted as it is.
_BAD_RECORD: Final = b'{"message_id":[],"status":[]}'
_PROBE: Final = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
# Requests before and after the body, as a comparison of the machine's own pauses would have them.
_PAUSE_SECONDS: Final = 0.002


def longest_wait_ms(url: TargetUrl) -> float:
    """Post 11 MB of reports, one of them bad; return the longest that a small request had to wait meanwhile, in ms."""
    request = url.request(_large_body())
    longest = 0.0
    with url.connect() as connection, url.connect() as probe, ThreadPoolExecutor(1) as executor:
        exchange(probe, _PROBE)
        posting = executor.submit(exchange, connection, request)
        while not posting.done():
            started = time.perf_counter()
            exchange(probe, _PROBE)
            longest = max(longest, time.perf_counter() - started)
            time.sleep(_PAUSE_SECONDS)
        posting.result()
    return longest * 1000


def _large_body() -> bytes:
    """Return a status callback of some 50,000 reports, the last of them bad."""
    one = bodies.body(0, reports=1)
    head, _, record = one.partition(b'"data":[')
    record = record.removesuffix(b"]}")
    records = (_BODY_BYTES - len(one)) // (len(record) + 1)
    return head + b'"data":[' + (record + b",") * records + _BAD_RECORD + b"]}"
