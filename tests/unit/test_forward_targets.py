"""The variables of the handler `forward`: the targets they describe, and the errors of wrong ones."""

import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from callbacks import ReplyEvent, ReportEvent
from tests.certificates import self_signed
from workers import registry
from workers.declaration import HandlerError
from workers.deliver.call.caller import Caller
from workers.handlers.forward import targets

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NAMED = "CALLBACKS_FORWARD_CRM_EU_"


def environ(prefix: str = targets.PREFIX, **options: str) -> dict[str, str]:
    given = {"URL": "https://crm.example/events", "SECRETS": SECRET, **options}
    return {f"{prefix}{name}": value for name, value in given.items()}


def problems(given: dict[str, str]) -> list[str]:
    with pytest.raises(ValueError, match="CALLBACKS_FORWARD_") as caught:
        targets.read_targets(given)
    return str(caught.value).splitlines()


def test_a_url_and_a_secret_are_enough() -> None:
    (target,) = targets.read_targets(environ())

    assert (target.name, str(target.url), target.secrets) == ("forward", "https://crm.example/events", (SECRET,))
    assert target.kinds == (ReportEvent, ReplyEvent)
    assert (target.statuses, target.channels, target.sources, target.final) == (None, None, None, None)
    assert (target.allow_private, target.timeout_seconds, target.concurrency, target.ca) == (False, 20.0, 32, None)


def test_everything_can_be_said_of_it(tmp_path: Path) -> None:
    ca = self_signed(tmp_path)
    (target,) = targets.read_targets(
        environ(
            KINDS="report",
            STATUSES="DELIVRD, SEEN",
            CHANNELS="VIBER",
            SOURCES="main,shop",
            FINAL="true",
            CA=str(ca),
            ALLOW_PRIVATE="true",
            TIMEOUT_SECONDS="2.5",
            CONCURRENCY="4",
            HEADERS="X-Key=a=b",
        )
    )

    assert target.kinds == (ReportEvent,)
    assert target.statuses == frozenset(("DELIVRD", "SEEN"))
    assert (target.channels, target.sources, target.final) == (frozenset(("VIBER",)), frozenset(("main", "shop")), True)
    assert (target.ca, target.allow_private, target.timeout_seconds, target.concurrency) == (ca, True, 2.5, 4)
    assert target.headers == {"X-Key": "a=b"}


def test_each_named_target_is_a_handler_of_its_own() -> None:
    found = targets.read_targets({**environ(NAMED, KINDS="reply"), **environ(), **environ("CALLBACKS_FORWARD_CA_")})

    assert [target.name for target in found] == ["forward", "forward-ca", "forward-crm_eu"]
    assert found[2].kinds == (ReplyEvent,)


def test_secrets_may_stand_in_a_file_and_be_several(tmp_path: Path) -> None:
    other = "whsec_" + "A" * 32
    file = tmp_path / "secrets"
    file.write_text(f"{SECRET}\n{other}\n\n")

    (target,) = targets.read_targets({**environ(SECRETS=""), "CALLBACKS_FORWARD_SECRETS_FILE": str(file)})

    assert target.secrets == (SECRET, other)


