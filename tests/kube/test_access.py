"""How the cluster is reached, who we are there, and what we may do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest
from kubernetes_asyncio.config import incluster_config

import evstore
from certificates import Certificate, CertificateAuthority
from events import History, creations, everything
from evstore.errors import ConfigError, SchemaError, UnavailableError
from evstore.log import open_log
from evstore.log.kubernetes import connection, manifests, migrations
from fault.history import limited

if TYPE_CHECKING:
    from collections.abc import Callable

    from apiserver import ApiServer
    from evstore.config import Config


def changed(config: Config, **settings: Any) -> Config:
    kubernetes = msgspec.structs.replace(config.kubernetes, **settings)
    return msgspec.structs.replace(config, kubernetes=kubernetes)


def as_role(server: ApiServer, config: Config, role: str) -> Config:
    return server.config(config.kubernetes.system_namespace, role=role)


def kubeconfig_of(config: Config) -> dict[str, Any]:
    document: dict[str, Any]
    document = json.loads(Path(config.kubernetes.kubeconfig).read_text())
    return document


async def opened(config: Config) -> None:
    async with open_log(config):
        pass


async def test_the_runtime_role_is_enough_for_a_store(
    apiserver: ApiServer, config: Config
) -> None:
    runtime = as_role(apiserver, config, "runtime")
    async with evstore.open(runtime) as store, evstore.open(runtime) as other:
        await store.create("Zone", "a", spec={})
        await other.create("Zone", "b", spec={}, actor="alice")
        assert [event.position async for event in store.events()] == [1, 2]
        verdict = await store.verify()
        assert (verdict.ok, verdict.unguarded) == (True, [])


@pytest.mark.parametrize("verb", ["PUT", "PATCH", "DELETE"])
async def test_the_runtime_role_cannot_change_or_remove_what_was_appended(
    apiserver: ApiServer, config: Config, verb: str
) -> None:
    runtime = as_role(apiserver, config, "runtime")
    async with open_log(runtime) as log:
        await log.append(creations(History(log.genesis), "a"), after=log.genesis)
        namespace = config.kubernetes.system_namespace
        path = f"/apis/evstore.dev/v1/namespaces/{namespace}/changes"
        for target in (f"{path}/{1:020}", path):
            status, _ = apiserver.request(verb, target, {}, role="runtime")
            assert status in {403, 405}
        with pytest.raises(ConfigError, match=r"may not update changes\.evstore\.dev"):
            await log.check_redactor()
        assert len(await everything(log)) == 1


async def test_an_account_that_could_remove_changes_is_told(
    apiserver: ApiServer, config: Config
) -> None:
    async with open_log(as_role(apiserver, config, "admin")) as log:
        assert await log.unguarded() == [
            "this account may delete changes.evstore.dev",
            "this account may deletecollection changes.evstore.dev",
        ]


async def test_missing_rights_are_told_with_verb_and_resource(
    apiserver: ApiServer, config: Config
) -> None:
    with pytest.raises(ConfigError) as caught:
        await opened(as_role(apiserver, config, "nobody"))
    assert "may not get" in str(caught.value)
    assert "customresourcedefinitions" in str(caught.value)
    assert "evstore migrate manifests" in str(caught.value)


async def test_the_printed_roles_are_enough_in_their_namespace_alone(
    apiserver: ApiServer, namespaces: Callable[[], Config]
) -> None:
    here, elsewhere = namespaces(), namespaces()
    namespace = here.kubernetes.system_namespace
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    for document in manifests.roles(namespace, account="control-plane"):
        kind = document["kind"]
        if "Binding" in kind:
            document["subjects"] = [
                {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "User",
                    "name": "nobody",
                }
            ]
        scope = f"/namespaces/{namespace}" if "Cluster" not in kind else ""
        apiserver.create(f"{rbac}{scope}/{kind.lower()}s", document)
    try:
        await usable(as_role(apiserver, here, "nobody"))
        with pytest.raises(ConfigError, match=r"may not get .*logs"):
            await opened(as_role(apiserver, elsewhere, "nobody"))
    finally:
        name = manifests.SCHEMA_READER
        apiserver.request("DELETE", f"{rbac}/clusterroles/{name}")
        apiserver.request("DELETE", f"{rbac}/clusterrolebindings/{name}-{namespace}")


async def usable(config: Config) -> None:
    """Open a store and write, as soon as the API server has heard of the roles."""
    with anyio.fail_after(10):
        while True:
            try:
                async with evstore.open(config) as store:
                    await store.create("Zone", "a", spec={})
                    return
            except ConfigError:
                await anyio.sleep(0.05)


async def test_a_token_that_is_replaced_in_its_file_is_read_again(
    apiserver: ApiServer, config: Config, tmp_path: Path
) -> None:
    """As the tokens of pods are, which live for an hour."""
    token = tmp_path / "token"
    token.write_text(apiserver.token("owner"))
    document = kubeconfig_of(config)
    document["users"][0]["user"] = {"tokenFile": str(token)}
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(document))
    async with evstore.open(changed(config, kubeconfig=str(path))) as store:
        await store.create("Zone", "a", spec={})
        token.write_text(apiserver.token("admin"))
        store._log._client._connection._access.api_key["BearerToken"] = "Bearer expired"
        await store.create("Zone", "b", spec={})
        token.write_text("expired")
        store._log._client._connection._access.api_key["BearerToken"] = "Bearer expired"
        with pytest.raises(ConfigError, match="does not accept who we are"):
            await store.get("Zone", "b", consistent=True)


async def test_a_token_in_a_file_that_ends_with_a_line_is_read(
    apiserver: ApiServer, config: Config, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(apiserver.token("owner") + "\n")
    document = kubeconfig_of(config)
    document["users"][0]["user"] = {"tokenFile": str(token)}
    await opened(changed(config, kubeconfig=written(tmp_path, document)))


async def test_a_client_certificate_that_is_replaced_is_taken_up(
    apiserver: ApiServer, config: Config, tmp_path: Path
) -> None:
    """The server says 401 to one that has expired, and the session goes on."""
    document = kubeconfig_of(config)
    old = CertificateAuthority(tmp_path, "old").issue("owner")
    document["users"][0]["user"] |= certificate(old)
    path = written(tmp_path, document)
    async with evstore.open(changed(config, kubeconfig=path)) as store:
        await store.create("Zone", "a", spec={})
        new = apiserver.authority.issue("owner")
        document["users"][0]["user"] = certificate(new)
        written(tmp_path, document)
        store._log._client._connection._access.api_key["BearerToken"] = "Bearer no"
        await store.create("Zone", "b", spec={})
        assert (await store.get("Zone", "b", consistent=True)).version == 2


async def test_an_authority_that_is_replaced_is_taken_up(
    apiserver: ApiServer, config: Config, tmp_path: Path
) -> None:
    """New connections are refused until the file has the server's authority again."""
    trusted = tmp_path / "trusted.crt"
    trusted.write_bytes(apiserver.ca_path.read_bytes())
    document = kubeconfig_of(config)
    document["clusters"][0]["cluster"]["certificate-authority"] = str(trusted)
    config = changed(config, kubeconfig=written(tmp_path, document))
    async with open_log(config) as log:
        way: Any = log._client._connection  # type: ignore[attr-defined]
        trusted.write_bytes(
            CertificateAuthority(tmp_path, "other").ca_path.read_bytes()
        )
        await way.renew(way.readings)
        with pytest.raises(UnavailableError, match="cannot be trusted"):
            await log.head()
        trusted.write_bytes(apiserver.ca_path.read_bytes())
        assert await log.head() == log.genesis


