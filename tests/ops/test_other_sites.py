"""What a site that an operator visits meanwhile can do to the page through his browser: nothing, and learn nothing."""

from http.client import HTTPConnection

import pytest

from tests.ops.running_service import Service
from tests.ops.sign_in import client_of

TRUSTED = {"CALLBACKS_TRUSTED_PROXIES": "127.0.0.1"}


@pytest.mark.parametrize("forwarded", ["localhost", "127.0.0.1", "evil.example, localhost"])
def test_a_name_pointed_at_this_machine_is_not_believed_to_be_a_proxys(service: Service, forwarded: str) -> None:
    service.start_ops(**TRUSTED)
    port = service.ops_url.rpartition(":")[2]
    with client_of(service) as client:
        rebound = {"host": f"evil.example:{port}", "x-forwarded-host": forwarded}
        assert client.get("/live", headers=rebound).status_code == 421
        assert client.get("/live", headers={"x-forwarded-host": forwarded}).status_code == 200


def test_what_a_proxy_says_it_was_asked_for_has_to_be_this_machine_too(service: Service) -> None:
    service.start_ops(**TRUSTED)
    with client_of(service) as client:
        assert client.get("/live", headers={"x-forwarded-host": "callbacks.example"}).status_code == 421


@pytest.mark.parametrize("hosts", [("localhost", "evil.example"), ("evil.example", "localhost")])
def test_of_two_hosts_both_have_to_be_this_machine(service: Service, hosts: tuple[str, str]) -> None:
    asking = HTTPConnection("127.0.0.1", int(service.ops_url.rpartition(":")[2]), timeout=30)
    asking.putrequest("GET", "/live", skip_host=True)
    for host in hosts:
        asking.putheader("host", host)
    asking.endheaders()
    assert asking.getresponse().status == 421
    asking.close()


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_can_let_a_browser_follow_a_link_and_fetch_nothing(service: Service, site: str) -> None:
    with client_of(service) as client:
        for mode in ("no-cors", "cors", "same-origin"):
            asked = {"sec-fetch-site": site, "sec-fetch-mode": mode}
            for path in ("/messages?id=m-1", "/now/events", "/quarantine"):
                assert client.get(path, headers=asked).status_code == 403, (path, mode)
        followed = {"sec-fetch-site": site, "sec-fetch-mode": "navigate"}
        assert client.get("/messages?id=m-1", headers=followed).status_code == 200