def test_secrets_are_redacted() -> None:
    (target,) = targets.read_targets(
        environ(URL="https://me:pa55@crm.example:8443/h00k?key=k3y", HEADERS="X-Key=v4lue")
    )

    assert target.redacted_url == "https://crm.example:8443"
    for secret in ("pa55", "h00k", "k3y", "v4lue", SECRET, "me:"):
        assert secret not in repr(target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"URL": "crm.example"}, "URL: must begin with https:// (or http://) and a host"),
        ({"URL": "ftp://crm.example/"}, "URL: must begin with https:// (or http://) and a host"),
        ({"URL": "https:///path"}, "URL: must begin with https:// (or http://) and a host"),
        ({"URL": "https://crm.example/#top"}, "URL: has a fragment (#…), which is never sent"),
        ({"URL": "https://crm.example:99999/"}, "URL: has a port that is not from 1 to 65535"),
        ({"URL": "https://crm.example:x/"}, "URL: cannot be read: write https://host/path"),
        ({"URL": "https://crm.ex\x01ample/"}, "URL: cannot be read: write https://host/path"),
        ({"URL": "http://127.0.0.1/"}, "URL: its host is not a public address: correct it, or set "),
        ({"URL": "http://[::ffff:10.0.0.1]/"}, "URL: its host is not a public address: correct it, or set "),
        ({"URL": "http://localhost:3000/"}, "URL: its host is not a public address: correct it, or set "),
        ({"SECRETS": "hunter2"}, "SECRETS: secret 1 must be whsec_ and 24 to 64 bytes in base64; make one with: "),
        ({"SECRETS": f"{SECRET},whsec_AAAA"}, "SECRETS: secret 2 must be whsec_ and 24 to 64 bytes"),
        ({"SECRETS": "whsec_" + "!" * 32}, "SECRETS: secret 1 must be whsec_"),
        ({"SECRETS": ","}, "SECRETS: holds no secret; make one with: "),
        ({"SECRETS": ""}, "SECRETS: is not set, so the target could not verify where a request comes from"),
        ({"SECRETS_FILE": "/dev/null"}, "SECRETS_FILE: holds no secret"),
        ({"SECRETS": "", "SECRETS_FILE": "/nowhere"}, "SECRETS_FILE: '/nowhere' cannot be read: No such file"),
        ({"KINDS": "reports"}, "KINDS: must be report, reply, or both with a comma between them, not 'reports'"),
        ({"STATUSES": ","}, "STATUSES: is an empty list"),
        ({"KINDS": "reply", "STATUSES": "SEEN"}, "STATUSES: applies to reports only"),
        ({"KINDS": "reply", "FINAL": "true"}, "FINAL: applies to reports only"),
        ({"KINDS": "report", "OPT_OUTS": "true"}, "OPT_OUTS: applies to replies only"),
        ({"FINAL": "yes"}, "FINAL: must be true or false, not 'yes'"),
        ({"CA": "/nowhere"}, "CA: '/nowhere' cannot be used: No such file or directory"),
        ({"CA": "/dev/null"}, "CA: '/dev/null' cannot be used: it holds no certificate in PEM"),
        ({"ALLOW_PRIVATE": "1"}, "ALLOW_PRIVATE: must be true or false, not '1'"),
        ({"TIMEOUT_SECONDS": "0"}, "TIMEOUT_SECONDS: must be a number of seconds above 0 and up to 300, not '0'"),
        ({"CONCURRENCY": "1000"}, "CONCURRENCY: must be a whole number from 1 to 512, not '1000'"),
        ({"HEADERS": "X-Key"}, "HEADERS: entry 1 must be Name=value"),
        ({"HEADERS": "X-Key=a\x0bb"}, "HEADERS: entry 1 must be Name=value"),
        ({"HEADERS": "A=b,Host=c"}, "HEADERS: Host is set by the handler itself"),
        ({"HEADERS": "Webhook-Id=c"}, "HEADERS: Webhook-Id is set by the handler itself"),
        ({"STATUES": "SEEN"}, "STATUES: is not a setting of the handler forward; its settings end in URL, SECRETS, "),
    ],
)
@pytest.mark.parametrize("prefix", [targets.PREFIX, NAMED])
def test_a_wrong_value_gives_one_message_that_names_its_variable(
    prefix: str, options: dict[str, str], message: str
) -> None:
    assert [line for line in problems(environ(prefix, **options)) if line.startswith(f"{prefix}{message}")]


