"""deploy/kubernetes, compose and container: well-formed, safe by default, and true to the service that they start."""

import re
import subprocess
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from callbacks.cli.worker import SETTLE_SECONDS
from shared import settings
from tests.acceptance.processes import REPOSITORY, get, run, started
from tests.deploy.deployment import DEPLOY, environment
from tests.redis_server import StartRedis, free_port
from workers import registry

MANIFESTS = [
    (path.name, document)
    for path in sorted((DEPLOY / "kubernetes").glob("*/**/*.yaml"))
    if path.name not in ("kustomization.yaml", "names.yaml")
    for document in yaml.safe_load_all(path.read_text())
]
KUSTOMIZATIONS = {
    path.parent.name: yaml.safe_load(path.read_text())
    for path in (DEPLOY / "kubernetes").glob("*/**/kustomization.yaml")
}
# The settings of all pods, and those that the example adds.
CONFIG, EXAMPLE_CONFIG = (
    dict(literal.split("=", 1) for literal in KUSTOMIZATIONS[name]["configMapGenerator"][0]["literals"])
    for name in ("base", "example")
)
PODS = {
    document["metadata"]["name"]: document["spec"]["template"]["spec"]
    for _, document in MANIFESTS
    if document["kind"] in ("Deployment", "StatefulSet")
}
COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if name != "redis"}
CONTAINERFILE = (DEPLOY / "container" / "Containerfile").read_text()
VARIABLES = {row.variable for row in settings.table_rows()}
# What the image itself says, for Python; and what the handler `forward` reads.
OTHERS = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "CALLBACKS_FORWARD_SECRETS_FILE"}
PROCESSES = {
    "web": ["callbacks", "web"],
    "expand": ["callbacks", "worker", "expand"],
    "deliver": ["callbacks", "worker", "deliver"],
    "ops": ["callbacks", "ops"],
}
WRITABLE = {"/var/lib/callbacks/spool", "/var/lib/callbacks/run", "/var/lib/callbacks/data"}
MAX_CALL_SECONDS = max(
    handler.timeout_seconds
    for point in entry_points(group=registry.GROUP)
    if point.value.startswith("workers.handlers.")
    for handlers in registry.load_each([point.name], with_settings=False).handlers.values()
    for handler in handlers
)


def kinds(kind: str) -> list[Any]:
    return [document for _, document in MANIFESTS if document["kind"] == kind]


@pytest.mark.parametrize(
    "document", [pytest.param(d, id=f"{file} {d['kind']} {d['metadata']['name']}") for file, d in MANIFESTS]
)
def test_kubernetes_knows_every_field(document: dict[str, Any]) -> None:
    if document["apiVersion"].partition("/")[0] in ("keda.sh", "gateway.networking.k8s.io", "monitoring.coreos.com"):
        assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
        return
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_both_start_what_the_procfile_starts() -> None:
    lines = dict(line.split(": ", 1) for line in (REPOSITORY / "Procfile").read_text().splitlines())
    commands = {name: line.removeprefix("HOST=${HOST:-0.0.0.0} ").split() for name, line in lines.items()}

    assert commands == PROCESSES
    assert {name.removeprefix("callbacks-"): pod["containers"][0]["command"] for name, pod in PODS.items()} == PROCESSES
    assert {name: service["command"] for name, service in OURS.items()} == PROCESSES


def test_every_variable_is_a_setting_of_the_service() -> None:
    named = CONFIG.keys() | EXAMPLE_CONFIG.keys()
    for component in ("sql", "forward", "sealed"):
        text = (DEPLOY / "kubernetes" / "components" / component / "kustomization.yaml").read_text()
        named |= set(re.findall(r"name: ([A-Z_]+)", text))
    for pod in PODS.values():
        named |= {variable["name"] for variable in pod["containers"][0]["env"]}
    for service in OURS.values():
        named |= set(service["environment"])
    for path in DEPLOY.glob("*/*.service"):
        named |= set(re.findall(r"(\w+)=", " ".join(re.findall(r"^Environment=(.*)$", path.read_text(), re.MULTILINE))))
    for env in re.findall(r"^ENV (.*(?:\\\n.*)*)", CONTAINERFILE.rpartition("\nFROM ")[2], re.MULTILINE):
        named |= set(re.findall(r"\b([A-Z_]+)=", env))

    assert named - OTHERS <= VARIABLES


