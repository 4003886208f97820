"""deploy/kubernetes as `kubectl` builds it: the example, and each component alone, are what Kubernetes takes."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from tests.acceptance.processes import REPOSITORY
from tests.deploy.deployment import DEPLOY

COMPONENTS: Final = sorted(path.name for path in (DEPLOY / "kubernetes" / "components").iterdir())
# Of these Kubernetes itself has no schema.
CUSTOM: Final = ("gateway.networking.k8s.io/v1", "keda.sh/v1alpha1", "monitoring.coreos.com/v1")
Object = dict[str, Any]


@pytest.fixture
def kubernetes(tmp_path: Path) -> Path:
    """Return a copy of the folder, with secrets as deploy/compose/new-secrets makes them."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl on the PATH")
    copy = tmp_path / "deploy"
    for name in ("kubernetes", "compose", "redis"):
        shutil.copytree(DEPLOY / name, copy / name)
    example = (DEPLOY / "kubernetes" / "overlays" / "example" / "kustomization.yaml").read_text()
    (command,) = re.findall(r"^#      (deploy/compose/new-secrets .*)$", example, re.MULTILINE)
    subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=True)
    return copy / "kubernetes"


def build(folder: Path) -> list[Object]:
    """Return what `kubectl apply -k` would send, by `kubectl`."""
    ended = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    objects = list(yaml.safe_load_all(ended.stdout))
    for one in objects:
        if one["apiVersion"] not in CUSTOM:
            kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    return objects


def pods(objects: list[Object]) -> dict[str, Object]:
    return {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]
        for one in objects
        if one["kind"] in ("Deployment", "StatefulSet")
    }


def named(objects: list[Object], kind: str) -> set[str]:
    return {one["metadata"]["name"] for one in objects if one["kind"] == kind}


def test_the_example_is_a_deployment_of_images_by_digest_in_a_namespace_of_its_own(kubernetes: Path) -> None:
    objects = build(kubernetes / "overlays" / "example")

    assert {one["metadata"].get("namespace", "callbacks") for one in objects} == {"callbacks"}
    for name, pod in pods(objects).items():
        (container,) = pod["containers"]
        assert re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", container["image"]), name
        (config,) = (source["configMapRef"]["name"] for source in container["envFrom"])
        assert config in named(objects, "ConfigMap")
        for volume in pod["volumes"]:
            assert volume.get("secret", {}).get("secretName", "") in named(objects, "Secret") | {""}
        assert {mount["name"] for mount in container["volumeMounts"]} <= {
            *(volume["name"] for volume in pod["volumes"]),
            "spool",
        }
    (secret,) = (one for one in objects if one["kind"] == "Secret")
    wanted = {
        item["key"]
        for pod in pods(objects).values()
        for volume in pod["volumes"]
        for item in volume.get("secret", {}).get("items", ())
    }
    assert wanted <= set(secret["data"])


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_choice_can_be_made_alone(component: str, kubernetes: Path) -> None:
    folder = kubernetes / "overlays" / "mine"
    folder.mkdir()
    secrets = {"name": "callbacks", "literals": ["redis_password_worker=x"]}
    mine = {"resources": ["../../base"], "components": [f"../../components/{component}"], "secretGenerator": [secrets]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(mine))

    objects = build(folder)

    assert pods(objects).keys() == {f"callbacks-{process}" for process in ("web", "expand", "deliver", "ops")}
    for one in objects:
        if one["kind"] == "TriggerAuthentication":
            (reference,) = one["spec"]["secretTargetRef"]
            assert reference["name"] in named(objects, "Secret")


def test_with_sealed_each_process_has_the_keys(kubernetes: Path) -> None:
    for name, pod in pods(build(kubernetes / "overlays" / "example")).items():
        variables = {variable["name"] for variable in pod["containers"][0]["env"]}
        assert "CALLBACKS_SEAL_KEYS_FILE" in variables, name
        assert "sealed" in {volume["name"] for volume in pod["volumes"]}


def test_every_choice_is_in_the_example() -> None:
    text = (DEPLOY / "kubernetes" / "overlays" / "example" / "kustomization.yaml").read_text()

    assert sorted(re.findall(r"components/([\w-]+)", text)) == COMPONENTS
    readme = (REPOSITORY / "deploy" / "README.md").read_text()
    _, _, table = readme.partition("| component | what it adds |")
    rows = re.findall(r"^\| (`.*?`) \|", table.partition("\n\n")[0], re.MULTILINE)
    assert sorted(re.findall(r"`([\w-]+)`", " ".join(rows))) == COMPONENTS