def test_all_errors_are_reported_at_once_without_secrets() -> None:
    messages = problems(
        {**environ(SECRETS="hunter2", FINAL="x"), f"{NAMED}SECRETS": SECRET, f"{NAMED}HEADERS": "t0ken"}
    )

    assert [line.partition(":")[0] for line in messages] == [
        "CALLBACKS_FORWARD_FINAL",
        "CALLBACKS_FORWARD_SECRETS",
        f"{NAMED}HEADERS",
        f"{NAMED}URL",
    ]
    assert not any(secret in line for line in messages for secret in ("hunter2", SECRET, "t0ken"))


def test_without_a_target_the_missing_variable_is_named() -> None:
    assert problems({}) == ["CALLBACKS_FORWARD_URL: is not set: set it to the URL of the service that gets the events"]
    assert problems({"CALLBACKS_FORWARD_URL": "  "}) == problems({})


def test_what_kubernetes_says_of_a_service_of_that_name_is_not_ours() -> None:
    links = {
        "CALLBACKS_FORWARD_SERVICE_HOST": "10.0.0.1",
        "CALLBACKS_FORWARD_SERVICE_PORT_HTTP": "80",
        "CALLBACKS_FORWARD_PORT": "tcp://10.0.0.1:80",
        "CALLBACKS_FORWARD_WEB_SERVICE_HOST": "10.0.0.1",
        "CALLBACKS_FORWARD_WEB_PORT_80_TCP_ADDR": "10.0.0.1",
    }

    assert [target.name for target in targets.read_targets({**environ(), **links})] == ["forward"]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    for name, value in {
        **environ(SECRETS="none", TIMEOUT_SECONDS="7"),
        **environ(NAMED, FINAL="true", OPT_OUTS="false"),
    }.items():
        monkeypatch.setenv(name, value)
    importlib.reload(importlib.import_module("workers.handlers.forward.handler"))
    return importlib.import_module("workers.handlers.forward.handler")


def test_each_target_is_found_as_a_handler(module: ModuleType) -> None:
    handlers = registry.load(["workers.handlers.forward.handler"])

    assert [handler.name for handler in handlers] == ["forward", "forward-crm_eu"]
    assert [handler.final for handler in handlers] == [None, True]
    assert [handler.opt_outs for handler in handlers] == [None, False]
    assert [handler.concurrency for handler in handlers] == [32, 32]
    assert handlers[0].timeout_seconds > 7, "its own time is over first"


def test_a_worker_logs_that_its_target_is_not_signed_and_no_other_process_does(
    module: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    importlib.reload(module)
    with caplog.at_level(logging.WARNING):
        unsigned, signed = registry.load(["workers.handlers.forward.handler"])
        assert not caplog.records
        for one in (signed, unsigned):
            with Caller(one):
                pass

    assert [record.getMessage() for record in caplog.records] == [
        "action=forward_unsigned handler=forward target=https://crm.example"
    ]


def test_what_one_targets_own_workers_need_hinders_nobody_who_asks_for_its_events(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in (("CA", "/nowhere"), ("SECRETS", "short"), ("URL", "ftp://crm"), ("COLOUR", "blue")):
        monkeypatch.setenv(f"CALLBACKS_FORWARD_CRM_EU_{variable}", value)
    importlib.reload(module)

    loaded = registry.load_each(["workers.handlers.forward.handler"], with_settings=False)

    ((entry, (forward, crm)),) = loaded.handlers.items()
    assert (loaded.problems, crm.final) == ({}, True)
    registry.read_settings(forward, entry=entry)
    with pytest.raises(HandlerError) as refused:
        registry.read_settings(crm, entry=entry)
    for variable in ("CA", "SECRETS", "URL", "COLOUR"):
        assert f"CALLBACKS_FORWARD_CRM_EU_{variable}: " in str(refused.value)


def test_a_wrong_value_stops_the_start(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBACKS_FORWARD_FINAL", "perhaps")
    monkeypatch.delitem(importlib.sys.modules, module.__name__)  # type: ignore[attr-defined] # it has it

    with pytest.raises(HandlerError, match="CALLBACKS_FORWARD_FINAL: must be true or false, not 'perhaps'"):
        registry.load(["workers.handlers.forward.handler"])
