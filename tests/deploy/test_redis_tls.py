"""rediss://: the connection to Redis is encrypted, and the server has to prove who it is."""

from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from tests.acceptance.processes import get, run, started
from tests.certificates import HERE, self_signed
from tests.deploy.deployment import TOKEN, environment, post
from tests.redis_server import StartRedis, free_port


def tls_server(start_redis: StartRedis, folder: Path, *names: x509.GeneralName) -> tuple[str, Path]:
    """Start Redis with a certificate of its own authority for `names`; give its address and the authority."""
    pem = self_signed(folder, names=names or (HERE,))
    port = free_port()
    start_redis(
        {
            "tls-port": str(port),
            "tls-cert-file": str(pem),
            "tls-key-file": str(pem),
            "tls-ca-cert-file": str(pem),
            "tls-auth-clients": "no",
        }
    )
    return f"rediss://127.0.0.1:{port}/0", pem


def test_a_callback_goes_all_the_way_over_tls(start_redis: StartRedis, tmp_path: Path) -> None:
    address, ca = tls_server(start_redis, tmp_path)
    url, port = f"{address}?ssl_ca_certs={ca}", free_port()

    with started(tmp_path, environment(url, port, tmp_path)) as start:
        web = start("web")
        workers = [start("worker", "expand"), start("worker", "deliver")]
        web.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")
        assert post(f"http://127.0.0.1:{port}")[0] == 200
        log = tmp_path / "events.jsonl"
        workers[1].until(lambda: log.exists() and log.read_text().endswith("\n"), "an event")
        assert run("audit", cwd=tmp_path, environment={"REDIS_URL": url}).returncode == 0


def test_a_server_whose_authority_is_not_known_is_not_talked_to(start_redis: StartRedis, tmp_path: Path) -> None:
    address, _ = tls_server(start_redis, tmp_path)

    ended = run("check", cwd=tmp_path, environment={"REDIS_URL": address, "CALLBACKS_TOKENS": f"main={TOKEN}"})

    assert ended.returncode == 1
    assert "cannot be used" in ended.stdout
    assert "CERTIFICATE_VERIFY_FAILED" in ended.stdout


def test_a_server_with_a_certificate_for_another_is_not_talked_to(start_redis: StartRedis, tmp_path: Path) -> None:
    address, ca = tls_server(start_redis, tmp_path, x509.IPAddress(ip_address("192.0.2.1")))

    ended = run("check", cwd=tmp_path, environment={"REDIS_URL": f"{address}?ssl_ca_certs={ca}"})

    assert ended.returncode == 1
    assert "192.0.2.1" in ended.stdout or "doesn't match" in ended.stdout or "mismatch" in ended.stdout
