"""The files in cluster/: valid where Ray or Kubernetes would read them, closed to strangers, and of one version."""

import copy
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click import ClickException
from packaging.specifiers import SpecifierSet
from ray.autoscaler._private.util import prepare_config, validate_config
from typer.main import get_command

import raydistill
from raydistill.cli import app
from tests.cluster import schemas

CLUSTER = Path(raydistill.__file__).parents[1] / "cluster"
LAUNCHER = ("cloud.yaml", "onpremise.yaml")
KUBERNETES = ("raycluster.yaml", "rayjob.yaml", "mlflow-kubernetes.yaml")
COMPOSE = "mlflow-compose.yaml"
TOKEN_FILE = "~/.ray/auth_token"


def read(name: str) -> list[Any]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all((CLUSTER / name).read_text(encoding="utf-8")))


def check_launcher(config: dict[str, Any]) -> None:
    validate_config(prepare_config(copy.deepcopy(config)))
    for name, host in (("head", "--dashboard-host=127.0.0.1"), ("worker", "")):
        start = [line for line in config[f"{name}_start_ray_commands"] if "ray start" in line]
        assert len(start) == 1
        assert "RAY_AUTH_MODE=token ray start" in start[0]
        assert host in start[0]
    assert config["file_mounts"][TOKEN_FILE] == TOKEN_FILE


def check_kubernetes(one: dict[str, Any]) -> None:
    jsonschema.validate(one, schemas.kubernetes_object(one))
    for pod in pods(one):
        claimed = {volume["name"] for volume in pod.get("volumes", ())}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= claimed
            for variable in container.get("env", ()):
                assert "PASSWORD" not in variable["name"] or "valueFrom" in variable, variable
    if one["kind"] == "Service":
        assert one["spec"]["type"] == "ClusterIP"
    if one["kind"] == "Deployment":
        assert one["spec"]["selector"]["matchLabels"] == one["spec"]["template"]["metadata"]["labels"]
    if one["kind"] in ("RayCluster", "RayJob"):
        check_ray_cluster(one["spec"].get("rayClusterSpec", one["spec"]))


def check_ray_cluster(spec: dict[str, Any]) -> None:
    assert spec["rayVersion"] == pinned("ray")
    assert spec["authOptions"]["mode"] == "token"
    head = spec["headGroupSpec"]
    assert head["serviceType"] == "ClusterIP"
    assert [container["name"] for container in head["template"]["spec"]["containers"]] == ["ray-head"]
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        [container] = group["template"]["spec"]["containers"]
        assert container["name"] == "ray-worker"
        wants_gpu = "nvidia.com/gpu" in container["resources"]["limits"]
        assert container["image"] == ("raydistill:gpu" if wants_gpu else "raydistill:cpu")


def check_compose(project: dict[str, Any]) -> None:
    jsonschema.validate(project, schemas.COMPOSE)
    for service in project["services"].values():
        assert set(service.get("secrets", ())) <= project["secrets"].keys()
        assert set(service.get("depends_on", ())) <= project["services"].keys()
        assert {volume.split(":")[0] for volume in service.get("volumes", ())} <= project["volumes"].keys()
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        secret = [name for name in service.get("environment", ()) if "PASSWORD" in name]
        assert all(name.endswith("_FILE") for name in secret)
    for secret_file in project["secrets"].values():
        assert re.fullmatch(r"\$\{\w+:\?.+\}", secret_file["file"]), "the user says where it is"


