"""prefect.yaml, Dockerfile and compose.yaml, as far as they can be judged without running them."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from flows.serve import WORK_POOL

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    "preprocess/default",
    "train/default",
    "evaluate/default",
    "score/default",
    "retrain/nightly",
}
Deployment = dict[str, Any]


def read_yaml(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return found


def flow_of(deployment: Deployment) -> Flow[..., Any]:
    return load_flow_from_entrypoint(deployment["entrypoint"])


DEPLOYMENTS: list[Deployment] = read_yaml("prefect.yaml")["deployments"]
BY_NAME = {
    f"{flow_of(deployment).name}/{deployment['name']}": deployment for deployment in DEPLOYMENTS
}
each_deployment = pytest.mark.parametrize("name", sorted(BY_NAME))


def test_deployments_are_those_that_the_documents_name() -> None:
    assert BY_NAME.keys() == NAMES


@each_deployment
def test_entrypoint_is_a_module(name: str) -> None:
    # A path would load the file as a lone module and put flows/ first on the path, for good.
    module, _, attribute = BY_NAME[name]["entrypoint"].partition(":")
    assert not module.endswith(".py")
    assert attribute == name.partition("/")[0]


@each_deployment
def test_form_has_a_description_and_a_type_for_every_field(name: str) -> None:
    schema = parameter_schema(flow_of(BY_NAME[name]))
    for field, told in schema.properties.items():
        assert told.get("description"), field
        assert {"type", "anyOf", "allOf", "$ref", "enum"} & told.keys(), field
    json.dumps(schema.model_dump(mode="json"))


@each_deployment
def test_defaults_are_what_the_flow_takes_and_leave_nothing_required(name: str) -> None:
    deployment = BY_NAME[name]
    flow = flow_of(deployment)
    assert deployment["enforce_parameter_schema"] is True
    assert set(parameter_schema(flow).required) <= deployment["parameters"].keys()
    flow.validate_parameters(deployment["parameters"])
    assert not any(Path(str(value)).is_absolute() for value in deployment["parameters"].values())


@each_deployment
def test_one_run_at_a_time_in_the_pool_that_is_served(name: str) -> None:
    deployment = BY_NAME[name]
    assert deployment["work_pool"] == {"name": WORK_POOL, "work_queue_name": "default"}
    assert deployment["concurrency_limit"]["limit"] == 1
    assert deployment["description"]
    assert "reelcheck" in deployment["tags"]


def test_nightly_is_scheduled_and_never_piles_up() -> None:
    scheduled = {name for name, deployment in BY_NAME.items() if "schedules" in deployment}
    assert scheduled == {"retrain/nightly"}
    nightly = BY_NAME["retrain/nightly"]
    (schedule,) = nightly["schedules"]
    assert schedule["active"] is True
    CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    assert nightly["concurrency_limit"]["collision_strategy"] == "CANCEL_NEW"


def dockerfile_lines() -> list[str]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]


def instructions(name: str) -> list[str]:
    return [line.partition(" ")[2] for line in dockerfile_lines() if line.startswith(f"{name} ")]


def test_image_runs_as_somebody_who_is_not_root() -> None:
    lines = dockerfile_lines()
    last_stage = lines[max(n for n, line in enumerate(lines) if line.startswith("FROM ")) :]
    users = [line.split()[1] for line in last_stage if line.startswith("USER ")]
    assert users
    assert users[-1] not in {"root", "0"}
    assert any(f"useradd --create-home --uid 10001 {users[-1]}" in line for line in last_stage)


def test_image_copies_what_exists_and_every_package_of_the_wheel() -> None:
    copied = [
        source
        for line in instructions("COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    ]
    assert all((ROOT / source).exists() for source in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]} <= {*copied}
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= {*copied}
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line[1:] for line in allowed if line.startswith("!")} == {*copied}


def test_image_takes_only_what_the_lock_has_a_hash_for() -> None:
    (lock,) = [line for line in instructions("RUN") if "requirements.lock" in line]
    assert "--require-hashes" in lock
    others = [line for line in instructions("RUN") if "pip" in line and line != lock]
    for step in re.findall(r"pip (?:install|wheel)[^&]*", " ".join(others)):
        assert "--no-deps" in step
    assert all("--no-cache-dir" in line for line in instructions("RUN") if "pip" in line)


SERVICES: dict[str, dict[str, Any]] = read_yaml("compose.yaml")["services"]


def test_compose_shows_the_server_to_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:4200:4200"]
    assert "PREFECT_SERVER_API_AUTH_STRING" in SERVICES["server"]["environment"]


def test_compose_starts_the_guarded_server_under_the_name_that_clients_use() -> None:
    server = SERVICES["server"]
    assert server["entrypoint"] == ["python", "-m", "flows.prefect_server"]
    command = server["command"]
    given = dict(zip(command[::2], command[1::2], strict=True))
    for client in ("deploy", "worker"):
        api = urlsplit(SERVICES[client]["environment"]["PREFECT_API_URL"])
        assert (api.hostname, str(api.port)) == (given["--allow-host"], given["--port"])


def test_compose_holds_no_secret() -> None:
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    for name, value in re.findall(r"(\w*(?:PASSWORD|AUTH_STRING)): (.*)", text):
        assert value.startswith("${"), name


def test_compose_waits_for_what_is_healthy_and_workers_serve_the_pool() -> None:
    for service in SERVICES.values():
        for needed, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[needed]
    command = SERVICES["worker"]["command"]
    assert command[command.index("--pool") + 1] == WORK_POOL
    assert all(SERVICES[name]["cap_drop"] == ["ALL"] for name in ("server", "deploy", "worker"))