def test_with_the_file_for_it_each_process_of_compose_has_the_keys() -> None:
    sealed = yaml.safe_load((DEPLOY / "compose" / "sealed.yaml").read_text())

    assert sealed["services"].keys() == OURS.keys()
    for service in sealed["services"].values():
        assert service == {
            "environment": {"CALLBACKS_SEAL_KEYS_FILE": "/run/secrets/seal_keys"},
            "secrets": list(sealed["secrets"]),
        }


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_no_rights_that_it_does_not_need(name: str) -> None:
    pod = PODS[name]
    own = pod["containers"][0]["securityContext"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"USER {pod['securityContext']['runAsUser']}:" in CONTAINERFILE
    assert pod["automountServiceAccountToken"] is False
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["containers"][0]["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", PODS)
def test_what_a_pod_mounts_is_there_and_each_secret_is_in_the_secret(name: str) -> None:
    (secret,) = KUSTOMIZATIONS["example"]["secretGenerator"]
    pod, (container,) = PODS[name], PODS[name]["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    claimed = {
        claim["metadata"]["name"] for sts in kinds("StatefulSet") for claim in sts["spec"]["volumeClaimTemplates"]
    }
    files = {f"/etc/callbacks/{item['path']}" for item in volumes["secrets"]["secret"]["items"]}

    assert {f"secrets/{item['key']}" for item in volumes["secrets"]["secret"]["items"]} <= set(secret["files"])
    assert {variable["value"] for variable in container["env"]} - {"/var/lib/callbacks/run/heartbeat"} == files
    assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes) | claimed
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable <= WRITABLE
    assert set(re.findall(r"/var/lib/callbacks/\w+", CONTAINERFILE)) == WRITABLE


def test_the_web_pods_keep_their_spool_and_stay_in_service_while_redis_is_unavailable() -> None:
    (web,) = kinds("StatefulSet")
    (container,) = PODS["callbacks-web"]["containers"]

    assert [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "spool"] == [
        "/var/lib/callbacks/spool"
    ]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/livez", "port": "http"}
    numbers = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert f"PORT={numbers['http']}" in CONTAINERFILE
    assert CONFIG["CALLBACKS_METRICS_PORT"] == str(numbers["metrics"])
    (storage,) = (claim["spec"]["resources"]["requests"]["storage"] for claim in web["spec"]["volumeClaimTemplates"])
    assert (storage, int(CONFIG["CALLBACKS_SPOOL_MAX_BYTES"]) < 1 << 30) == ("1Gi", True)
    (budget,) = kinds("PodDisruptionBudget")
    assert budget["spec"]["selector"]["matchLabels"].items() <= web["spec"]["template"]["metadata"]["labels"].items()


def test_where_the_operators_page_is_open_to_others_it_asks_for_a_password() -> None:
    (ops,) = PODS["callbacks-ops"]["containers"]
    compose = COMPOSE["services"]["ops"]["environment"]

    assert CONFIG["CALLBACKS_OPS_HOST"] == compose["CALLBACKS_OPS_HOST"] == "0.0.0.0"
    assert "CALLBACKS_OPS_PASSWORD_FILE" in {variable["name"] for variable in ops["env"]} & set(compose)


def test_the_probes_paths_answer_as_the_manifests_believe(start_redis: StartRedis, tmp_path: Path) -> None:
    server, port, ops_port = start_redis(), free_port(), free_port()
    with started(tmp_path, environment(server.url, port, tmp_path)) as start:
        web, ops = start("web"), start("ops", CALLBACKS_OPS_PORT=str(ops_port))
        web.until(lambda: get(f"http://127.0.0.1:{port}/livez")[0] == 200, "life")
        ops.until(lambda: get(f"http://127.0.0.1:{ops_port}/readyz")[0] == 200, "the page")
        server.stop()
        web.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 503, "the loss of Redis")

        assert get(f"http://127.0.0.1:{port}/readyz")[1]["destination"] == "spool"
        assert get(f"http://127.0.0.1:{port}/livez")[0] == 200


def test_what_is_scaled_is_there_and_grows_with_a_queue_that_is_rqs(start_redis: StartRedis) -> None:
    deployments = {document["metadata"]["name"] for document in kinds("Deployment")}
    for scaled in kinds("ScaledObject"):
        assert scaled["spec"]["scaleTargetRef"]["name"] in deployments
        assert scaled["spec"]["minReplicaCount"] >= 1
        (trigger,) = scaled["spec"]["triggers"]
        queue = trigger["metadata"]["listName"].removeprefix("rq:queue:")
        assert queue == "expand" or queue.startswith("deliver-")


def test_compose_gives_each_process_a_read_only_root_and_only_its_own_secrets() -> None:
    for name, service in OURS.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        files = {value for value in service["environment"].values() if value.startswith("/run/secrets/")}
        assert files == {f"/run/secrets/{secret}" for secret in service["secrets"]}
        assert set(service["secrets"]) <= set(COMPOSE["secrets"])
        for volume in service.get("volumes", ()):
            source, target = volume.split(":")
            assert source in COMPOSE["volumes"]
            assert target in WRITABLE
    assert COMPOSE["services"]["web"]["ports"] == ["127.0.0.1:8080:8080", "127.0.0.1:8082:8082"]
    assert COMPOSE["services"]["ops"]["ports"] == ["127.0.0.1:8081:8081"]


