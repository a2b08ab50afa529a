"""Kubeconfigs as people have them: what is wrong is told, and nothing that is secret."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from evstore.config import KubernetesConfig
from evstore.errors import ConfigError, UnavailableError
from evstore.log.kubernetes.access import load_access
from evstore.log.kubernetes.plugin import credentials

if TYPE_CHECKING:
    from pathlib import Path

_API = "client.authentication.k8s.io/v1"
_HIDDEN = "hidden-one"


class Setting:
    """A kubeconfig in a folder, to be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster: dict[str, Any] = {"server": "https://127.0.0.1:6443"}
        self.user: Any = {"token": _HIDDEN}
        self.document: dict[str, Any] = {
            "current-context": "one",
            "contexts": [
                {"name": "one", "context": {"cluster": "c", "user": "u"}},
                {"name": "two", "context": {"cluster": "c", "user": "nobody"}},
                {"name": "three", "context": {"cluster": "nowhere", "user": "u"}},
                {"name": "four", "context": {"cluster": "c"}},
            ],
        }

    def write(self, name: str, content: str, *, mode: int = 0o600) -> Path:
        path = self.folder / name
        path.write_text(content, encoding="utf-8")
        path.chmod(mode)
        return path

    def plugin(self, script: str) -> None:
        """Have the user's credentials come from a program beside the kubeconfig."""
        self.write("plugin", f"#!/bin/sh\n{script}\n", mode=0o700)
        self.user = {"exec": {"apiVersion": _API, "command": "./plugin"}}

    def answering(self, **credential: Any) -> None:
        """Have that program print this."""
        whole = {"apiVersion": _API, "kind": "ExecCredential", **credential}
        self.write("answer", json.dumps(whole))
        self.plugin(f"cat '{self.folder}/answer'")

    async def token(self, context: str = "") -> str | None:
        """Return what the kubeconfig makes us send."""
        document = self.document | {
            "clusters": [{"name": "c", "cluster": self.cluster}],
            "users": [{"name": "u", "user": self.user}],
        }
        path = self.write("kube:config", json.dumps(document))
        access = await load_access(
            KubernetesConfig(kubeconfig=str(path), context=context)
        )
        sent: str | None = await access.get_api_key_with_prefix("BearerToken")
        return sent


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


async def refusal(setting: Setting, context: str = "") -> str:
    """Return why it is refused; check that nobody is told what is secret."""
    with pytest.raises((ConfigError, UnavailableError)) as caught:
        await setting.token(context)
    told = "".join(traceback.format_exception(caught.value))
    assert _HIDDEN not in told
    return str(caught.value)


async def test_the_token_is_that_of_the_contexts_user(setting: Setting) -> None:
    assert await setting.token() == f"Bearer {_HIDDEN}"
    assert await setting.token("four") is None


async def test_the_line_that_ends_a_token_file_is_no_part_of_the_token(
    setting: Setting,
) -> None:
    setting.write("token", "from-the-file\n")
    setting.user = {"tokenFile": "token", "token": "another"}
    assert await setting.token() == "Bearer from-the-file"


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ("two", "no user 'nobody', which the context two names (there is u)"),
        ("three", "no cluster 'nowhere', which the context three names (there is c)"),
        ("five", "no context 'five' (there is one, two, three, four)"),
    ],
)
async def test_a_name_that_leads_nowhere_is_told_with_those_that_there_are(
    setting: Setting, context: str, said: str
) -> None:
    assert said in await refusal(setting, context)


async def test_a_name_that_comes_twice_is_told(setting: Setting) -> None:
    setting.document["contexts"] *= 2
    assert "has more than one context 'one'" in await refusal(setting)


async def test_without_a_current_context_one_must_be_set(setting: Setting) -> None:
    del setting.document["current-context"]
    told = await refusal(setting)
    assert "set store.kubernetes.context to one of its contexts (one, two" in told


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        ({}, "says nothing of the cluster"),
        ({"server": ""}, "names no server"),
        ({"server": "127.0.0.1:6443"}, "a server that does not begin with https://"),
        ({"server": f"https://u:{_HIDDEN}@host:1"}, "a user in the address"),
        ({"proxy-url": f"socks5://u:{_HIDDEN}@host:1"}, "a proxy-url that does not"),
        ({"certificate-authority-data": "%%%"}, "authority-data that is no base64"),
        ({"certificate-authority": "ca.crt"}, "a certificate-authority ca.crt that"),
    ],
)
async def test_a_cluster_that_cannot_be_right_is_told_by_its_key(
    setting: Setting, cluster: dict[str, Any], said: str
) -> None:
    setting.cluster = setting.cluster | cluster if cluster else None  # type: ignore[assignment]
    assert said in await refusal(setting)


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({"token": f"{_HIDDEN}\x00"}, "a token with characters that cannot be sent"),
        ({"token": f"{_HIDDEN}ö"}, "a token with characters that cannot be sent"),
        ({"token": [_HIDDEN]}, "token is no text"),
        ({"tokenFile": "absent"}, "a tokenFile absent that cannot be read"),
        ({"client-key-data": f"%{_HIDDEN}"}, "client-key-data that is no base64"),
        ({"exec": _HIDDEN}, "an exec plugin without command or apiVersion"),
        (
            {"exec": {"command": "x", "env": [{"name": "A", "value": _HIDDEN}]}},
            "an exec plugin without command or apiVersion",
        ),
        (
            {"exec": {"command": "/absent", "apiVersion": _API}},
            "/absent, which cannot be run: No such file",
        ),
        (
            {"auth-provider": {"name": "oidc", "config": {"id-token": _HIDDEN}}},
            "cannot be used",
        ),
        (_HIDDEN, "says nothing of the user"),
    ],
)
async def test_a_user_that_cannot_be_right_is_told_by_its_key(
    setting: Setting, user: Any, said: str
) -> None:
    setting.user = user
    assert said in await refusal(setting)