async def test_many_that_are_refused_at_once_read_the_credentials_once(
    config: Config,
) -> None:
    async with open_log(config) as log:
        way: Any = log._client._connection  # type: ignore[attr-defined]
        before = way.readings
        way._access.api_key["BearerToken"] = "Bearer expired"
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(log.head)
        assert way.readings == before + 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_plugin_that_hangs_is_given_up(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CREDENTIALS_SECONDS_MAX", 0.2)
    api = "client.authentication.k8s.io/v1beta1"
    document = kubeconfig_of(config)
    plugin = {"apiVersion": api, "command": "sleep", "args": ["60"]}
    document["users"][0]["user"] = {"exec": plugin}
    path = written(tmp_path, document)
    hasty = limited(changed(config, kubeconfig=path), start_timeout=0.0)
    with (
        anyio.fail_after(10),
        pytest.raises(UnavailableError, match=r"credentials did not come in 0\.2 s"),
    ):
        await opened(hasty)


def written(folder: Path, kubeconfig: dict[str, Any]) -> str:
    path = folder / "kubeconfig"
    path.write_text(json.dumps(kubeconfig))
    return str(path)


def certificate(pair: Certificate) -> dict[str, str]:
    return {"client-certificate": str(pair.cert_path), "client-key": str(pair.key_path)}


async def test_an_exec_plugin_is_asked_for_the_token(
    apiserver: ApiServer, config: Config, tmp_path: Path
) -> None:
    api = "client.authentication.k8s.io/v1beta1"
    answer = {
        "apiVersion": api,
        "kind": "ExecCredential",
        "status": {"token": apiserver.token("owner")},
    }
    document = kubeconfig_of(config)
    document["users"][0]["user"] = {
        "exec": {"apiVersion": api, "command": "echo", "args": [json.dumps(answer)]}
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(document))
    await opened(changed(config, kubeconfig=str(path)))


async def test_the_pods_account_is_used_without_a_kubeconfig(
    apiserver: ApiServer,
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "token").write_text(apiserver.token("owner"))
    names = {
        "SERVICE_TOKEN_FILENAME": str(tmp_path / "token"),
        "SERVICE_CERT_FILENAME": str(apiserver.ca_path),
    }
    for name, value in names.items():
        monkeypatch.setattr(incluster_config, name, value)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", apiserver.host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(apiserver.port))
    await opened(changed(config, kubeconfig=""))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kubeconfig": "/nowhere"}, "kubeconfig: there is no file /nowhere"),
        ({"kubeconfig": ""}, "kubeconfig is empty, and this is no pod"),
        ({"context": "east"}, "has no context 'east'"),
    ],
)
async def test_settings_that_lead_nowhere_are_named(
    config: Config, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        await opened(changed(config, **settings))


async def test_secrets_of_a_kubeconfig_stay_out_of_errors(
    config: Config, tmp_path: Path
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text('{"users": [{"user": {"token": "hidden-one"}}], "contexts": 3}')
    with pytest.raises(ConfigError) as caught:
        await opened(changed(config, kubeconfig=str(path)))
    assert "hidden-one" not in str(caught.value)


async def test_a_certificate_of_another_authority_is_refused(
    config: Config, tmp_path: Path
) -> None:
    other = CertificateAuthority(tmp_path, "other")
    document = kubeconfig_of(config)
    document["clusters"][0]["cluster"]["certificate-authority"] = str(other.ca_path)
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(document))
    hasty = limited(changed(config, kubeconfig=str(path)), start_timeout=0.0)
    with pytest.raises(UnavailableError, match="certificate verify failed"):
        await opened(hasty)


async def test_a_namespace_that_is_not_there_is_named(
    apiserver: ApiServer,
) -> None:
    with pytest.raises(SchemaError, match="has no namespace nowhere: create it"):
        await opened(apiserver.config("nowhere"))


async def test_kinds_that_are_not_installed_or_newer_are_told(
    apiserver: ApiServer, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", 2)
    with pytest.raises(SchemaError, match=r'at version 1, .* version 2\. Run "evstore'):
        await opened(config)
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", 0)
    with pytest.raises(SchemaError, match="at version 1, newer than version 0"):
        await opened(config)
    with pytest.raises(SchemaError, match="newer"):
        await migrations.migrate(as_role(apiserver, config, "admin"))
