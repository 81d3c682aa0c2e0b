"""What a container may do, and what an image holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.compose import BASE, ROOT, TAG, Project, docker
from tests.e2e.story import Story

PAGES = ["dashboard", "tensorboard"]
SERVICES = ["secrets", "check", "postgres", "migrate", "coordinator", "worker", *PAGES]
PASSWORDS = ["postgres", "owner", "coordinator", "worker", "dashboard"]


def published(container: dict[str, Any]) -> list[dict[str, str]]:
    """Where the container can be reached from outside."""
    ports: dict[str, list[dict[str, str]] | None] = container["NetworkSettings"]["Ports"]
    return [where for each in ports.values() for where in each or []]


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_has_no_rights_that_it_does_not_need(story: Story, service: str) -> None:
    containers = story.project.containers(service)
    assert containers
    for container in containers:
        user, host = container["Config"]["User"], container["HostConfig"]
        assert user in ("999:999", "10001:10001")
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert not host["Privileged"]
        assert "no-new-privileges:true" in host["SecurityOpt"]


@pytest.mark.parametrize("service", ["postgres", *PAGES])
def test_a_running_service_is_not_root_and_cannot_write_to_its_image(
    story: Story, service: str
) -> None:
    def run(command: str) -> str:
        shell = ("exec", "--no-TTY", service, "sh", "-c", command)
        return story.project.compose(*shell, check=False)

    assert run("id -u").strip() in ("999", "10001")
    assert "Read-only file system" in run("touch /usr/new")
    status = run("cat /proc/1/status")
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status


def test_only_the_pages_can_be_reached_and_only_from_this_machine(story: Story) -> None:
    for container in story.project.containers():
        service = container["Config"]["Labels"]["com.docker.compose.service"]
        if service in PAGES:
            assert {where["HostIp"] for where in published(container)} == {"127.0.0.1"}
        else:
            assert not published(container), service


def test_no_password_is_in_a_containers_settings_or_its_output(story: Story) -> None:
    seen = json.dumps(story.project.containers()) + story.output
    seen += story.project.compose("logs", "--no-color")
    for role in PASSWORDS:
        volume = f"{story.project.name}_secrets-{role}:/secrets:ro"
        options = ("run", "--rm", "--network", "none", "--volume", volume, "--entrypoint", "cat")
        password = docker(*options, f"trialfleet-coordinator:{TAG}", "/secrets/password").strip()
        assert len(password) >= 20
        assert password not in seen, role


def test_every_service_logs_in_as_itself(story: Story) -> None:
    roles = ("coordinator", "worker", "dashboard")
    rows = story.project.sql(
        "SELECT rolname, rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles"
        " WHERE rolcanlogin AND rolname NOT IN ('postgres', 'owner') ORDER BY rolname"
    )
    assert rows == [[role, "f"] for role in sorted(roles)]
    # The one that runs now: what it does is done by its own role.
    [[login]] = story.project.sql(
        "SELECT DISTINCT usename FROM pg_stat_activity"
        " WHERE application_name IN ('trialfleet-dashboard', 'trialfleet-tensorboard')"
    )
    assert login == "dashboard"


def test_a_worker_reaches_its_own_secret_and_no_other(story: Story) -> None:
    for container in story.project.containers("worker"):
        mounts = {mount["Destination"] for mount in container["Mounts"]}
        assert mounts == {"/study.toml", "/secrets/worker"}


@pytest.mark.parametrize("image", ["coordinator", "worker", "dashboard"])
def test_an_image_holds_no_compiler_no_pip_and_no_settings_of_the_machine_that_built_it(
    images: None, image: str
) -> None:
    name = f"trialfleet-{image}:{TAG}"
    look = (
        "for tool in cc gcc g++ make; do command -v $tool; done; "
        "find / -xdev -path /opt/venv/lib/python*/site-packages/pip -prune -print 2>/dev/null; "
        "find /tmp /opt /root/.config /root/.pip -name 'pip.conf' 2>/dev/null; true"
    )
    root = ("run", "--rm", "--network", "none", "--user", "0:0", "--entrypoint", "sh")
    assert docker(*root, name, "-c", look) == ""
    [found] = json.loads(docker("image", "inspect", name))
    assert found["Config"]["User"] == "10001:10001"
    assert found["Config"]["Entrypoint"] == ["trialfleet"]  # exec form: signals arrive
    assert not any(line.startswith("PIP_") for line in found["Config"]["Env"])


def test_only_a_worker_has_pytorch_and_the_images_are_as_small_as_promised(images: None) -> None:
    run = ("run", "--rm", "--network", "none", "--entrypoint", "python")
    for image in ("coordinator", "dashboard"):
        program = "import importlib.util as u; print(u.find_spec('torch'))"
        assert docker(*run, f"trialfleet-{image}:{TAG}", "-c", program).strip() == "None"
    # On top of the base image, which takes about 130 MB where it is the public one. LLVM, which
    # compiles the worker's training, is 180 MB of it.
    base = _size(BASE)
    assert _size(f"trialfleet-worker:{TAG}") - base < (1300 - 130) * 1e6
    assert _size(f"trialfleet-coordinator:{TAG}") - base < (400 - 130) * 1e6


def test_a_mistake_in_the_study_file_ends_up_with_the_line_that_names_it(images: None) -> None:
    project = Project("trialfleet-e2e-mistake", ROOT, study="tests/e2e/mistake.toml")
    try:
        output = project.compose("up", check=False)
        assert "search.trials" in output
        assert 'service "check" didn\'t complete successfully: exit 2' in output
        assert not project.running("coordinator") + project.running("worker")
    finally:
        project.down()


def _size(image: str) -> int:
    return int(docker("image", "inspect", "--format", "{{.Size}}", image))
