"""A Qdrant server for the tests: the one at QDRANT_URL, or a container of the image that compose.yaml pins."""

from __future__ import annotations

import functools
import gc
import importlib.util
import os
import secrets
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from clip_qdrant import connect

COMPOSE = Path(__file__).parents[1] / "docker" / "compose.yaml"
REST, GRPC = 6333, 6334


@dataclass(frozen=True)
class Server:
    """Where a server is, and its key, which is not shown."""

    url: str
    grpc_port: int = GRPC
    api_key: str | None = field(default=None, repr=False)

    def connect(self, **options):
        """A client of it, which does not mind that the key of a test goes over http."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Api key is used with an insecure connection", UserWarning)
            options = {"grpc_port": self.grpc_port, "check_compatibility": False, **options}
            return connect(self.url, api_key=self.api_key, **options)

    def drop_collections(self, prefix):
        """Drop the collections of one test, whose names begin with a name of its own."""
        with self.connect() as client:
            for collection in client.get_collections().collections:
                if collection.name.startswith(prefix):
                    client.delete_collection(collection.name)


def named_server():
    """The server that the environment names, or None."""
    url = os.environ.get("QDRANT_URL")
    if not url:
        return None
    port = int(os.environ.get("QDRANT_GRPC_PORT") or GRPC)
    return Server(url, port, os.environ.get("QDRANT_API_KEY") or None)


@functools.cache
def trouble_with_docker(timeout=2):
    """Why no container can be started, or None. Docker is asked once, and has `timeout` seconds to answer."""
    if importlib.util.find_spec("testcontainers") is None:
        return "testcontainers is not installed"
    import docker

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            context = docker.ContextAPI.get_current_context()  # where Docker Desktop and its like say where they are
            where = {"DOCKER_HOST": context.Host} if context else {}
            docker.from_env(timeout=timeout, environment={**where, **os.environ}).close()
        except docker.errors.DockerException:
            trouble = "Docker does not answer"
        else:
            trouble = None
        gc.collect()  # a client that failed leaves its socket open, for which some test would be blamed later
    return trouble


def pinned_image():
    """The server's image, as compose.yaml has it: one pin for users and tests."""
    return yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]["qdrant"]["image"]


@contextmanager
def container(*, with_key):
    """A server in a container of its own, with a key or without, until the end of the `with`."""
    key = secrets.token_hex(16) if with_key else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its libraries warn of on the way up is not a test's failure
        from testcontainers.core.container import DockerContainer
        from testcontainers.core.wait_strategies import HttpWaitStrategy

        running = DockerContainer(pinned_image()).with_exposed_ports(REST, GRPC)
        running.waiting_for(HttpWaitStrategy(REST, "/readyz").for_status_code(200))
        if key is not None:
            running.with_env("QDRANT__SERVICE__API_KEY", key)
        running.__enter__()  # stops it again where it does not become ready
    try:
        url = f"http://{running.get_container_host_ip()}:{running.get_exposed_port(REST)}"
        yield Server(url, running.get_exposed_port(GRPC), key)
    finally:
        running.stop()
