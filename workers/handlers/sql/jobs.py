"""Send requests (jobs) as far as their messages are known: how many, how many are final, overdue and delivered."""

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, case, func, select

from workers.handlers.sql.conditions import is_of_job, is_overdue
from workers.handlers.sql.current_status import DELIVERED
from workers.handlers.sql.history_results import JobSummary
from workers.handlers.sql.tables import messages


def read_jobs(
    connection: Connection,
    *,
    overdue_before: datetime,
    since: datetime | None = None,
    job: str | None = None,
    limit: int,
) -> list[JobSummary]:
    """Return jobs with their newest message first: those of messages first seen `since`, or those with the id `job`.

    `job` is the gateway's id or the client's.
    """
    newest = func.max(messages.c.first_received_at)
    # Some reports of a job may lack the client's id, which matters only where it is the one that is known.
    only_client = case((messages.c.api_job_id.is_(None), messages.c.client_job_id))
    query = (
        select(
            messages.c.api_job_id,
            func.max(messages.c.client_job_id).label("client_job_id"),
            func.count().label("sent"),
            _count_if(messages.c.is_final.is_(True)).label("final"),
            _count_if(is_overdue(overdue_before)).label("overdue"),
            _count_if(messages.c.status.in_(sorted(DELIVERED))).label("delivered"),
            func.min(messages.c.first_received_at).label("first_received_at"),
            func.max(messages.c.last_received_at).label("last_received_at"),
        )
        .group_by(messages.c.api_job_id, only_client)
        .order_by(newest.desc(), messages.c.api_job_id, only_client)
        .limit(limit)
    )
    if since is not None:
        query = query.where(messages.c.first_received_at >= since)
    if job is not None:
        query = query.where(is_of_job(job))
    rows = connection.execute(query).mappings().all()
    return [JobSummary(**row, delivery_rate=round(row["delivered"] / row["sent"], 4)) for row in rows]


def _count_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))
