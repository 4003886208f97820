"""The conditions of the service that alerts are about: the title of each, its section in the runbook, who hears of it.

The page *Now* shows every alert. A notice (`callbacks.ops.notices`) goes out for a problem, and for a warning only if
its condition says so here: the others come and go with every campaign.
"""

from typing import Final, Literal, TypeAlias

from msgspec import Struct

ConditionName: TypeAlias = Literal[
    "audit_unbalanced",
    "backlog_age",
    "callbacks_refused",
    "dead_letters",
    "durability_lost",
    "fields_unreadable",
    "handler_failing",
    "handler_paused",
    "handler_retrying",
    "loop_failing",
    "messages_overdue",
    "no_web_process",
    "no_worker",
    "nothing_received",
    "callbacks_quarantined",
    "redis_memory",
    "redis_unavailable",
    "retention_behind",
    "senders_unknown",
    "spool_failing",
    "spool_filling",
    "spool_full",
    "status_unreadable",
]


class Condition(Struct, frozen=True, kw_only=True):
    """Its `title` in a few words, the `section` of the runbook, and whether its warnings are worth a notice."""

    title: str
    section: str
    notifies_warnings: bool = False


CONDITIONS: Final[dict[ConditionName, Condition]] = {
    "audit_unbalanced": Condition(title="Audit does not balance", section="callbacksauditdifference"),
    "backlog_age": Condition(title="Jobs wait for long", section="callbacksbacklogage"),
    "callbacks_refused": Condition(title="Callbacks refused", section="callbacksrefused", notifies_warnings=True),
    "dead_letters": Condition(title="Dead letters", section="callbacksdeadletters", notifies_warnings=True),
    "durability_lost": Condition(title="Durability lost", section="callbacksnodurability"),
    "fields_unreadable": Condition(title="Fields unreadable", section="callbacksfieldunreadable"),
    "handler_failing": Condition(title="Handler failing", section="callbackshandlerretrying"),
    "handler_paused": Condition(title="Handler paused", section="callbackshandlerretrying", notifies_warnings=True),
    "handler_retrying": Condition(title="Handler retrying", section="callbackshandlerretrying"),
    "loop_failing": Condition(title="Background loop failing", section="callbacksloopfailing"),
    "messages_overdue": Condition(title="Messages overdue", section="callbacksmessagesoverdue", notifies_warnings=True),
    "no_web_process": Condition(title="No web process", section="callbacksnowebprocess"),
    "no_worker": Condition(title="No worker", section="callbacksnoworkers"),
    "nothing_received": Condition(title="Nothing received", section="nothing-received", notifies_warnings=True),
    "callbacks_quarantined": Condition(
        title="Callbacks quarantined", section="callbacksquarantinegrowing", notifies_warnings=True
    ),
    "redis_memory": Condition(title="Redis nearly full", section="callbacksredismemory"),
    "redis_unavailable": Condition(title="Redis unavailable", section="redis-lost"),
    "retention_behind": Condition(title="Retention behind", section="callbacksretentionbehind"),
    "senders_unknown": Condition(title="Unknown senders", section="callbackssenderunknown"),
    "spool_failing": Condition(title="Spool failing", section="callbackswebspoolfailing"),
    "spool_filling": Condition(title="Spool filling", section="callbacksspoolfilling", notifies_warnings=True),
    "spool_full": Condition(title="Spool full", section="spool-full"),
    "status_unreadable": Condition(title="Status unreadable", section="status-unreadable"),
}