async def test_a_file_that_is_no_kubeconfig_is_told(tmp_path: Path) -> None:
    for content, said in (
        ("", "is no kubeconfig"),
        (f"[{_HIDDEN}]", "is no kubeconfig"),
        (f"a: 1\nb: c: {_HIDDEN}", "is no YAML (line 2)"),
        (f"contexts: {_HIDDEN}\ncurrent-context: a", "contexts is no list"),
    ):
        path = tmp_path / "config"
        path.write_text(content)
        with pytest.raises(ConfigError) as caught:
            await load_access(KubernetesConfig(kubeconfig=str(path)))
        assert said in str(caught.value)
        assert _HIDDEN not in "".join(traceback.format_exception(caught.value))


async def test_a_plugins_token_is_sent(setting: Setting) -> None:
    setting.answering(status={"token": "from-the-plugin"})
    assert await setting.token() == "Bearer from-the-plugin"


async def test_a_plugin_is_told_what_it_is_for_and_that_nobody_can_answer_it(
    setting: Setting,
) -> None:
    setting.answering(status={"token": "t"})
    script = setting.folder / "plugin"
    setting.write(
        "plugin",
        f"{script.read_text()}\ncat >'{setting.folder}/typed'"
        f"\necho $KUBERNETES_EXEC_INFO $EXTRA $1 >'{setting.folder}/told'\n",
        mode=0o700,
    )
    more = {"env": [{"name": "EXTRA", "value": "more"}], "args": ["first"]}
    setting.user["exec"] |= more
    await setting.token()
    told = (setting.folder / "told").read_text().strip()
    assert told.endswith(" more first")
    assert json.loads(told.removesuffix(" more first")) == {
        "apiVersion": _API,
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }
    assert (setting.folder / "typed").read_text() == ""


async def test_a_plugins_certificate_is_taken(setting: Setting) -> None:
    pem = {"clientCertificateData": "a cert", "clientKeyData": "its key"}
    setting.answering(status=pem)
    taken = await credentials(
        {"apiVersion": _API, "command": "./plugin"}, setting.folder
    )
    assert {key: base64.b64decode(value) for key, value in taken.items()} == {
        "client-certificate-data": b"a cert",
        "client-key-data": b"its key",
    }


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (f"echo {_HIDDEN} >&2; exit 3", "which ended with status 3: run it by itself"),
        (f"echo {_HIDDEN}", "which prints no ExecCredential"),
        (f"""echo '["{_HIDDEN}"]'""", "which prints no ExecCredential"),
        (f"printf '\\377{_HIDDEN}'", "which prints no ExecCredential"),
        (
            f"""echo '{{"apiVersion": "{_HIDDEN}", "status": {{"token": "t"}}}}'""",
            "which does not answer in the apiVersion that stands beside it",
        ),
        (
            f"""echo '{{"apiVersion": "{_API}", "status": {{"key": "{_HIDDEN}"}}}}'""",
            "which gives neither a token nor a certificate with its key",
        ),
    ],
)
async def test_what_a_failing_plugin_prints_is_neither_told_nor_logged(
    setting: Setting,
    script: str,
    said: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    setting.plugin(script)
    assert said in await refusal(setting)
    assert _HIDDEN not in caplog.text
    assert _HIDDEN not in "".join(capfd.readouterr())


async def test_a_plugin_may_say_much_to_people(setting: Setting) -> None:
    setting.answering(status={"token": "t"})
    script = (setting.folder / "plugin").read_text()
    loud = "\nhead -c 300000 /dev/zero >&2"
    setting.write("plugin", script.replace("\n", f"{loud}\n", 1), mode=0o700)
    assert await setting.token() == "Bearer t"


async def test_a_plugin_that_does_not_end_is_ended(setting: Setting) -> None:
    setting.plugin("exec sleep 600")
    with pytest.raises(UnavailableError, match=r"which took longer than 0\.2 s"):
        await credentials(setting.user["exec"], setting.folder, seconds=0.2)


async def test_a_plugin_that_wants_a_terminal_is_refused(setting: Setting) -> None:
    setting.answering(status={"token": "t"})
    setting.user["exec"]["interactiveMode"] = "Always"
    assert "wants a terminal" in await refusal(setting)
