"""A job on one line, for people."""

from callbacks.cli.terminal_text import short
from shared.counted import counted
from workers.handlers.sql.history_results import JobSummary


def job_line(job: JobSummary) -> str:
    """Return the names of a job and what became of its messages."""
    return (
        f"job {job_name(job.client_job_id, job.api_job_id)}: {counted(job.sent, 'message')} sent as far as known, "
        f"{job.final:,} final, {job.overdue:,} overdue, {job.delivery_rate:.1%} delivered"
    )


def job_name(client_job_id: str | None, api_job_id: str | None) -> str:
    """Return both ids of a job, the client's first; "-" for messages without either."""
    return " / ".join(short(name) for name in (client_job_id, api_job_id) if name is not None) or "-"
