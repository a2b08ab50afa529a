"""`evstore` with a cluster, and kubectl beside it, as an operator has them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from apiserver import ApiServer, bind, running_apiserver
from command import Command
from servers import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evstore.config import Config

NAMES = [
    f"{name}.evstore.dev"
    for name in (
        *("changes", "chunks", "logs", "snapshots", "snapshotchunks"),
        "resources",
    )
]


class Kubectl:
    """Runs kubectl as the administrator of one namespace."""

    def __init__(self, config: Config) -> None:
        self._words = [
            "kubectl",
            f"--kubeconfig={config.kubernetes.kubeconfig}",
            f"--namespace={config.kubernetes.system_namespace}",
            f"--cache-dir={config.kubernetes.kubeconfig}-cache",
        ]

    def __call__(self, *words: str, stdin: str = "") -> str:
        done = subprocess.run(
            [*self._words, *words],
            input=stdin,
            capture_output=True,
            check=False,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def kubectl(config: Config) -> Kubectl:
    if shutil.which("kubectl") is None:
        unavailable("no kubectl: apt-get install -y kubernetes-client")
    return Kubectl(config)


@pytest.fixture
def bare() -> Iterator[ApiServer]:
    """Return an API server that knows nothing of evstore."""
    with running_apiserver() as running:
        yield running


@pytest.fixture
def command(config: Config, tmp_path: Path) -> Command:
    return Command(config, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_migrate_up_installs_the_kinds_once(bare: ApiServer, tmp_path: Path) -> None:
    config = bare.config("default", role="admin")
    migrate = Command(config, tmp_path)
    refused = migrate("log")
    assert refused.code == 1
    assert "changes.evstore.dev is at version 0" in refused.err
    assert 'Run "evstore migrate up"' in refused.err
    missing = migrate("migrate", "status", "--check", "-o", "json")
    assert missing.code == 1
    kinds = [{"name": name, "version": 0} for name in NAMES]
    (document,) = missing.documents
    assert (document["version"], document["kinds"]) == (0, kinds)
    (document,) = migrate("migrate", "plan", "-o", "json").documents
    assert (document["version"], document["kinds"]) == (0, kinds)
    plan = migrate("migrate", "plan").out
    assert plan.startswith("the cluster is empty\n")
    assert plan.count("missing") == len(NAMES)
    assert migrate("migrate", "up").out == "migrated to version 1\n"
    assert migrate("migrate", "up").out == "already at version 1\n"
    status = migrate("migrate", "status", "--check")
    assert status.code == 0
    assert status.out.count("installed") == len(NAMES)
    assert migrate("log").code == 0
    # An older one, as another release may have left it, is brought up to date.
    definition = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{NAMES[0]}"
    _, found = bare.request("GET", definition)
    del found["metadata"]["annotations"]
    found["spec"]["versions"][0]["additionalPrinterColumns"] = []
    assert bare.request("PUT", definition, found)[0] == 200
    assert "changes.evstore.dev is at version 0" in migrate("log").err
    (done,) = migrate("migrate", "up", "-o", "json").documents
    assert (done["version"], done["applied"]) == (1, [NAMES[0]])
    _, found = bare.request("GET", definition)
    assert len(found["spec"]["versions"][0]["additionalPrinterColumns"]) == 5
    # A newer one is left as it is, and called so.
    found["metadata"]["annotations"]["evstore.dev/schema-version"] = "2"
    assert bare.request("PUT", definition, found)[0] == 200
    status = migrate("migrate", "status")
    assert [*status.out.splitlines()[1].split()] == [NAMES[0], "2", "newer"]
    assert "newer than version 1" in migrate("migrate", "up").err


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_who_installs_kinds_need_no_rights_in_the_namespace(
    bare: ApiServer, tmp_path: Path
) -> None:
    migrate = Command(bare.config("default", role="nobody"), tmp_path)
    assert migrate("migrate", "up").code == 1
    resource = "customresourcedefinitions"
    rule = {
        "apiGroups": ["apiextensions.k8s.io"],
        "resources": [resource],
        "verbs": ["create", "get", "update"],
    }
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    name = "test-nobody"
    bare.create(path, {"metadata": {"name": name}, "rules": [rule]})
    bind(bare, f"{path.removesuffix('roles')}rolebindings", "ClusterRole", name)
    deadline = time.monotonic() + 20
    while (
        done := migrate.process("migrate", "up")
    ).code and time.monotonic() < deadline:
        pass  # the API server has not heard of the role yet
    assert done.out == "migrated to version 1\n", done.err
    assert "looks at no log, and so at no projections" in done.err
    assert migrate("migrate", "status", "--check").code == 0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_kubectl_applies_what_is_printed(bare: ApiServer, tmp_path: Path) -> None:
    config = bare.config("kuma-system", role="admin")
    bare.create("/api/v1/namespaces", {"metadata": {"name": "kuma-system"}})
    printed = Command(None, tmp_path)("migrate", "manifests", "--account", "mine")
    assert printed.code == 0
    kubectl(config)("apply", "-f", "-", stdin=printed.out)
    again = kubectl(config)("apply", "-f", "-", stdin=printed.out).splitlines()
    assert [line for line in again if not line.endswith(" unchanged")] == []
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(printed.out))
    subjects = [each["subjects"] for each in documents if "subjects" in each]
    mine = {"kind": "ServiceAccount", "name": "mine", "namespace": "kuma-system"}
    assert subjects == [[mine], [mine]]
    assert Command(config, tmp_path)("migrate", "up").out == "already at version 1\n"
    # A second log, in another namespace, takes nothing from the first.
    bare.create("/api/v1/namespaces", {"metadata": {"name": "second"}})
    second = Command(None, tmp_path)(
        *("migrate", "manifests", "--account", "elsewhere:yours"),
        KUMA_STORE_KUBERNETES_SYSTEM_NAMESPACE="second",
    )
    other = bare.config("second", role="admin")
    applied = kubectl(other)("apply", "-f", "-", stdin=second.out).splitlines()
    assert not [line for line in applied if line.endswith(" configured")]
    readers = kubectl(config)(
        *("get", "clusterrolebindings", "-o", "json"),
    )
    assert {
        each["subjects"][0]["name"]
        for each in json.loads(readers)["items"]
        if each["roleRef"]["name"] == "evstore-schema-reader"
    } == {"mine", "yours"}
    # The server publishes what kinds are made of a moment after it has them.
    while (
        "dev.evstore.v1.Change"
        not in bare.request("GET", "/openapi/v2")[1]["definitions"]
    ):
        time.sleep(0.1)
    explained = kubectl(config)("explain", "changes.evstore.dev.spec.payload")
    assert "The events, where they are not in chunks." in explained


@pytest.mark.parametrize(
    ("account", "subject"),
    [
        ("a.b-c", {"name": "a.b-c", "namespace": "kuma-system"}),
        ("other:plane", {"name": "plane", "namespace": "other"}),
    ],
)
def test_the_roles_are_bound_to_the_account_that_is_named(
    tmp_path: Path, account: str, subject: dict[str, str]
) -> None:
    printed = Command(None, tmp_path)("migrate", "manifests", "--account", account)
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(printed.out))
    assert [each["subjects"] for each in documents if "subjects" in each] == [
        [{"kind": "ServiceAccount", **subject}]
    ] * 2
    # Not everything that reads YAML knows how to refer to what was said before.
    assert "*id" not in printed.out


@pytest.mark.parametrize(
    "account", ["", "a b", "Mine", "a/b", "system:serviceaccount:a:b", "a" * 254, "a\n"]
)
def test_what_is_no_account_is_refused(tmp_path: Path, account: str) -> None:
    refused = Command(None, tmp_path)("migrate", "manifests", "--account", account)
    assert (refused.code, refused.out) == (1, "")
    assert "is no service account: NAME or NAMESPACE:NAME" in refused.err


def test_verify_says_if_this_account_could_remove_changes(
    apiserver: ApiServer, config: Config, tmp_path: Path
) -> None:
    admin = apiserver.config(config.kubernetes.system_namespace, role="admin")
    told = Command(admin, tmp_path)("verify").err.splitlines()
    assert told == [
        f"warning: this account may {verb} changes.evstore.dev: nothing keeps events from "
        "changing"
        for verb in ("delete", "deletecollection")
    ]


def test_the_role_of_the_mirror_is_bound_where_that_is_switched_on(
    tmp_path: Path,
) -> None:
    def bound(**environ: str) -> list[str]:
        printed = Command(None, tmp_path)("migrate", "manifests", **environ)
        documents: list[dict[str, Any]] = list(yaml.safe_load_all(printed.out))
        roles = {each["metadata"]["name"] for each in documents if "rules" in each}
        assert "evstore-mirror" in roles
        return [each["roleRef"]["name"] for each in documents if "roleRef" in each]

    switched_on = bound(KUMA_STORE_KUBERNETES_MIRROR_ENABLED="true")
    assert set(switched_on) - set(bound()) == {"evstore-mirror"}


def printed(tmp_path: Path, *words: str, **environ: str) -> str:
    done = Command(None, tmp_path)("migrate", "manifests", *words, **environ)
    assert (done.code, done.err) == (0, "")
    return done.out


def test_the_policy_is_printed_behind_the_rest_and_has_a_binding(
    tmp_path: Path,
) -> None:
    environ = {"KUMA_STORE_KUBERNETES_SYSTEM_NAMESPACE": "mesh"}
    usual = printed(tmp_path, **environ)
    whole = printed(tmp_path, "--admission-policy", **environ)
    # Older servers take what is printed without it, which stays what it was.
    assert whole.startswith(usual)
    assert "ValidatingAdmissionPolicy" not in usual
    assert "# Needs Kubernetes 1.30 or later. Not tested" in whole
    policy, binding = list(yaml.safe_load_all(whole))[-2:]
    api = "admissionregistration.k8s.io/v1"
    assert (policy["apiVersion"], binding["apiVersion"]) == (api, api)
    assert policy["kind"] == "ValidatingAdmissionPolicy"
    assert binding["kind"] == "ValidatingAdmissionPolicyBinding"
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    assert binding["spec"]["validationActions"] == ["Deny"]
    selector = binding["spec"]["matchResources"]["namespaceSelector"]
    assert selector == {"matchLabels": {"kubernetes.io/metadata.name": "mesh"}}
    assert policy["spec"]["failurePolicy"] == "Fail"
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    assert rule == {
        "apiGroups": ["evstore.dev"],
        "apiVersions": ["v1"],
        "operations": ["UPDATE", "DELETE"],
        "resources": ["changes", "chunks"],
    }
    (validation,) = policy["spec"]["validations"]
    assert validation["expression"] == "false", "nobody is exempt"


def test_the_policy_lets_those_pass_who_are_named(tmp_path: Path) -> None:
    janitor = "system:serviceaccount:kuma-system:janitor"
    names = ("--exempt", janitor, "--exempt", 'strange " one')
    whole = printed(tmp_path, "--admission-policy", *names)
    policy = list(yaml.safe_load_all(whole))[-2]
    (validation,) = policy["spec"]["validations"]
    assert validation["expression"] == (
        f'request.userInfo.username in ["{janitor}", "strange \\" one"]'
    )
    refused = Command(None, tmp_path)("migrate", "manifests", "--exempt", janitor)
    assert refused.code == 2
    assert "--admission-policy" in refused.err


@pytest.mark.parametrize("words", [(), ("--apply",)])
def test_a_cluster_grants_nothing_and_the_refusal_says_what_does(
    command: Command, words: tuple[str, ...]
) -> None:
    refused = command("migrate", "grant", "plane", *words)
    assert (refused.code, refused.out) == (2, "")
    assert "`evstore migrate manifests --account NAME` prints them" in refused.err


def test_kubectl_shows_position_time_actor_and_summary(
    config: Config, command: Command
) -> None:
    manifest = (
        "type: Zone\nname: west\nspec: {}\n---\ntype: Zone\nname: east\nspec: {}\n"
    )
    applied = command("apply", "--actor", "alice", "-f", "-", stdin=manifest)
    assert applied.code == 0, applied.err
    title, line = kubectl(config)("get", "changes").splitlines()
    assert title.split() == ["NAME", "POSITION", "TIME", "ACTOR", "SUMMARY"]
    name, position, _, actor, *summary = line.split()
    assert (name, position, actor) == (f"{1:020}", "2", "alice")
    assert summary[0] == "created"
    assert summary[-3:] == ["and", "1", "more"]


def test_the_commands_work_as_with_any_store(command: Command) -> None:
    manifest = "type: Zone\nname: west\nspec: {a: 1}\n"
    assert command("apply", "-f", "-", stdin=manifest).code == 0
    assert command("log", "-o", "json").documents[0]["operation"] == "created"
    assert command("get", "Zone", "west", "-o", "json").documents[0]["spec"] == {"a": 1}
    assert command("verify").code == 0
    assert command("delete", "Zone", "west").code == 0
    assert command("stats").code == 0


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['aiohttp'] = None\nfrom evstore.cli import app; app()"
    )
    for words in (["log"], ["migrate", "up"], ["migrate", "manifests"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *words],
            capture_output=True,
            check=False,
            text=True,
            env=Command(None, tmp_path).environ(KUMA_STORE_TYPE="kubernetes"),
        )
        assert done.returncode == 1
        assert "pip install 'evstore[kubernetes]'" in done.stderr
        assert done.stderr.count("\n") == 1


def test_memory_and_postgres_do_not_load_it() -> None:
    script = (
        "import sys, evstore, evstore.cli, evstore.maintenance\n"
        "names = ('aiohttp', 'kubernetes_asyncio', 'evstore.log.kubernetes')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    assert done.stdout == "[]\n"
