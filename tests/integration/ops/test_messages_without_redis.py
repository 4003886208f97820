"""The page *Messages* while Redis is unavailable: what the database has is shown."""

import asyncio
from pathlib import Path

import httpx

from callbacks.ops.app import create_app
from shared import settings
from tests.integration.sql.databases import Database, report
from tests.redis_server import free_port


def test_a_message_is_shown_from_the_database_and_its_deliveries_are_unknown(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/messages.db")
    database.write(report("DELIVRD", message_id="m-1"))
    environ = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0", "DATABASE_URL": database.url}

    async def get(*paths: str) -> list[httpx.Response]:
        app = create_app(settings.load(environ, process="ops"))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as client:
            return [await client.get(path) for path in paths]

    listed, shown, unknown = asyncio.run(get("/messages", "/messages?id=m-1", "/messages?id=m-2"))

    assert (listed.status_code, shown.status_code, unknown.status_code) == (200, 200, 503)
    assert 'href="/messages?id=m-1"' in listed.text
    assert "Redis does not answer, so what became of each status" in shown.text
    assert '<td class="deliveries-cell">unknown</td>' in shown.text
