"""What a newcomer would write instead, with each of the usual queues: endpoint, task, worker; fair, and no more."""
