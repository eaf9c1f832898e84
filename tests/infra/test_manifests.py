"""What infra/ holds is what its readers take: Kubernetes, KubeRay, the launcher, shells, docker."""

import copy
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import ray
import typer.main
import yaml
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

from scanner.cli import app, submit_check

INFRA = Path(__file__).parents[2] / "infra"
KUBERAY = INFRA / "kuberay"
KUBERNETES = "1.34"
OVERLAYS = {"cpu-smoke": "RayJob", "one-gpu-node": "RayCronJob", "spot-workers": "CronJob"}


def templates(node):
    """Yield every pod template below a node."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "template":
                yield value
            else:
                yield from templates(value)
    elif isinstance(node, list):
        for value in node:
            yield from templates(value)


def closed(schema):
    """Return a structural schema that refuses what the API server would silently drop."""
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        found["properties"] = {key: closed(each) for key, each in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            found.setdefault("additionalProperties", False)
    return found


def custom_schemas():
    """Return the closed schemas of the operators' CRDs by apiVersion and kind."""
    crds = [
        crd for path in (INFRA / "schemas").glob("*.yaml") for crd in documents(path)[0]["items"]
    ]
    return {
        (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]): closed(
            version["schema"]["openAPIV3Schema"]
        )
        for crd in crds
        for version in crd["spec"]["versions"]
    }


def kubernetes_types():
    """Return the registry in which a CRD's references to Kubernetes' own types are found."""
    folder = f"kubernetes-json-schema/v{KUBERNETES}.0-local-strict"
    types = schema_contents(f"{folder}/_definitions.json", KUBERNETES)
    return Resource.from_contents(types) @ Registry()


def validate(thing):
    """Raise a ValidationError for what the API server would refuse or drop."""
    if (schema := CUSTOM_SCHEMAS.get((thing["apiVersion"], thing["kind"]))) is not None:
        jsonschema.Draft202012Validator(schema, registry=KUBERNETES_TYPES).validate(thing)
        thing = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": thing["metadata"]}
    kubernetes_validate.validate(thing, KUBERNETES, strict=True)


def documents(path):
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


CUSTOM_SCHEMAS = custom_schemas()
KUBERNETES_TYPES = kubernetes_types()


