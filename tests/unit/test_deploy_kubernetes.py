"""deploy/kubernetes: what it renders to, against the API's own schemas."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from sqlalchemy import text

from coordinator.watch import watch
from tests.support.kustomize import Manifest, containers, pod_spec, render
from tests.support.studies import create, take, train_by_hand
from trialfleet import __version__
from trialfleet.settings import Settings
from trialfleet.store.steering import course
from trialfleet.store.storage import Database
from trialfleet.store.studies import find
from trialfleet.study.file import load

ROOT = Path(__file__).parents[2]
VERSIONS = ["1.29", "1.33", "1.37"]

# KEDA's two kinds, whose schemas come with KEDA alone: the fields that we use, and no other.
STRING = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
KEDA = {
    "TriggerAuthentication": {
        "secretTargetRef": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"parameter": STRING, "name": STRING, "key": STRING},
                "required": ["parameter", "name", "key"],
                "additionalProperties": False,
            },
        }
    },
    "ScaledObject": {
        "scaleTargetRef": {
            "type": "object",
            "properties": {"name": STRING},
            "required": ["name"],
            "additionalProperties": False,
        },
        "minReplicaCount": COUNT,
        "maxReplicaCount": COUNT,
        "pollingInterval": COUNT,
        "cooldownPeriod": COUNT,
        "triggers": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"const": "postgresql"},
                    "metadata": {"type": "object", "additionalProperties": STRING},
                    "authenticationRef": {
                        "type": "object",
                        "properties": {"name": STRING},
                        "required": ["name"],
                        "additionalProperties": False,
                    },
                },
                "required": ["type", "metadata", "authenticationRef"],
                "additionalProperties": False,
            },
        },
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder, with secrets made as the guide says."""
    copy = tmp_path_factory.mktemp("deploy") / "kubernetes"
    shutil.copytree(ROOT / "deploy" / "kubernetes", copy, ignore=shutil.ignore_patterns("secrets"))
    query = "sslmode=verify-full&sslrootcert=/secrets/ca/ca.pem"
    make = [sys.executable, str(ROOT / "deploy/image/make_secrets.py"), str(copy / "secrets")]
    subprocess.run([*make, "--host", "db.example.org", "--query", query], check=True)
    (copy / "secrets" / "ca.pem").write_text("a certificate", encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def manifests(folder: Path) -> list[Manifest]:
    return render(folder)


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """Those of one kind, by name."""
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_fits_the_schema_of_its_kind(
    manifests: list[Manifest], version: str
) -> None:
    checked = set()
    for manifest in manifests:
        if not manifest["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(manifest, version, strict=True)
            checked.add(manifest["kind"])
    kinds = {"Namespace", "NetworkPolicy", "Job", "Deployment", "ConfigMap", "Secret"}
    assert checked == kinds


def test_a_misspelt_field_would_be_found(manifests: list[Manifest]) -> None:
    worker: dict[str, Any] = {**of_kind(manifests, "Deployment")["worker"]}
    worker["spec"] = {**worker["spec"], "replicaz": 1}
    with pytest.raises(kubernetes_validate.ValidationError, match="replicaz"):
        kubernetes_validate.validate(worker, VERSIONS[-1], strict=True)


def test_kedas_objects_use_fields_that_it_has(manifests: list[Manifest]) -> None:
    found = [each for each in manifests if each["apiVersion"] == "keda.sh/v1alpha1"]
    assert [each["kind"] for each in found] == list(KEDA)
    for manifest in found:
        schema = {"properties": KEDA[manifest["kind"]], "additionalProperties": False}
        jsonschema.validate(manifest["spec"], schema)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_renders_the_same(folder: Path, manifests: list[Manifest]) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], check=True, capture_output=True, text=True
    )
    # kustomize puts a hash of their content behind the names of what it generates.
    generated = "|".join([*of_kind(manifests, "ConfigMap"), *of_kind(manifests, "Secret")])
    hashed = re.compile(rf"\b(name|secretName): ({generated})-[a-z0-9]{{10}}$", flags=re.MULTILINE)
    plain = hashed.sub(r"\1: \2", done.stdout)

    rendered = list(yaml.safe_load_all(plain))
    for secret in of_kind(rendered, "Secret").values():  # its base64 is in lines
        secret["data"] = {key: "".join(value.split()) for key, value in secret["data"].items()}

    def order(each: Manifest) -> tuple[str, str]:
        return each["kind"], each["metadata"]["name"]

    assert sorted(rendered, key=order) == sorted(manifests, key=order)


