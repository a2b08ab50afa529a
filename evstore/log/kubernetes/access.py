"""Where the cluster is and who we are there: a kubeconfig, or the pod's account."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
from aiohttp import ClientError
from kubernetes_asyncio import config as _untyped
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config.kube_config import KubeConfigLoader

from evstore.errors import ConfigError, UnavailableError

from .kubeconfig import read_kubeconfig

if TYPE_CHECKING:
    from evstore.config import KubernetesConfig

_SETTING: Final = "store.kubernetes.kubeconfig"
# An identity provider may be asked, which the library would wait minutes for.
_CREDENTIALS_SECONDS_MAX: Final = 30
_config: Any = _untyped  # its functions tell no types


async def load_access(config: KubernetesConfig) -> Configuration:
    """Return address, certificates and credentials, read anew.

    An exec plugin that the kubeconfig names is run.

    Raises:
        ConfigError: the file, the context or the pod's account is not there or is wrong.
        UnavailableError: a server that the credentials come from does not answer.
    """
    access = Configuration()
    # The library's own default is that of the process, which others may have set.
    access.host = ""
    if config.kubeconfig:
        await _from_file(config, access)
    else:
        _from_pod(access)
    return access


async def _from_file(config: KubernetesConfig, access: Configuration) -> None:
    path = await anyio.Path(config.kubeconfig).expanduser()
    if not await path.is_file():
        message = f"{_SETTING}: there is no file {config.kubeconfig}"
        raise ConfigError(message)
    where = f"{_SETTING}: {config.kubeconfig}"
    context = f", context {config.context!r}" if config.context else ""
    try:
        await _load(Path(path), config.context, access)
    except (ClientError, TimeoutError) as error:
        message = f"{where}: no credentials came: {str(error) or 'it took too long'}"
        raise UnavailableError(message) from error
    except UnavailableError as error:
        message = f"{where} {error}"
        raise UnavailableError(message) from error.__cause__
    except ConfigError as error:
        message = f"{where} {error}"
        raise ConfigError(message) from error.__cause__
    except (
        *(_untyped.ConfigException, OSError),
        *(ValueError, TypeError, KeyError, AttributeError, AssertionError),
    ) as error:
        # What is wrong with the file is told in many ways; values may be secrets.
        reason = str(error) if isinstance(error, _untyped.ConfigException) else ""
        message = f"{where}{context} cannot be used"
        raise ConfigError(f"{message}: {reason}" if reason else message) from error


async def _load(path: Path, context: str, access: Configuration) -> None:
    found = await read_kubeconfig(path, context)
    loader: Any = KubeConfigLoader(
        config_dict=found.document,
        active_context=found.context,
        config_base_path=str(path.parent),
    )
    with anyio.fail_after(_CREDENTIALS_SECONDS_MAX):
        await loader.load_and_set(access)


def _from_pod(access: Configuration) -> None:
    try:
        _config.load_incluster_config(client_configuration=access)
    except (_untyped.ConfigException, OSError) as error:
        message = f"{_SETTING} is empty, and this is no pod with an account: {error}"
        raise ConfigError(
            f"{message.rstrip('.')}. Set it to a kubeconfig; KUBECONFIG is not read"
        ) from error


def tls_context(access: Configuration) -> ssl.SSLContext:
    """Return what a server is checked by, with our certificate if we have one.

    Raises:
        ConfigError: a certificate or key cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=access.ssl_ca_cert or None)
        if access.cert_file:
            context.load_cert_chain(access.cert_file, keyfile=access.key_file)
    except (ssl.SSLError, OSError, ValueError) as error:
        message = f"store.kubernetes: a certificate cannot be used: {error}"
        raise ConfigError(message) from error
    if not access.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def token_of(access: Configuration) -> str | None:
    """Return what tells the server who we are; None where a certificate does.

    Raises:
        UnavailableError: it cannot be read, for now.
    """
    try:
        found: str | None = await access.get_api_key_with_prefix("BearerToken")
    except (_untyped.ConfigException, OSError) as error:
        message = f"store.kubernetes: the token cannot be read: {error}"
        raise UnavailableError(message) from error
    # Files end with a line, and headers do not.
    return found.strip() if found else None


def proxy_of(access: Configuration) -> str | None:
    """Return the proxy of the kubeconfig, or else of the environment."""
    if access.proxy:
        found: str = access.proxy
        return found
    host = access.host or ""
    address = urlsplit(host)
    if proxy_bypass(address.hostname or ""):
        return None
    return getproxies().get(address.scheme)


def bare(address: str | None) -> str:
    """Return an address without name and password."""
    parts = urlsplit(address or "")
    if not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"
