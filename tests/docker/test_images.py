"""docker/: what the linters and `docker compose config` say of it, and that it keeps in step with the rest.

No image is built here. `make docker-check` installs the tools that these tests are skipped without.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
ALWAYS = {"postgres", "prepare", "webserver", "daemon", "sandbox"}


def tool(name: str) -> str:
    """A program of the dev extra: beside this Python, or on the PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed (make docker-check installs it)")
    return found


def compose_command() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            return command
    pytest.skip("neither docker compose nor docker-compose is installed (make docker-check installs it)")


def compose(empty: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`docker compose`, with an `empty` .env file and nothing but `environment` of what it asks for."""
    empty.touch()
    clean = {name: value for name, value in os.environ.items() if name not in ("POSTGRES_PASSWORD", "COMPOSE_PROFILES")}
    command = [*compose_command(), "--env-file", str(empty), "-f", str(DOCKER / "compose.yaml"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=clean | environment)


@pytest.mark.parametrize(("profiles", "more"), [
    ([], set()),
    (["cpu"], {"worker"}),
    (["gpu"], {"gpu-worker"}),
    (["gpu", "serve"], {"gpu-worker", "vllm"}),
])  # fmt: skip
def test_compose_reads_it_under_every_profile(profiles: list[str], more: set[str], tmp_path: Path) -> None:
    chosen = [word for name in profiles for word in ("--profile", name)]
    done = compose(tmp_path / ".env", *chosen, "config", "--services", POSTGRES_PASSWORD="secret")
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) >= ALWAYS | more  # version 1 lists the services of other profiles too


def test_without_a_profile_there_is_no_worker_and_no_gpu() -> None:
    assert {name for name, service in COMPOSE["services"].items() if "profiles" not in service} == ALWAYS


def test_compose_starts_nothing_without_a_password(tmp_path: Path) -> None:
    done = compose(tmp_path / ".env", "config")
    assert done.returncode != 0
    assert "POSTGRES_PASSWORD" in done.stderr and "set it in .env" in done.stderr


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([tool("hadolint"), str(DOCKER / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_compose_lint_has_nothing_to_say() -> None:
    command = [tool("compose-lint"), "check", "--config", str(DOCKER / "compose-lint.yml"), "--strict-config"]
    done = subprocess.run(
        [*command, "--fail-on", "medium", str(DOCKER / "compose.yaml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_only_the_gpu_profiles_reserve_a_gpu() -> None:
    reserve = {name for name, service in COMPOSE["services"].items() if "reservations" in str(service.get("deploy"))}
    assert reserve == {"gpu-worker", "vllm"}
    assert all(COMPOSE["services"][name]["profiles"] for name in reserve)


def test_exactly_one_worker_answers_to_the_name_of_the_workspace() -> None:
    (server,) = (one["grpc_server"] for one in yaml.safe_load((DOCKER / "workspace.yaml").read_text())["load_from"])
    named = {
        name: service["profiles"]
        for name, service in COMPOSE["services"].items()
        if isinstance(service.get("networks"), dict)
        and server["host"] in (service["networks"].get("control") or {}).get("aliases", [])
    }
    assert named == {"worker": ["cpu"], "gpu-worker": ["gpu"]}
    command = COMPOSE["x-worker"]["command"]
    assert command[command.index("-p") + 1] == str(server["port"])
    assert command[command.index("--location-name") + 1] == server["location_name"]


def test_the_sandbox_has_nothing_but_its_socket() -> None:
    service = COMPOSE["services"]["sandbox"]
    wanted = {
        "user": "65534:65534",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "read_only": True,
        "network_mode": "none",
        "pids_limit": 512,
        "mem_limit": "16g",
        "volumes": ["sandbox:/run/sandbox"],
    }
    assert {name: service[name] for name in wanted} == wanted
    assert not service.keys() & {"environment", "env_file", "privileged", "cap_add", "networks", "ports", "tmpfs"}


def test_nobody_runs_as_root_or_holds_a_capability() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["init"] is True, name
        assert "docker.sock" not in str(service), name
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    last = {match[1]: stage for stage in stages if (match := re.match(r"\S+ AS (\S+)", stage))}
    for target in targets():
        users = re.findall(r"^USER (\S+)$", last[target], re.MULTILINE)
        assert users and users[-1].split(":")[0] not in ("0", "root"), target


def targets() -> set[str]:
    return {service["build"]["target"] for service in COMPOSE["services"].values() if "build" in service}


def test_every_image_has_a_stage_and_every_copied_file_is_there() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))
    assert targets() == {"control", "gpu-worker", "vllm-server", "sandbox-worker"} <= stages
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE):
        for source in shlex.split(line)[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, f"{source} is not sent to the builder"


def test_base_images_and_packages_are_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["gpu"]
    for pin in re.findall(r"\b(?:torch|vllm)==\S+", DOCKERFILE):
        assert pin in wanted
    for image in [
        *re.findall(r"^FROM (python\S+)", DOCKERFILE, re.MULTILINE),
        COMPOSE["services"]["postgres"]["image"],
    ]:
        assert re.search(r":(\$\{PYTHON\}|\d+\.\d+)", image), image


def test_the_instance_is_that_of_a_home_but_for_its_storage() -> None:
    usual = yaml.safe_load((files("promptcot_assets.automation") / "dagster.yaml").read_text())
    ours = yaml.safe_load((DOCKER / "dagster.yaml").read_text())
    storage = ours.pop("storage")["postgres"]["postgres_db"]
    assert ours == usual
    read = {value["env"] for value in storage.values() if isinstance(value, dict)}
    assert read == {name for name in COMPOSE["x-dagster"]["environment"] if name.startswith("DAGSTER_PG_")}


def test_what_the_compose_file_asks_of_the_environment_is_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (DOCKER / "compose.yaml").read_text()))
    given = set(re.findall(r"^(\w+)=", (DOCKER / "env.example").read_text(), re.MULTILINE))
    assert asked <= given and given - asked == {"COMPOSE_PROFILES"}


def test_the_pod_of_the_page_has_the_walls_of_the_compose_file() -> None:
    page = (ROOT / "docs" / "docker.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    deployment, policy = yaml.safe_load_all(block)
    pod = deployment["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    (sandbox,) = (one for one in pod["containers"] if one["name"] == "sandbox")
    assert sandbox["securityContext"] == {
        "runAsUser": 65534,
        "runAsGroup": 65534,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "env" not in sandbox and "envFrom" not in sandbox
    assert {one["image"] for one in pod["containers"]} <= {one["image"] for one in COMPOSE["services"].values()}
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