def test_what_a_pod_mounts_and_reads_is_there(manifests: list[Manifest]) -> None:
    there = {
        kind: {name: set(each["data"]) for name, each in of_kind(manifests, kind).items()}
        for kind in ("Secret", "ConfigMap")
    }
    for manifest in manifests:
        pod = pod_spec(manifest)
        if pod is None:
            continue
        volumes = {}
        for volume in pod["volumes"]:
            keys = {"tmp"} if "emptyDir" in volume else set()
            if "secret" in volume:
                keys = there["Secret"][volume["secret"]["secretName"]]
            if "configMap" in volume:
                keys = there["ConfigMap"][volume["configMap"]["name"]]
            volumes[volume["name"]] = keys
        [container] = pod["containers"]
        files = {
            f"{mount['mountPath']}/{key}"
            for mount in container["volumeMounts"]
            for key in volumes[mount["name"]]
        }
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
        wanted = {each["value"] for each in container["env"] if each["name"].endswith("_FILE")}
        wanted |= {each for each in container["args"] if each.endswith(".toml")}
        assert wanted <= files, manifest["metadata"]["name"]
        assert "/secrets/ca/ca.pem" in files


def test_the_pods_are_allowed_in_a_namespace_that_is_restricted(manifests: list[Manifest]) -> None:
    [namespace] = of_kind(manifests, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pods = [pod for each in manifests if (pod := pod_spec(each)) is not None]
    assert len(pods) == 4
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod["automountServiceAccountToken"]
        for container in pod["containers"]:
            security = container["securityContext"]
            assert not security["allowPrivilegeEscalation"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["readOnlyRootFilesystem"]


def test_every_image_comes_from_the_registry_that_the_kustomization_names(
    manifests: list[Manifest],
) -> None:
    images = {each["image"] for manifest in manifests for each in containers(manifest)}
    assert images == {
        f"registry.example.org/trialfleet-{name}:{__version__}"
        for name in ("coordinator", "worker", "dashboard")
    }


def test_the_study_there_is_a_study(manifests: list[Manifest], tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(of_kind(manifests, "ConfigMap")["study"]["data"]["study.toml"], "utf-8")
    assert f"s.name = '{load(path).name}'" in scaling_query(manifests)


def scaling_query(manifests: list[Manifest]) -> str:
    """What KEDA asks the database."""
    [trigger] = of_kind(manifests, "ScaledObject")["worker"]["spec"]["triggers"]
    query: str = trigger["metadata"]["query"]
    return query


def test_there_are_as_many_workers_as_trials_that_are_yet_to_end(
    manifests: list[Manifest], database: Database
) -> None:
    query = text(scaling_query(manifests).replace("'demo'", "'trivial'"))

    def wanted() -> int:
        with database.transaction() as connection:
            return int(connection.scalar(query))

    assert wanted() == 0  # before the coordinator has come
    study = create(database, trials=3, top=1, final_seeds=2)
    assert wanted() == 3
    for left in (3, 2, 1):
        assert wanted() == left
        train_by_hand(database, study, take(database), scores=[1.0, 2.0])
    # A paused study needs workers only for what is under way, a stopped one for what is pending.
    course.extend(database, study, 9)
    under_way = take(database)
    assert wanted() == 6
    course.pause(database, study)
    assert wanted() == 1
    course.resume(database, study)
    course.stop(database, study, "by hand")
    assert wanted() == 1
    train_by_hand(database, study, under_way, scores=[1.0, 2.0])
    settings = Settings(poll_seconds=0.05)
    looks = 0

    def pause(_seconds: float) -> None:
        nonlocal looks
        looks += 1
        assert looks < 10
        # The final stage has begun: two seeds, trained together in one trial.
        assert wanted() == 1
        train_by_hand(database, find(database, "trivial"), take(database), scores=[1.0, 2.0])

    watch(database, "trivial", settings=settings, pause=pause)
    assert wanted() == 0
