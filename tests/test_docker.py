"""compose.yaml, the Dockerfile and what goes into the image: no engine is needed, and the client is asked if there."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker" / "compose.yaml"
COMPOSED = yaml.safe_load(COMPOSE.read_text("utf-8"))
SERVICES = COMPOSED["services"]
SERVERS = [name for name in SERVICES if name.startswith("qdrant")]
NODES = [name for name in SERVERS if name != "qdrant"]
APPS = [name for name in SERVICES if name.startswith("app")]
PROFILES = {"default": [], "cluster": ["cluster"], "app": ["app"], "gpu": ["gpu"], "all": ["cluster", "app", "gpu"]}

DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "docker" / "Dockerfile").read_text("utf-8"))
STEPS = [line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
IGNORED = (ROOT / ".dockerignore").read_text("utf-8").splitlines()


def steps(instruction):
    return [arguments for name, arguments in STEPS if name == instruction]


def copied():
    """The files and folders of the checkout that the Dockerfile copies."""
    return [source for step in steps("COPY") if not step.startswith("--from") for source in step.split()[:-1]]


def command(name):
    return " ".join(SERVICES[name].get("command", []))


def test_the_services_are_the_server_three_nodes_and_the_app():
    assert sorted(SERVICES) == ["app", "app-gpu", "qdrant", "qdrant-1", "qdrant-2", "qdrant-3"]
    assert {name: service.get("profiles") for name, service in SERVICES.items()} == {
        "qdrant": None,
        "app": ["app"],
        "app-gpu": ["gpu"],
        **{node: ["cluster"] for node in NODES},
    }


def test_the_server_is_pinned_to_the_version_of_the_client():
    minor = ".".join(version("qdrant-client").split(".")[:2])
    for name in SERVERS:
        assert re.fullmatch(rf"qdrant/qdrant:v{re.escape(minor)}\.\d+", SERVICES[name]["image"])
    assert len({SERVICES[name]["image"] for name in SERVERS}) == 1


def test_other_images_are_our_own():
    assert {SERVICES[name]["image"] for name in APPS} == {"clip-qdrant:cpu", "clip-qdrant:gpu"}
    assert all((ROOT / "docker" / SERVICES[name]["build"]["context"]).resolve() == ROOT for name in APPS)
    assert all((ROOT / SERVICES[name]["build"]["dockerfile"]).is_file() for name in APPS)


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_has_a_key_from_the_environment(name):
    """`?` without a colon: unset is an error, set to nothing is allowed."""
    assert SERVICES[name]["environment"]["QDRANT__SERVICE__API_KEY"].startswith("${QDRANT_API_KEY?set it")


def test_every_port_is_on_the_loopback_and_taken_once():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 2 * len(SERVERS)
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:633[34]", port) for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_stays_up_with_room_for_its_files(name):
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["ulimits"]["nofile"] == {"soft": 65535, "hard": 65535}


def test_data_is_in_declared_volumes_shared_by_no_two_servers():
    mounted = {name: [volume.split(":") for volume in service["volumes"]] for name, service in SERVICES.items()}
    assert {source for volumes in mounted.values() for source, _ in volumes} == set(COMPOSED["volumes"])
    storage = [source for name in SERVERS for source, target in mounted[name] if target == "/qdrant/storage"]
    assert len(set(storage)) == len(SERVERS) == 4
    (cache,) = steps("VOLUME")
    assert all(mounted[name] == [["models", cache]] for name in APPS)


def test_three_nodes_join_at_the_first():
    assert len(NODES) == 3
    for node in NODES:
        assert SERVICES[node]["environment"]["QDRANT__CLUSTER__ENABLED"] == "true"
        assert f"--uri http://{node}:6335" in command(node)
    assert [node for node in NODES if "--bootstrap" not in command(node)] == ["qdrant-1"]
    assert all("--bootstrap http://qdrant-1:6335 " in command(node) for node in NODES[1:])
    assert "QDRANT__CLUSTER__ENABLED" not in SERVICES["qdrant"]["environment"]


def test_nodes_do_not_wait_for_a_first_one_that_waits_for_them():
    """A cluster that starts again would: a node is ready once others have told it how far the cluster is."""
    for node in NODES[1:]:
        assert SERVICES[node]["depends_on"] == {"qdrant-1": {"condition": "service_started"}}


@pytest.mark.parametrize("name", APPS)
def test_the_app_finds_the_server_and_waits_for_it(name):
    environment = SERVICES[name]["environment"]
    assert environment["QDRANT_URL"] == "http://qdrant:6333"
    assert environment["QDRANT_API_KEY"].startswith("${QDRANT_API_KEY?")
    assert SERVICES[name]["depends_on"] == {"qdrant": {"condition": "service_healthy"}}


def test_the_gpu_variant_has_a_gpu_and_a_torch_for_it():
    (device,) = SERVICES["app-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert re.fullmatch(
        r"https://download\.pytorch\.org/whl/cu\d+", SERVICES["app-gpu"]["build"]["args"]["TORCH_INDEX"]
    )
    assert "args" not in SERVICES["app"]["build"]


@pytest.fixture
def endpoint():
    """Answers /readyz with the status that a test sets, and nothing else."""

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(self.server.status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def healthy(name, port):
    """Whether a service's health check passes, run here against another port."""
    kind, *check = SERVICES[name]["healthcheck"]["test"]
    assert kind == "CMD"
    assert "$" not in check[-1].replace("$$", "")  # a single one is a variable of compose's
    check[-1] = check[-1].replace("$$", "$").replace("6333", str(port))
    return subprocess.run(check, capture_output=True, timeout=10).returncode == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash, as the image has")
