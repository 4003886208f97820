"""Whether the operators' page asks who a user is, and which of its settings need another one."""

from collections.abc import Iterator

from shared.settings import Settings


def is_sign_in_required(settings: Settings) -> bool:
    """Return whether the page asks: for a password, or for a header of a trusted proxy."""
    return bool(settings.ops_password or settings.ops_read_password or settings.ops_trusted_user_header)


def find_problems(settings: Settings) -> Iterator[str]:
    """Yield what is wrong, each with the variable's name and what to do."""
    if settings.ops_password and settings.ops_password == settings.ops_read_password:
        yield (
            "CALLBACKS_OPS_READ_PASSWORD: is the same as CALLBACKS_OPS_PASSWORD, which lets its users act; set another"
        )
    if settings.ops_trusted_user_header and not settings.trusted_proxies:
        yield (
            "CALLBACKS_OPS_TRUSTED_USER_HEADER: is believed only from a proxy in CALLBACKS_TRUSTED_PROXIES, "
            "which names none; name the proxy there"
        )
    if settings.ops_act_groups and not settings.ops_trusted_groups_header:
        yield "CALLBACKS_OPS_ACT_GROUPS: needs CALLBACKS_OPS_TRUSTED_GROUPS_HEADER, which names a user's groups"
    if settings.ops_trusted_groups_header and not (settings.ops_act_groups and settings.ops_trusted_user_header):
        yield (
            "CALLBACKS_OPS_TRUSTED_GROUPS_HEADER: needs CALLBACKS_OPS_TRUSTED_USER_HEADER, the header that names the "
            "user, and CALLBACKS_OPS_ACT_GROUPS, the groups that may act"
        )
