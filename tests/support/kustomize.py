"""What `kubectl kustomize` makes of a folder, as far as ours goes, where there is no kubectl.

Kept honest by a test that compares the two wherever kubectl is installed. One thing is left out:
the hash that kustomize puts behind the name of a generated ConfigMap or Secret.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
KNOWN = {
    "apiVersion",
    "kind",
    "namespace",
    "resources",
    "labels",
    "images",
    "configMapGenerator",
    "secretGenerator",
}
CLUSTER_WIDE = {"Namespace"}


def render(folder: Path) -> list[Manifest]:
    """The manifests that would be applied.

    Raises:
        AssertionError: The kustomization uses something that this renderer does not know.
    """
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    assert not kustomization.keys() - KNOWN
    manifests = [
        manifest
        for file in kustomization["resources"]
        for manifest in yaml.safe_load_all((folder / file).read_text(encoding="utf-8"))
    ]
    manifests += [
        _generated("ConfigMap", each, folder) for each in kustomization["configMapGenerator"]
    ]
    manifests += [_generated("Secret", each, folder) for each in kustomization["secretGenerator"]]
    for manifest in manifests:
        if manifest["kind"] not in CLUSTER_WIDE:
            manifest["metadata"]["namespace"] = kustomization["namespace"]
        for labels in kustomization["labels"]:
            assert labels.keys() == {"pairs"}
            manifest["metadata"].setdefault("labels", {}).update(labels["pairs"])
        for container in containers(manifest):
            for image in kustomization["images"]:
                if container["image"] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
    return manifests


def containers(manifest: Manifest) -> list[Manifest]:
    """The containers of a Deployment's or a Job's pods."""
    pod = pod_spec(manifest)
    found: list[Manifest] = pod["containers"] if pod else []
    return found


def pod_spec(manifest: Manifest) -> Manifest | None:
    """What a Deployment or a Job says of its pods."""
    template = manifest.get("spec", {}).get("template")
    spec: Manifest | None = template["spec"] if template else None
    return spec


def _generated(kind: str, generator: Manifest, folder: Path) -> Manifest:
    assert generator.keys() == {"name", "files"}
    data = {}
    for entry in generator["files"]:
        key, _, file = entry.rpartition("=")
        content = (folder / file).read_bytes()
        data[key or file] = (
            base64.b64encode(content).decode() if kind == "Secret" else content.decode()
        )
    manifest: Manifest = {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": generator["name"]},
        "data": data,
    }
    if kind == "Secret":
        manifest["type"] = "Opaque"
    return manifest
