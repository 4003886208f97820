"""Variables that are nearly settings: each is named, with the setting that was meant."""

import logging

import pytest

from shared import unknown_settings
from shared.unknown_settings import FORWARD_OPTIONS, UnknownSetting
from workers.handlers.forward import options


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("CALLBACKS_HANDLER", "CALLBACKS_HANDLERS"),
        ("CALLBACK_HANDLERS", "CALLBACKS_HANDLERS"),
        ("CALBACKS_HANDLERS", "CALLBACKS_HANDLERS"),
        ("callbacks_handlers", "CALLBACKS_HANDLERS"),
        ("CALLBACKS_TOKEN", "CALLBACKS_TOKENS"),
        ("CALLBACKS_TOKEN_FILE", "CALLBACKS_TOKENS_FILE"),
        ("CALLBACKS_ALLOWED_IP", "CALLBACKS_ALLOWED_IPS"),
        ("CALLBACKS_FORWARD_SECRET", "CALLBACKS_FORWARD_SECRETS"),
        ("CALLBACKS_REDIS_URL", "REDIS_URL"),
        ("CALLBACKS_DATABASE_URL", "DATABASE_URL"),
        ("CALLBACKS_XYZZY_PLUGH", None),
    ],
)
def test_a_misspelt_setting_is_found_with_what_was_meant(variable: str, meant: str | None) -> None:
    assert unknown_settings.find({variable: "x", "PATH": "/bin"}) == [UnknownSetting(variable, meant)]


@pytest.mark.parametrize(
    "variable",
    [
        "CALLBACKS_HANDLERS",
        "CALLBACKS_TOKENS_FILE",
        "CALLBACKS_FORWARD_URL",
        "CALLBACKS_FORWARD_CRM_SECRETS",
        "CALLBACKS_FORWARD_CRM_EU_TIMEOUT_SECONDS",
        "REDIS_URL",
        "DJANGO_CALLBACKS",
        "MY_CALLBACK_URL",
    ],
)
def test_a_setting_and_what_is_somebody_elses_is_not_found(variable: str) -> None:
    assert unknown_settings.find({variable: "x"}) == []


def test_the_names_that_kubernetes_makes_for_a_service_are_not_found() -> None:
    names = {
        "CALLBACKS_SERVICE_HOST": "10.0.0.7",
        "CALLBACKS_SERVICE_PORT": "8080",
        "CALLBACKS_SERVICE_PORT_HTTP": "8080",
        "CALLBACKS_PORT": "tcp://10.0.0.7:8080",
        "CALLBACKS_PORT_8080_TCP": "tcp://10.0.0.7:8080",
        "CALLBACKS_PORT_8080_TCP_PROTO": "tcp",
        "CALLBACKS_PORT_8080_TCP_PORT": "8080",
        "CALLBACKS_PORT_8080_TCP_ADDR": "10.0.0.7",
        "CALLBACKS_OPS_SERVICE_HOST": "10.0.0.8",
        "CALLBACKS_OPS_PORT": "tcp://10.0.0.8:8090",
        "CALLBACKS_FORWARD_SERVICE_HOST": "10.0.0.9",
        "CALLBACKS_FORWARD_PORT": "tcp://10.0.0.9:80",
        "CALLBACKS_WEB_PORT": "tcp://10.0.0.10:80",
    }
    assert unknown_settings.find(names) == []


def test_a_port_that_no_service_has_is_found() -> None:
    assert [found.variable for found in unknown_settings.find({"CALLBACKS_PORT": "8080"})] == ["CALLBACKS_PORT"]


def test_several_are_named_in_the_order_of_their_names_each_in_a_sentence() -> None:
    found = unknown_settings.find({"CALLBACK_HANDLERS": "orders", "CALLBACKS_QQQ": "1"})
    assert [str(setting) for setting in found] == [
        "CALLBACKS_QQQ is not a setting of this service. Remove it, or rename it if it is yours",
        "CALLBACK_HANDLERS is not a setting and is ignored. Did you mean CALLBACKS_HANDLERS?",
    ]


def test_the_log_names_the_variable_and_not_its_value(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CALLBACKS_TOKEN", "crm=topsecret")
    with caplog.at_level(logging.WARNING):
        unknown_settings.log_warnings()
    assert 'action=setting_unknown variable=CALLBACKS_TOKEN problem="' in caplog.text
    assert "CALLBACKS_TOKENS" in caplog.text
    assert "topsecret" not in caplog.text


def test_the_options_of_forward_are_those_of_the_handler() -> None:
    assert tuple(options.PARSERS) == FORWARD_OPTIONS
