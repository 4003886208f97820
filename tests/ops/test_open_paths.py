"""What asks for no password costs Redis the same whatever waits there: as many commands, as many bytes."""

from typing import Any

import httpx

from callbacks.ops.status.audit_cache import MAX_JOBS
from shared import keys, queues
from tests.ops.running_service import Service

MANY = 3 * MAX_JOBS
# Beyond one command for each job that may be read: what the processes of the service ask meanwhile by themselves.
OTHERS = 2000
JOB_BYTES = 100


def fill(service: Service, number: int) -> None:
    with service.redis.client() as client, client.pipeline(transaction=False) as pipe:
        for job in range(number):
            pipe.hset(keys.job(f"j{job}"), "items", 1)
            pipe.rpush(keys.rq_queue(queues.EXPAND), f"j{job}")
        pipe.execute()


def test_they_read_no_more_than_so_much_however_many_jobs_wait(guarded: Service) -> None:
    fill(guarded, MANY)
    with guarded.redis.client() as client, httpx.Client(base_url=guarded.ops_url, timeout=60) as asking:
        for path, status in (("/audit", 503), ("/metrics", 200), ("/livez", 200), ("/readyz", 200), ("/sign-in", 200)):
            client.config_resetstat()
            answer = asking.get(path)
            stats: Any = client.info("stats")

            assert answer.status_code == status, path
            assert stats["total_commands_processed"] < MAX_JOBS + OTHERS, path
            assert stats["total_net_output_bytes"] < (MAX_JOBS + OTHERS) * JOB_BYTES, path


def test_the_audit_says_that_too_many_jobs_wait_and_comes_back_when_they_are_done(guarded: Service) -> None:
    fill(guarded, MAX_JOBS + 1)
    with httpx.Client(base_url=guarded.ops_url, timeout=60) as asking:
        assert "callbacks audit" in asking.get("/audit").json()["checks"]["audit"]

        with guarded.redis.client() as client:
            client.lpop(keys.rq_queue(queues.EXPAND), MAX_JOBS)
        # What was found holds for a moment.
        guarded.ops.until(lambda: asking.get("/audit").json().get("waiting") == 1, "the audit")
