"""`/api` does what its OpenAPI document says, tried by schemathesis against a real process.

`make test` tries each parameter at its limits and beyond them; `make api` (API_EXAMPLES) tries thousands of requests.
"""

import os
import subprocess
import sys
from pathlib import Path

from shared import keys
from tests.acceptance.processes import get, started
from tests.integration.sql.databases import Database, reply, report
from tests.redis_server import RedisServer, free_port

TOKEN = "act-secret-of-the-test"
# A cursor that no answer gave is refused, and no schema can tell it from one.
EXCLUDED = "positive_data_acceptance"
EXAMPLES = int(os.environ.get("API_EXAMPLES", "0"))


def test_the_api_does_what_its_document_says(redis_server: RedisServer, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/callbacks.db")
    database.write(*(report(status, message_id=f"m-{number}") for number in range(3) for status in ("SENT", "DELIVRD")))
    database.write(reply("Yes", orig_message_id="m-1"))
    database.close()
    with redis_server.client() as client:
        client.hset(keys.COUNTS, keys.handler_counter("crm", "report", "delivered"), 1)
    port = free_port()
    environment = {
        "REDIS_URL": redis_server.url,
        "DATABASE_URL": database.url,
        "CALLBACKS_OPS_PORT": str(port),
        "CALLBACKS_OPS_TOKENS": f"test:act={TOKEN}",
        "CALLBACKS_OPS_REQUESTS_PER_MINUTE": "1000000",
    }
    with started(tmp_path, environment) as start:
        ops = start("ops")
        ops.until(lambda: get(f"http://127.0.0.1:{port}/livez")[0] == 200, "the operators' service")
        tried = subprocess.run(
            [
                *(Path(sys.executable).with_name("schemathesis"), "run", f"http://127.0.0.1:{port}/api/openapi.json"),
                *("--header", f"Authorization: Bearer {TOKEN}", "--exclude-checks", EXCLUDED),
                *("--phases", "coverage,fuzzing,stateful" if EXAMPLES else "coverage"),
                *(
                    ("--max-examples", str(EXAMPLES), "--generation-database", "none")
                    if EXAMPLES
                    else ("--generation-deterministic",)
                ),
                *("--warnings", "off", "--no-color", "--continue-on-failure"),
            ],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
        log = ops.output

    assert tried.returncode == 0, tried.stdout[-8000:] + tried.stderr
    assert "8 selected / 8 total" in tried.stdout
    assert TOKEN not in log
    assert "Traceback" not in log
