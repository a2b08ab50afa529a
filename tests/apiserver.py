"""A real Kubernetes API server for the tests, with its etcd, on free ports."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import time
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.request import Request, urlopen

import anyio
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certificates import CertificateAuthority, write_key
from evstore.clock import boot_microseconds
from evstore.config import Config, KubernetesConfig, StoreType
from evstore.log.kubernetes import manifests, migrations
from servers import free_port, short_folder, unavailable

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

_BINARY_VARIABLE: Final = "EVSTORE_KUBE_APISERVER"
_BINARY_DEFAULT: Final = Path.home() / ".cache/evstore-kube/kube-apiserver"
_START_SECONDS_MAX: Final = 60
_STOP_SECONDS_MAX: Final = 20
_PAUSE: Final = 0.02
ROLES: Final = ("admin", "owner", "compactor", "runtime", "nobody")


class ApiServer:
    """kube-apiserver and etcd on 127.0.0.1, with RBAC on, in a folder that exists.

    Each of `ROLES` is a user with a token of its own, or with a client certificate of
    the authority; `admin` may do everything, the others what tests bind to them.
    """

    host: Final = "127.0.0.1"

    def __init__(
        self, binary: Path, folder: Path, *, etcd_options: Sequence[str] = ()
    ) -> None:
        self._binary = binary
        self._etcd_options = etcd_options
        self.folder: Final = folder
        self.port: Final = free_port()
        self._etcd_port: Final = free_port()
        self._peer_port: Final = free_port()
        self._etcd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self.authority: Final = CertificateAuthority(folder, "cluster")
        self.ca_path: Final = self.authority.ca_path
        self.certificate: Final = self.authority.issue(
            "server", hosts=(self.host, "localhost")
        )
        self._account_key: Final = folder / "account.key"
        self._account_public: Final = folder / "account.pub"
        key = ec.generate_private_key(ec.SECP256R1())
        write_key(self._account_key, key)
        self._account_public.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM,
                serialization.PublicFormat.SubjectPublicKeyInfo,
            )
        )
        self._tokens: Final = folder / "tokens.csv"
        lines = [f'{self.token(role)},{role},{role},"{_group(role)}"' for role in ROLES]
        self._tokens.write_text("\n".join(lines) + "\n", encoding="utf-8")

    @staticmethod
    def token(role: str) -> str:
        """Return the token of one of `ROLES`."""
        return f"token-of-{role}"

    def start(self) -> None:
        """Start both, and wait until requests are answered."""
        self.start_etcd()
        self.start_server()

    def start_etcd(self) -> None:
        """Start etcd; the API server finds it again by itself."""
        url = f"http://{self.host}:{self._etcd_port}"
        peer = f"http://{self.host}:{self._peer_port}"
        self._etcd = self._spawn(
            "etcd",
            *("etcd", "--name=one", f"--data-dir={self.folder / 'etcd'}"),
            *(f"--listen-client-urls={url}", f"--advertise-client-urls={url}"),
            *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
            *(f"--initial-cluster=one={peer}", "--logger=zap"),
            *("--heartbeat-interval=50", "--election-timeout=250"),
            *self._etcd_options,
        )

    def ask_etcd(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask etcd itself, by its gateway for JSON, as `etcdctl` does; return its answer."""
        request = Request(
            f"http://{self.host}:{self._etcd_port}/v3/{path}",
            data=json.dumps(body).encode(),
        )
        with urlopen(request, timeout=20) as reply:
            answer: dict[str, Any] = json.load(reply)
        return answer

    def start_server(self) -> None:
        """Start the API server, and wait until it answers."""
        self._server = self._spawn(
            "kube-apiserver",
            *(
                str(self._binary),
                f"--etcd-servers=http://{self.host}:{self._etcd_port}",
            ),
            *(f"--bind-address={self.host}", f"--secure-port={self.port}"),
            *("--insecure-port=0", f"--cert-dir={self.folder}"),
            f"--tls-cert-file={self.certificate.cert_path}",
            f"--tls-private-key-file={self.certificate.key_path}",
            f"--client-ca-file={self.ca_path}",
            *("--authorization-mode=RBAC", f"--token-auth-file={self._tokens}"),
            "--service-account-issuer=https://evstore.test",
            f"--service-account-key-file={self._account_public}",
            f"--service-account-signing-key-file={self._account_key}",
            *("--service-cluster-ip-range=10.0.0.0/24", "--profiling=false"),
            *("--endpoint-reconciler-type=none", "--shutdown-delay-duration=0s"),
        )
        self._await_ready()

    @property
    def server_pid(self) -> int:
        """The id of the API server's process."""
        assert self._server is not None
        return self._server.pid

    @property
    def etcd_pid(self) -> int:
        """The id of etcd's process."""
        assert self._etcd is not None
        return self._etcd.pid

    def kill_server(self) -> None:
        """Kill the API server as a crash does."""
        self._kill(self._server)
        self._server = None

    def kill_etcd(self) -> None:
        """Kill etcd as a crash does."""
        self._kill(self._etcd)
        self._etcd = None

    def stop(self) -> None:
        """Stop both."""
        self.kill_server()
        self.kill_etcd()

    def request(
        self, method: str, path: str, body: object = None, *, role: str = "admin"
    ) -> tuple[int, Any]:
        """Ask the API server once; return the status and the decoded answer."""
        context = ssl.create_default_context(cafile=str(self.ca_path))
        connection = HTTPSConnection(self.host, self.port, context=context, timeout=10)
        try:
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {
                    "Authorization": f"Bearer {self.token(role)}",
                    "Content-Type": "application/json",
                },
            )
            answer = connection.getresponse()
            text = answer.read()
            status = answer.status
        finally:
            connection.close()
        return status, json.loads(text) if text.startswith(b"{") else text.decode()

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object as the administrator."""
        status, answer = self.request("POST", path, body)
        assert status == 201, answer
        made: dict[str, Any] = answer
        return made

    def kubeconfig(
        self, role: str, *, server: str | None = None, token: str | None = None
    ) -> Path:
        """Write a kubeconfig for a role; return its path."""
        path = self.folder / f"{role}-{time.monotonic_ns()}.kubeconfig"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": role,
            "contexts": [{"name": role, "context": {"cluster": "test", "user": role}}],
            "clusters": [
                {
                    "name": "test",
                    "cluster": {
                        "server": server or f"https://{self.host}:{self.port}",
                        "certificate-authority": str(self.ca_path),
                    },
                }
            ],
            "users": [{"name": role, "user": {"token": token or self.token(role)}}],
        }
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    def config(
        self, namespace: str, *, role: str = "owner", server: str | None = None
    ) -> Config:
        """Return the configuration of a store in a namespace."""
        kubeconfig = self.kubeconfig(role, server=server)
        return Config(
            type=StoreType.KUBERNETES,
            kubernetes=KubernetesConfig(
                system_namespace=namespace, kubeconfig=str(kubeconfig)
            ),
        )

    def _spawn(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
            )

    @staticmethod
    def _kill(process: subprocess.Popen[bytes] | None) -> None:
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait(_STOP_SECONDS_MAX)

    def _await_ready(self) -> None:
        deadline = boot_microseconds() + _START_SECONDS_MAX * 1_000_000
        while not self._ready():
            assert self._server is not None
            if self._server.poll() is not None or boot_microseconds() > deadline:
                log = (self.folder / "kube-apiserver.log").read_text()
                pytest.fail(log[-4000:])
            time.sleep(_PAUSE)

    def _ready(self) -> bool:
        # It says that it is ready a moment before it has made its own namespaces.
        paths = ("/readyz", "/api/v1/namespaces/default")
        try:
            return all(self.request("GET", path)[0] == 200 for path in paths)
        except (OSError, HTTPException):
            return False


def _group(role: str) -> str:
    return "system:masters" if role == "admin" else f"evstore-{role}"


def apiserver_binary() -> Path:
    """Return the path of kube-apiserver, or skip the test."""
    binary = Path(os.environ.get(_BINARY_VARIABLE) or _BINARY_DEFAULT)
    if not os.access(binary, os.X_OK):
        unavailable(f"no kube-apiserver at {binary}: run scripts/build-kube-apiserver")
    if shutil.which("etcd") is None:
        unavailable("no etcd: apt-get install -y etcd-server")
    return binary


@contextmanager
def running_apiserver(*, etcd_options: Sequence[str] = ()) -> Generator[ApiServer]:
    """Run an API server in a folder that is then removed."""
    binary = apiserver_binary()
    with short_folder() as folder:
        server = ApiServer(binary, folder, etcd_options=etcd_options)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def prepared(server: ApiServer) -> None:
    """Install the kinds; give the users their roles in all namespaces."""
    admin = server.config("default", role="admin")
    anyio.run(migrations.migrate, admin)
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    for role, rules in (
        ("owner", manifests.owner_rules() + manifests.mirror_rules()),
        ("compactor", manifests.compactor_rules()),
        ("runtime", manifests.runtime_rules()),
    ):
        name = f"test-{role}"
        whole = [*rules, *manifests.schema_rules()]
        server.create(path, {"metadata": {"name": name}, "rules": whole})
        bind(server, f"{path.removesuffix('roles')}rolebindings", "ClusterRole", name)


def bind(server: ApiServer, path: str, kind: str, name: str) -> None:
    """Bind a role to the user that the last word of its name says."""
    group = "rbac.authorization.k8s.io"
    user = name.rpartition("-")[2]
    server.create(
        path,
        {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": kind, "name": name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        },
    )