def test_the_secrets_that_are_made_are_those_that_compose_wants_and_they_work(
    start_redis: StartRedis, tmp_path: Path
) -> None:
    folder = tmp_path / "secrets"
    made = [str(DEPLOY / "compose" / "new-secrets"), "acme", str(folder)]
    assert subprocess.run(made, capture_output=True, check=False).returncode == 0
    made_files = {path.name for path in folder.iterdir()}
    assert {secret["file"] for secret in COMPOSE["secrets"].values()} <= {f"./secrets/{name}" for name in made_files}
    (secret,) = KUSTOMIZATIONS["example"]["secretGenerator"]
    assert set(secret["files"]) <= {f"secrets/{name}" for name in made_files}
    users = (folder / "users.conf").read_text()
    assert not re.search("^user .*CHANGE-ME", users, re.MULTILINE)
    (folder / "users.conf").write_text(users.replace("user default off", "user default on nopass"))
    server = start_redis({"include": str(folder / "users.conf")})
    address = folder / "redis_url_worker"
    address.write_text(address.read_text().replace("redis:6379", f"127.0.0.1:{server.port}"))

    named = {
        "REDIS_URL_FILE": str(address),
        "CALLBACKS_TOKENS_FILE": str(folder / "tokens"),
        "CALLBACKS_SEAL_KEYS_FILE": str(folder / "seal_keys"),
    }
    ended = run("check", cwd=tmp_path, environment=named)

    assert ended.returncode == 0, ended.stdout
    assert "tokens of acme" in ended.stdout
    assert "what waits is sealed with key" in ended.stdout
    # A second time would lock out all that runs.
    assert subprocess.run(made, capture_output=True, check=False).returncode == 1


def test_each_process_has_time_to_end_by_itself() -> None:
    units = {path.stem: path.read_text() for path in (DEPLOY / "systemd").glob("*.service")}
    needed = {"callbacks-expand": SETTLE_SECONDS, "callbacks-deliver": MAX_CALL_SECONDS + SETTLE_SECONDS}
    for name, seconds in needed.items():
        (systemd,) = re.findall(r"^TimeoutStopSec=(\d+)s$", units[name], re.MULTILINE)
        compose = OURS[name.removeprefix("callbacks-")]["stop_grace_period"].removesuffix("s")
        kubernetes = PODS[name]["terminationGracePeriodSeconds"]

        assert min(int(systemd), int(compose), kubernetes) > seconds, name


def test_every_pod_has_probes_that_a_stall_of_seconds_does_not_fail() -> None:
    for name, pod in PODS.items():
        probe = pod["containers"][0]["livenessProbe"]

        assert probe["timeoutSeconds"] >= 5, name
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 60


def test_the_probe_of_a_worker_is_the_same_in_compose_and_kubernetes() -> None:
    for name in ("expand", "deliver"):
        (container,) = PODS[f"callbacks-{name}"]["containers"]
        file = {variable["name"]: variable["value"] for variable in container["env"]}["CALLBACKS_HEARTBEAT_FILE"]
        command = container["livenessProbe"]["exec"]["command"]
        compose = [word.replace("/tmp/heartbeat", file) for word in OURS[name]["healthcheck"]["test"]]

        assert command == compose[1:]
        assert file.removesuffix("/heartbeat") in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_the_log_of_a_container_of_compose_does_not_fill_the_disk() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["logging"]["driver"] == "json-file", name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}


def test_compose_has_what_each_built_in_handler_needs_and_the_page_reads_the_same_database() -> None:
    deliver, ops = OURS["deliver"], OURS["ops"]
    data = "data:/var/lib/callbacks/data"

    assert data in deliver["volumes"]
    assert data in ops["volumes"]
    for name in ("CALLBACKS_HANDLERS", "DATABASE_URL"):
        assert deliver["environment"][name] == ops["environment"][name]
    assert "sqlite:////var/lib/callbacks/data/" in deliver["environment"]["DATABASE_URL"]
    assert "CALLBACKS_JSONL_DIR=/var/lib/callbacks/data/" in CONTAINERFILE
    for service in OURS.values():
        assert service["env_file"] == [{"path": ".env", "required": False}]


def test_the_image_is_built_of_what_is_there_by_the_lock() -> None:
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", CONTAINERFILE, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (REPOSITORY / name).exists(), name
    sent = set(re.findall(r"^!(.*)$", (REPOSITORY / ".dockerignore").read_text(), re.MULTILINE))
    assert set(" ".join(copied).split()) == sent
    bases = re.findall(r"^FROM (\S+@sha256:[0-9a-f]{64})(?: AS build)?$", CONTAINERFILE, re.MULTILINE)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert f'image.version="{version}"' in CONTAINERFILE
    packaged = re.search(r"include = \[(.*)\]", (REPOSITORY / "pyproject.toml").read_text())
    assert packaged
    assert {name.rstrip("*") for name in re.findall(r'"(.+?)"', packaged.group(1))} <= set(" ".join(copied).split())
    assert "--require-hashes" in CONTAINERFILE
    # The last of these counts, and neither goes through a shell.
    assert re.findall(r"^(?:CMD|    CMD) (\[.*\])$", CONTAINERFILE, re.MULTILINE)[-1] == '["callbacks", "web"]'
    assert not re.search(r"^(?:    )?(?:CMD|ENTRYPOINT) [^\[]", CONTAINERFILE, re.MULTILINE)
    assert re.findall(r"^USER .*", CONTAINERFILE, re.MULTILINE) == ["USER 10001:10001"]
