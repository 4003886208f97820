"""Events reach one handler: a run calls it, settles what became of each event, and schedules retries."""