@pytest.fixture(scope="module")
def built():
    """Build every overlay as ``kubectl apply -k`` would; name to objects by kind."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl, which builds the overlays, is not here")
    found = {}
    for name in ["base", *(f"overlays/{overlay}" for overlay in OVERLAYS)]:
        command = ["kubectl", "kustomize", str(KUBERAY / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        found[Path(name).name] = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    return found


def test_every_yaml_file_is_yaml():
    paths = sorted(INFRA.rglob("*.y*ml"))
    assert len(paths) > 15
    assert all(documents(path) for path in paths)


def test_objects_are_what_their_schemas_allow():
    paths = [p for p in KUBERAY.rglob("*.yaml") if p.name != "kustomization.yaml"]
    kinds = set()
    for path in paths:
        for thing in documents(path):
            validate(thing)
            kinds.add(thing["kind"])
    assert kinds >= {"RayCluster", "RayJob", "RayCronJob", "CronJob", "NetworkPolicy"}
    assert kinds >= {"PodMonitor", "PrometheusRule"}


def test_what_is_built_is_what_the_schemas_allow(built):
    for name, things in built.items():
        for thing in things.values():
            validate(thing)
        kind = OVERLAYS.get(name, "RayCluster")
        assert kind in things
        assert ("RayCluster" in things) == (kind in {"RayCluster", "CronJob"})
    job = built["cpu-smoke"]["RayJob"]["spec"]
    for each in (job, built["one-gpu-node"]["RayCronJob"]["spec"]["jobTemplate"]):
        assert each["submissionMode"] == "HTTPMode"  # a CRD takes any word, the operator four


@pytest.mark.parametrize(
    ("file", "path"),
    [
        ("work/scan/job.yaml", ("spec", "shutDownAfterJobFinishes")),
        ("work/nightly-raycronjob/audit.yaml", ("spec", "jobTemplate", "entryPoint")),
        ("base/cluster.yaml", ("spec", "workerGroupSpecs", 0, "maxReplica")),
        ("base/cluster.yaml", ("spec", "autoscalerOptions", "idleTimeoutSecond")),
        ("base/cluster.yaml", ("spec", "headGroupSpec", "template", "spec", "serviceAcountName")),
        (
            "base/cluster.yaml",
            ("spec", "workerGroupSpecs", 0, "template", "spec", "containers", 0, "resource"),
        ),
        ("base/cluster.yaml", ("spec", "workerGroupSpecs", 0, "template", "metadata", "label")),
        ("base/cluster.yaml", ("metadata", "nam")),
        ("work/nightly-cronjob/audit.yaml", ("spec", "concurencyPolicy")),
        ("base/network-policy.yaml", ("spec", "ingres")),
        ("monitoring/pod-monitor.yaml", ("spec", "podMetricsEndpoints", 0, "ports")),
        ("monitoring/rules.yaml", ("spec", "groups", 0, "rules", 0, "fors")),
    ],
)
def test_a_misspelt_field_is_refused(file, path):
    thing = copy.deepcopy(documents(KUBERAY / file)[0])
    *parents, last = path
    node = thing
    for step in parents:
        node = node[step]
    node[last] = "x"
    with pytest.raises(jsonschema.ValidationError, match=last):
        validate(thing)


CLUSTER, NIGHTLY = "base/cluster.yaml", "work/nightly-raycronjob/audit.yaml"
RULES, MONITOR = "monitoring/rules.yaml", "monitoring/pod-monitor.yaml"
WORKERS = ("spec", "workerGroupSpecs", 0)


@pytest.mark.parametrize(
    ("file", "path", "value", "message"),
    [
        (CLUSTER, ("spec", "authOptions", "mode"), "tokens", "'tokens' is not one of"),
        (CLUSTER, (*WORKERS, "maxReplicas"), "8", "'8' is not of type 'integer'"),
        (
            CLUSTER,
            ("spec", "headGroupSpec", "rayStartParams", "num-cpus"),
            0,
            "not of type 'string'",
        ),
        (CLUSTER, (*WORKERS, "groupName"), None, "'groupName' is a required property"),
        (RULES, ("spec", "groups", 0, "rules", 0, "for"), "half an hour", "does not match"),
        (RULES, ("spec", "groups", 0, "rules", 0, "labels", "severity"), 1, "not of type 'string'"),
        (MONITOR, ("spec", "selector"), None, "'selector' is a required property"),
        (NIGHTLY, ("spec", "schedule"), None, "'schedule' is a required property"),
        (NIGHTLY, ("spec", "jobTemplate", "backoffLimit"), "0", "'0' is not of type 'integer'"),
    ],
)
def test_a_wrong_value_is_refused(file, path, value, message):
    thing = copy.deepcopy(documents(KUBERAY / file)[0])
    *parents, last = path
    node = thing
    for step in parents:
        node = node[step]
    node[last] = value
    if value is None:
        del node[last]
    with pytest.raises(jsonschema.ValidationError, match=re.escape(message)):
        validate(thing)


def test_a_field_is_refused_unless_the_schema_keeps_unknown_ones():
    schema = {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}}
    open_below = copy.deepcopy(schema)
    open_below["properties"]["a"]["x-kubernetes-preserve-unknown-fields"] = True
    jsonschema.validate({"a": {"b": 1}}, closed(open_below))
    with pytest.raises(jsonschema.ValidationError, match="'b' was unexpected"):
        jsonschema.validate({"a": {"b": 1}}, closed(schema))


def test_pods_run_without_rights_and_tell_the_network_policy_whose_they_are(built):
    for name, things in built.items():
        policy = things["NetworkPolicy"]["spec"]
        release = policy["podSelector"]["matchLabels"]
        jobs = [t for kind, t in things.items() if kind.startswith("Ray") or kind == "CronJob"]
        pods = [pod for job in jobs for pod in templates(job)]
        assert len(pods) >= 2, name
        for pod in pods:
            assert release.items() <= pod["metadata"]["labels"].items()
            assert pod["spec"]["securityContext"]["runAsNonRoot"]
            for container in pod["spec"]["containers"]:
                assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
                assert not container["securityContext"]["allowPrivilegeEscalation"]
                assert container["securityContext"]["readOnlyRootFilesystem"]
                assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
                assert {"name": "HOME", "value": "/tmp"} in container["env"]
                assert container["image"].startswith(("memscan", "registry.example.com/memscan:"))


def test_the_network_policy_leaves_no_dangerous_port_open_to_others(built):
    policy = built["base"]["NetworkPolicy"]["spec"]
    (release,) = [rule for rule in policy["ingress"] if "ports" not in rule]
    assert release["from"] == [{"podSelector": policy["podSelector"]}]
    for rule in policy["ingress"]:
        for peer in rule["from"]:
            assert peer.get("podSelector") or peer["namespaceSelector"]["matchLabels"]
        numbers = {port["port"] for port in rule.get("ports", [])}
        who = rule["from"][0].get("podSelector", {}).get("matchLabels", {})
        operator = who.get("app.kubernetes.io/name") == "kuberay-operator"
        assert numbers <= ({8265} if operator else {8080})


def test_the_cronjob_speaks_to_the_head_and_with_the_token_that_the_operator_makes(built):
    things = built["spot-workers"]
    cluster = things["RayCluster"]["metadata"]["name"]
    (pod,) = templates(things["CronJob"])
    environment = {each["name"]: each for each in pod["spec"]["containers"][0]["env"]}
    assert environment["RAY_API_SERVER_ADDRESS"]["value"] == f"http://{cluster}-head-svc:8265"
    secret = environment["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": cluster, "key": "auth_token"}
    assert things["RayCluster"]["spec"]["authOptions"] == {"mode": "token"}


def commands(things):
    """Return the memscan commands of objects: ``memscan a && memscan b`` is two."""
    texts = []
    for kind, thing in things.items():
        if kind == "RayJob":
            texts.append(thing["spec"]["entrypoint"])
        if kind == "RayCronJob":
            texts.append(thing["spec"]["jobTemplate"]["entrypoint"])
        if kind == "CronJob":
            (pod,) = templates(thing)
            texts.append(shlex.join(["memscan", *pod["spec"]["containers"][0]["args"]]))
    return [shlex.split(part) for text in texts for part in text.split("&&")]


def test_commands_are_memscans_and_their_paths_are_the_clusters(built):
    root = typer.main.get_command(app).make_context("memscan", [], resilient_parsing=True)
    seen = set()
    for things in built.values():
        for program, *words in commands(things):
            assert program == "memscan"
            submit_check.check(root, words, None)
            seen.add(words[0])
    assert seen == {"scan", "audit", "testbed"}


NIGHTLIES = {"one-gpu-node": "RayCronJob", "spot-workers": "CronJob"}


@pytest.mark.parametrize("overlay", NIGHTLIES)
def test_the_values_of_an_overlay_are_in_the_command_of_its_nights(overlay, tmp_path):
    shutil.copytree(KUBERAY, tmp_path / "kuberay")
    own = tmp_path / "kuberay" / "overlays" / overlay
    (values,) = documents(own / "values.yaml")
    assert values["metadata"]["annotations"]["config.kubernetes.io/local-config"] == "true"
    values["data"] = {
        "corpus": "s3://c/shards", "model": "org/model", "calibration": "/shared/c2.json",
        "state": "s3://b/state", "device": "cpu", "actors": "3", "schedule": "0 4 * * 1",
        "shared-size": "7Gi", "models-size": "9Gi",
    }  # fmt: skip
    (own / "values.yaml").write_text(yaml.safe_dump(values))
    done = run(tool("kubectl"), "kustomize", str(own))
    assert done.returncode == 0, done.stderr
    things = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert "ConfigMap" not in {each["kind"] for each in things}
    night = {each["kind"]: each for each in things}[NIGHTLIES[overlay]]
    ((_, *words),) = commands({night["kind"]: night})
    root = typer.main.get_command(app).make_context("memscan", [], resilient_parsing=True)
    submit_check.check(root, words, None)
    text = " ".join(words).replace("=", " ")
    assert text.startswith("audit s3://c/shards ")
    for option in ("--model org/model", "--calibration /shared/c2.json", "--state s3://b/state",
                   "--device cpu", "--actors 3"):  # fmt: skip
        assert option in text
    assert night["spec"]["schedule"] == "0 4 * * 1"
    sizes = {
        each["metadata"]["name"]: each["spec"]["resources"]["requests"]["storage"]
        for each in things if each["kind"] == "PersistentVolumeClaim"
    }  # fmt: skip
    assert sizes == {"memscan-shared": "7Gi", "memscan-models": "9Gi"}
    for thing in things:
        validate(thing)


def test_secrets_are_optional_and_the_nights_message_goes_to_nobody_but_the_head(built):
    for things in built.values():
        jobs = [t for kind, t in things.items() if kind.startswith("Ray")]
        pods = [pod for job in jobs for pod in templates(job)]
        for pod in pods:
            (container,) = pod["spec"]["containers"]
            secrets = [each["secretRef"] for each in container["envFrom"]]
            assert all(secret["optional"] for secret in secrets)
            names = {secret["name"] for secret in secrets}
            is_head = container["name"] == "ray-head"
            assert names == {"memscan-credentials"} | ({"memscan-notify"} if is_head else set())


def test_the_image_has_the_ray_that_the_manifests_name():
    (pinned,) = [
        line.removeprefix("ray==")
        for line in (INFRA.parent / "constraints.txt").read_text().splitlines()
        if line.startswith("ray==")
    ]
    (cluster,) = documents(KUBERAY / "base" / "cluster.yaml")
    assert cluster["spec"]["rayVersion"] == pinned == ray.__version__


def tool(name):
    found = Path(sys.executable).with_name(name)
    path = str(found) if found.exists() else shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not here")
    return path


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_scripts_pass_shellcheck():
    done = run(
        tool("shellcheck"), *map(str, sorted([*INFRA.rglob("*.sbatch"), *INFRA.rglob("*.sh")]))
    )
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_passes_hadolint(tmp_path):
    hadolint, file = tool("hadolint"), INFRA / "Dockerfile"
    done = run(hadolint, str(file))
    assert done.returncode == 0, done.stdout
    worse = tmp_path / "Dockerfile"
    worse.write_text(file.read_text() + "\nRUN apt-get install curl\n")
    assert run(hadolint, str(worse)).returncode


def test_the_workflow_in_the_docs_builds_the_dockerfile_that_there_is():
    page = (INFRA.parent / "docs" / "how-to" / "publish-an-image.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (job,) = yaml.safe_load(text)["jobs"].values()
    (build,) = [step["with"] for step in job["steps"] if step.get("id") == "build"]
    assert (INFRA.parent / build["file"]).is_file()
    given = {line.partition("=")[0] for line in build["build-args"].splitlines()}
    known = set(re.findall(r"^ARG (\w+)", (INFRA / "Dockerfile").read_text(), re.MULTILINE))
    assert given <= known
    assert known == {name for line in re.findall(r"^\| (`[A-Z_`, ]+) \|", page, re.MULTILINE)
                     for name in re.findall(r"`(\w+)`", line)}  # fmt: skip
