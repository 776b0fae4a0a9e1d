"""docker/: what the linters and `docker compose config` say of it, and that it keeps in step with the rest.

No image is built here. `make docker-check` installs the tools that these tests are skipped without.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
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
    (["cpu", "login"], {"worker", "login"}),
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


def test_the_code_server_listens_on_the_network_of_its_name_alone() -> None:
    """A name of `control` is an address of `control`; 0.0.0.0 would be one of `outside` too."""
    command, probe = COMPOSE["x-worker"]["command"], COMPOSE["x-worker"]["healthcheck"]["test"]
    assert command[command.index("-h") + 1] == probe[probe.index("-h") + 1] == "code"
    assert COMPOSE["networks"]["control"] == {"internal": True}
    for name in ("worker", "gpu-worker"):
        networks = COMPOSE["services"][name]["networks"]
        assert networks["control"] == {"aliases": ["code"]} and not networks["outside"]


def test_a_code_server_that_is_given_a_name_listens_on_its_address_alone(tmp_path: Path) -> None:
    """What `-h code` rests on, here with the name `localhost`: no other address of this machine answers."""
    (tmp_path / "empty.py").write_text("import dagster as dg\n\ndefs = dg.Definitions()\n")
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dagster", "api", "grpc", "-h", "localhost", "-p", str(port), "-f", "empty.py"]
    server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              env=os.environ | {"DAGSTER_HOME": str(tmp_path)})  # fmt: skip
    try:
        probe = [sys.executable, "-m", "dagster", "api", "grpc-health-check", "-h", "localhost", "-p", str(port)]
        assert any(not subprocess.run(probe, capture_output=True).returncode for _ in range(20)), "it never answered"
        listening = listening_addresses(port)
        assert listening and listening <= LOOPBACK
    finally:
        server.kill()
        server.wait()


# 127.0.0.1 and ::1, each 32 bits of them with the low byte first, and the former as an address of IPv6
LOOPBACK = {"0100007F", "0" * 24 + "01000000", "0" * 16 + "FFFF0000" + "0100007F"}


def listening_addresses(port: int) -> set[str]:
    """The addresses that TCP sockets listen on at this port, as the kernel writes them."""
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    listens = "0A"
    return {words[1].partition(":")[0] for words in lines if words[3] == listens and words[1].endswith(f":{port:04X}")}


UPSTREAM = """
import http.server, sys

class Webserver(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"authorization: {self.headers['Authorization']}, upgrade: {self.headers['Upgrade']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Webserver).serve_forever()
"""


@pytest.mark.skipif(not shutil.which("nginx") or not shutil.which("openssl"), reason="needs nginx and openssl")
def test_the_login_asks_for_a_password_and_keeps_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        port, upstream = one.getsockname()[1], other.getsockname()[1]
    hashed = subprocess.run(["openssl", "passwd", "-apr1", "secret"], capture_output=True, text=True, check=True)
    (tmp_path / "users").write_text(f"alice:{hashed.stdout}")
    certificate = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "certificate.pem")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=here",
                    *certificate], capture_output=True, check=True)  # fmt: skip
    login = (DOCKER / "login.conf").read_text().replace("/etc/login", str(tmp_path))
    login = login.replace("listen 8443", f"listen 127.0.0.1:{port}").replace("webserver:3000", f"127.0.0.1:{upstream}")
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/log; user root; events {{}}\n"
        f"http {{ access_log off; {' '.join(f'{name}_temp_path {tmp_path}/{name};' for name in TEMPORARY)}\n{login} }}"
    )
    unchecked = ssl._create_unverified_context()

    def ask(path: str, **headers: str) -> tuple[int, str]:
        request = urllib.request.Request(f"https://127.0.0.1:{port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, context=unchecked, timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    password = "Basic " + base64.b64encode(b"alice:secret").decode()
    wrong = "Basic " + base64.b64encode(b"alice:guess").decode()
    behind = subprocess.Popen([sys.executable, "-c", UPSTREAM, str(upstream)], stderr=subprocess.DEVNULL)
    nginx = subprocess.Popen(["nginx", "-e", str(tmp_path / "log"), "-c", str(tmp_path / "nginx.conf")])
    try:
        for at in (port, upstream):
            wait_for(at)
        assert ask("/healthz")[0] == 204
        assert ask("/")[0] == ask("/graphql", Authorization=wrong)[0] == 401
        passed = ask("/graphql", Authorization=password, Upgrade="websocket", Connection="upgrade")
        assert passed == (200, "authorization: None, upgrade: websocket")
    finally:
        nginx.terminate()
        behind.terminate()
        nginx.wait()
        behind.wait()


TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def wait_for(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}")


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