@pytest.mark.parametrize("name", SERVERS)
def test_the_health_check_tells_ready_from_not_ready_from_gone(endpoint, name):
    endpoint.status = 200
    assert healthy(name, endpoint.server_port)
    endpoint.status = 503
    assert not healthy(name, endpoint.server_port)
    assert not healthy(name, 1)


@functools.cache
def compose_client():
    """Why `docker compose` cannot be asked, or None."""
    if shutil.which("docker") is None:
        return "there is no docker client"
    found = subprocess.run(["docker", "compose", "version"], capture_output=True, text=True, timeout=30)
    return None if found.returncode == 0 else "the docker client has no compose plugin"


def compose_config(profiles, **variables):
    """What `docker compose config` makes of the file, in an environment without our variables but these."""
    if compose_client():
        pytest.skip(f"docker compose config: {compose_client()}")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("QDRANT", "COMPOSE", "HF_"))}
    chosen = [argument for profile in profiles for argument in ("--profile", profile)]
    return subprocess.run(
        ["docker", "compose", "--env-file", os.devnull, "-f", str(COMPOSE), *chosen, "config", "--format", "json"],
        env={**kept, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("profiles", PROFILES.values(), ids=PROFILES)
def test_compose_accepts_the_file(profiles):
    done = compose_config(profiles, QDRANT_API_KEY="k3y")
    assert done.returncode == 0, done.stderr
    assert "variable is not set" not in done.stderr
    services = json.loads(done.stdout)["services"]
    wanted = {name for name, service in SERVICES.items() if {*service.get("profiles", profiles)} & {*profiles}}
    assert set(services) == wanted | {"qdrant"}
    for name in set(services) & set(SERVERS):
        assert services[name]["environment"]["QDRANT__SERVICE__API_KEY"] == "k3y"
    for name in set(services) & set(APPS):
        assert services[name]["environment"]["QDRANT_API_KEY"] == "k3y"


def test_compose_refuses_a_key_that_is_not_set_and_takes_an_empty_one():
    refused = compose_config([])
    assert refused.returncode != 0
    assert "QDRANT_API_KEY" in refused.stderr
    assert compose_config([], QDRANT_API_KEY="").returncode == 0


def test_every_base_image_is_pinned():
    (argument,) = [step for step in steps("ARG") if step.startswith("BASE=")]
    assert re.fullmatch(r"BASE=python:3\.\d+\.\d+-slim-[a-z]+", argument)
    assert {step.split()[0] for step in steps("FROM")} == {"${BASE}"}


def test_the_image_runs_the_command_as_nobody_special():
    last = max(index for index, (name, _) in enumerate(STEPS) if name == "FROM")
    final = [name for name, _ in STEPS[last:]]
    assert steps("USER") == ["app"]
    assert final.index("USER") < final.index("ENTRYPOINT")
    assert "RUN" not in final[final.index("USER") :]
    assert json.loads(steps("ENTRYPOINT")[0]) == ["clip-qdrant"]


def test_nothing_is_fetched_or_given_away():
    assert steps("ADD") == []
    assert not re.search(r"curl|wget|git clone", DOCKERFILE)
    assert not re.search(r"(?i)key|token|secret|password", " ".join(steps("ARG") + steps("ENV")))


def test_torch_is_the_one_for_a_cpu_unless_asked_and_as_the_makefile_has_it():
    assert "TORCH_INDEX=https://download.pytorch.org/whl/cpu" in steps("ARG")
    (pin,) = [step.removeprefix("TORCH=") for step in steps("ARG") if step.startswith("TORCH=")]
    assert f"TORCH ?= {pin}" in (ROOT / "Makefile").read_text("utf-8")


def test_what_is_copied_is_there_and_nothing_else_is_sent():
    assert IGNORED[1:2] == ["*"]
    sent = {line.removeprefix("!") for line in IGNORED if line.startswith("!")}
    assert sent == set(copied())
    assert all((ROOT / name).exists() for name in sent)


def test_what_is_copied_is_enough_to_build_the_package(tmp_path):
    for name in copied():
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", "out"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "out").glob("clip_qdrant-*.whl")
    packed = zipfile.ZipFile(wheel).namelist()
    assert {"clip_qdrant/cli/app.py", "clip_qdrant/models/pocket/clip/model.safetensors"} <= set(packed)