def pods(one: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pods that an object describes, however deep."""
    for key, value in one.items():
        if key == "template":
            yield value["spec"]
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from pods(inner)


def pinned(package: str) -> str:
    """The version in constraints.txt."""
    text = (CLUSTER / "constraints.txt").read_text(encoding="utf-8")
    [version] = re.findall(rf"^{package}==(.+)$", text, re.MULTILINE)
    return str(version)


@pytest.mark.parametrize("name", LAUNCHER)
def test_launcher_files_are_what_ray_up_takes(name: str) -> None:
    [config] = read(name)
    check_launcher(config)


@pytest.mark.parametrize("name", KUBERNETES)
def test_kubernetes_files_have_known_fields_and_are_closed(name: str) -> None:
    documents = read(name)
    assert documents
    for one in documents:
        check_kubernetes(one)


def test_the_compose_file_is_whole_and_closed() -> None:
    [project] = read(COMPOSE)
    check_compose(project)


Change = Callable[[Any], object]
TYPOS: list[tuple[Callable[[Any], None], str, int, Change]] = [
    (check_launcher, "cloud.yaml", 0, lambda c: c.update(max_worker=3)),
    (check_launcher, "cloud.yaml", 0, lambda c: c.update(head_node_type="heda")),
    (check_launcher, "cloud.yaml", 0, lambda c: c["available_node_types"]["gpu"].update(max_worker=3)),
    (check_launcher, "cloud.yaml", 0, lambda c: c["docker"].update(run_option=[])),
    (check_launcher, "cloud.yaml", 0, lambda c: c.update(file_mounts={})),
    (check_launcher, "onpremise.yaml", 0, lambda c: c.update(head_start_ray_commands=["ray start --head"])),
    (check_launcher, "onpremise.yaml", 0, lambda c: c["provider"].pop("head_ip")),
    (check_kubernetes, "raycluster.yaml", 0, lambda c: c["spec"].update(accessMode=["ReadWriteMany"])),
    (check_kubernetes, "raycluster.yaml", 1, lambda c: c["spec"].update(rayVersions="2.60.0")),
    (check_kubernetes, "raycluster.yaml", 1, lambda c: c["spec"].update(rayVersion="2.59.0")),
    (check_kubernetes, "raycluster.yaml", 1, lambda c: c["spec"].pop("authOptions")),
    (check_kubernetes, "raycluster.yaml", 1, lambda c: c["spec"]["authOptions"].update(mode="disabled")),
    (check_kubernetes, "raycluster.yaml", 1, lambda c: c["spec"]["headGroupSpec"].update(serviceType="NodePort")),
    (check_kubernetes, "raycluster.yaml", 1, lambda c: c["spec"]["workerGroupSpecs"][0].update(minReplicas=9)),
    (check_kubernetes, "raycluster.yaml", 1, lambda c: next(pods(c))["containers"][0].update(name="head")),
    (check_kubernetes, "raycluster.yaml", 1, lambda c: next(pods(c)).pop("volumes")),
    (check_kubernetes, "rayjob.yaml", 0, lambda c: c.update(kind="RayJobs")),
    (check_kubernetes, "rayjob.yaml", 0, lambda c: c["spec"].update(entryPoint=c["spec"].pop("entrypoint"))),
    (check_kubernetes, "rayjob.yaml", 0, lambda c: c["spec"].update(submissionMode="HttpMode")),
    (check_kubernetes, "mlflow-kubernetes.yaml", 3, lambda c: c["spec"].update(type="LoadBalancer")),
    (check_kubernetes, "mlflow-kubernetes.yaml", 2, lambda c: c["spec"]["selector"]["matchLabels"].update(app="x")),
    (
        check_kubernetes,
        "mlflow-kubernetes.yaml",
        4,
        lambda c: next(pods(c))["containers"][0]["env"].append({"name": "PGPASSWORD", "value": "open"}),
    ),
    (check_compose, COMPOSE, 0, lambda c: c["services"]["server"].update(port=["127.0.0.1:5000:5000"])),
    (check_compose, COMPOSE, 0, lambda c: c["services"]["server"].update(ports=["5000:5000"])),
    (check_compose, COMPOSE, 0, lambda c: c["services"]["server"].update(secrets=["password"])),
    (check_compose, COMPOSE, 0, lambda c: c["services"]["database"]["environment"].update(POSTGRES_PASSWORD="x")),
    (check_compose, COMPOSE, 0, lambda c: c["secrets"]["database_password"].update(file="password.txt")),
]


@pytest.mark.parametrize(("check", "name", "document", "change"), TYPOS, ids=range(len(TYPOS)))
def test_a_mistake_is_found(check: Callable[[Any], None], name: str, document: int, change: Change) -> None:
    one = read(name)[document]
    check(one)
    change(one)
    with pytest.raises((AssertionError, KeyError, ValueError, jsonschema.ValidationError, ClickException)):
        check(one)


def test_one_version_of_ray_everywhere() -> None:
    project = tomllib.loads((CLUSTER.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [wanted] = [one.partition("]")[2] for one in project["dependencies"] if one.startswith("ray[")]
    assert pinned("ray") in SpecifierSet(wanted)
    image = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^ARG RAY=(.+)$", image, re.MULTILINE) == [pinned("ray")]
    [major, minor] = re.findall(r"^ARG PYTHON=py(\d)(\d+)$", image, re.MULTILINE)[0]
    assert f"{major}.{minor}" in SpecifierSet(project["requires-python"])


def test_the_image_copies_what_there_is_and_the_builder_may_see_it() -> None:
    allowed = (CLUSTER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    lines = re.findall(
        r"^COPY (?:--\S+ )*(.+) \S+$", (CLUSTER / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )
    copied = {source for line in lines for source in line.split()}
    assert {"pyproject.toml", "raydistill", "cluster/constraints.txt"} <= copied
    for source in copied:
        assert (CLUSTER.parent / source).exists()
        assert f"!{source}" in allowed


@pytest.mark.parametrize("path", sorted(CLUSTER.glob("*.sh")), ids=lambda path: path.name)
def test_shell_files_are_shell(path: Path) -> None:
    assert syntax(path).returncode == 0, syntax(path).stderr
    if shutil.which("shellcheck"):
        found = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout


def test_a_broken_shell_file_is_found(tmp_path: Path) -> None:
    broken = tmp_path / "broken.sh"
    broken.write_text((CLUSTER / "slurm.sh").read_text(encoding="utf-8").replace("\nfi\n", "\n", 1), encoding="utf-8")
    assert syntax(broken).returncode != 0


def syntax(path: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)


def test_the_guide_names_every_file_and_only_commands_that_there_are() -> None:
    guide = (CLUSTER / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in CLUSTER.iterdir()} - {"README.md", "Dockerfile.dockerignore"}
    assert files <= set(re.findall(r"\(([\w.-]+)\)", guide)), "a link for each"
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    for path in CLUSTER.iterdir():
        text = path.read_text(encoding="utf-8")
        used = re.findall(r"(?:^[#\s]*|`|uv run |python -m )raydistill ([a-z]+)", text, re.MULTILINE)
        assert set(used) <= known, path.name
        assert used or path.suffix != ".md"
