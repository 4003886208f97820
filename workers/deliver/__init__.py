"""Events reach one handler: each round of a run calls it, settles what became of each event, and schedules retries."""
