"""Passwords and signatures in addresses: refused, or kept out of all that is stored and printed."""

import base64
import functools
import http.server
import io
import json
import pickle
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from scanner import cli
from scanner.analysis.query import connect
from scanner.errors import ConfigError, ShardError
from scanner.records import Caption
from scanner.results import stores
from scanner.results.folder import Results
from scanner.shards import reading
from scanner.signed import SignedAddress, named, opens, redacted
from scanner.submit.head import HeadAddress

SECRETS = (
    "X-Amz-Signature=s3cr3t", "x-amz-credential=s3cr3t%2F2026", "X-Goog-Signature=s3cr3t",
    "Signature=s3cr3t", "token=s3cr3t", "access_token=s3cr3t", "api_key=s3cr3t", "apikey=s3cr3t",
    "key=s3cr3t", "sig=s3cr3t", "password=s3cr3t", "auth=s3cr3t", "Key-Pair-Id=s3cr3t",
    "AWSAccessKeyId=s3cr3t", "jwt=s3cr3t", "%74oken=s3cr3t", "Policy=s3cr3t", "sessionid=s3cr3t",
)  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
def test_a_signature_is_withheld_and_opens_all_the_same(secret: str) -> None:
    whole = f"https://host.org/a%20b.tar?id=7&{secret}&part=2"
    (name,) = reading.expand([whole])
    assert name == "https://host.org/a%20b.tar?id=7&part=2"
    assert "s3cr3t" not in repr(name) + str(name) + json.dumps([name]) + f"{name}"
    assert opens(name) == opens(str(name)) == whole
    assert opens(pickle.loads(pickle.dumps(reading.Shard(name, 1, "x"))).url) == whole
    assert redacted(f"403, url='{whole}' (x)") == f"403, url='{name}' (x)"


def test_an_azure_signature_goes_with_its_short_names() -> None:
    sas = "sp=r&st=2026&se=2027&sv=2022&sr=b&sig=s3cr3t"
    assert named(f"https://x.blob.core.windows.net/c/a.tar?{sas}") == (
        "https://x.blob.core.windows.net/c/a.tar"
    )
    assert named("https://x.org/a.tar?st=1&sr=2") == "https://x.org/a.tar?st=1&sr=2"


def test_a_shard_stays_itself_under_a_new_signature() -> None:
    one, other = (named(f"https://x.org/a.tar?X-Amz-Date={n}&X-Amz-Signature={n}") for n in "12")
    assert isinstance(one, SignedAddress)
    assert reading.Shard(one, 5, "e").id == reading.Shard(other, 5, "e").id
    assert reading.Shard(one, 5, "e").id == reading.Shard("https://x.org/a.tar", 5, "e").id


def test_two_shards_that_only_a_secret_tells_apart_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"named twice, with other signatures") as caught:
        reading.expand(["https://x.org/get?key={one,two}"])
    assert "two" not in str(caught.value).replace("twice", "")
    assert reading.expand(["https://x.org/get?token=a"] * 2) == ["https://x.org/get"]


@pytest.mark.parametrize(
    "address",
    ["http://user:p4ss@host/a.tar", "https://user:p4ss@host/{0..3}.tar", "https://p4ss@host/a.tar",
     "s3://key:p4ss@bucket/a.tar", "gs://p4ss@bucket/*.tar",
     "ftp://user:p4ss@host/a.tar", "https://user:p4ss@host/list.txt"],
)  # fmt: skip
def test_a_password_in_an_address_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        reading.expand([address])
    assert "p4ss" not in str(caught.value)
    if not address.startswith("ftp") and not address.endswith(".txt"):
        assert "~/.netrc" in str(caught.value)


def test_other_doors_refuse_a_password_too() -> None:
    for door in (lambda: stores.opened("s3://key:p4ss@bucket/x"),
                 lambda: stores.opened("https://u:p4ss@host/x"),
                 lambda: HeadAddress(address="http://user:p4ss@head:8265")):  # fmt: skip
        with pytest.raises(ConfigError, match="user or a password") as caught:
            door()
        assert "p4ss" not in str(caught.value)


def test_an_at_sign_behind_the_server_is_no_user() -> None:
    for address in ("https://x.org/a@b.tar", "s3://bucket/a@b.tar", "https://x.org/a.tar?m=a@b"):
        assert reading.expand([address]) == [address]


class _Guarded(http.server.SimpleHTTPRequestHandler):
    """Serves to who has the token, the password or the header; redirects nowhere good."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        basic = "Basic " + base64.b64encode(b"me:p4ss").decode()
        given = self.headers.get("Authorization")
        target = {"/loop.tar": "/loop.tar", "/file.tar": "file:///etc/passwd"}.get(path)
        if target:
            self.send_response(302)
            self.send_header("Location", target)
        elif "token=s3cr3t" not in query.split("&") and given not in (basic, "Bearer s3cr3t"):
            self.send_response(403)
        else:
            self.path = path
            return super().do_GET()
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("aiohttp")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("one.txt")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"a rug"))
    handler = functools.partial(_Guarded, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def texts(address: str) -> list[str]:
    (name,) = reading.expand([address])
    index = reading.index(reading.stat(name), 4)
    items = [item for chunk in index.chunks for item in reading.read(chunk, images=False)]
    return [item.text for item in items if isinstance(item, Caption)]


def test_signed_shards_are_read_and_rows_do_not_know_how(server: str) -> None:
    assert texts(f"{server}/a.tar?token=s3cr3t") == ["a rug"]
    (name,) = reading.expand([f"{server}/a.tar?token=s3cr3t"])
    (chunk,) = reading.index(reading.stat(name), 4).chunks
    (item,) = reading.read(chunk, images=False)
    assert item.shard == f"{server}/a.tar"
    with pytest.raises(ShardError) as caught:
        texts(f"{server}/a.tar?token=wr0ng")
    assert "wr0ng" not in str(caught.value)


def test_netrc_and_headers_from_the_environment_give_access(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.config import conf

    with pytest.raises(ShardError, match=r"access is denied; give credentials .*~/\.netrc"):
        texts(f"{server}/a.tar?id=1")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password p4ss\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert texts(f"{server}/a.tar?id=2") == ["a rug"]
    monkeypatch.delenv("NETRC")
    monkeypatch.setitem(conf, "http", {"headers": {"Authorization": "Bearer s3cr3t"}})
    assert texts(f"{server}/a.tar?id=3") == ["a rug"]


@pytest.mark.parametrize(
    ("path", "told"),
    [("loop.tar", "redirects in a circle"), ("file.tar", "other than http or https")],
)
def test_a_redirect_that_leads_nowhere_is_said_as_what_it_is(server: str, path, told) -> None:
    with pytest.raises(ShardError, match=told) as caught:
        texts(f"{server}/{path}?token=s3cr3t")
    assert "s3cr3t" not in str(caught.value)
    assert "does not exist" not in str(caught.value)


def test_a_scan_of_signed_shards_writes_no_signature(
    server: str, tmp_path: Path, local_ray: None, monkeypatch, capfd
) -> None:
    """Through Ray's processes, which get the signature, into files and output, which do not."""
    out, events = tmp_path / "results", tmp_path / "events.jsonl"
    shards_ = [f"{server}/a.tar?token=s3cr3t&id=1", f"{server}/missing.tar?token=s3cr3t"]
    words = ["scan", *shards_, "--model", "gaussian", "--steps", "3", "--probes", "1", "--actors",
             "1", "--threshold", "0", "--out", str(out), "--events", str(events)]  # fmt: skip
    monkeypatch.setenv("MEMSCAN_STORE_PATIENCE", "2")
    monkeypatch.setattr(sys, "argv", ["memscan", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = "".join(capfd.readouterr())
    assert left.value.code == 3, said
    assert f"{server}/missing.tar" in said
    written = [events, *(path for path in out.rglob("*") if path.is_file())]
    assert len(written) > 3
    assert all(b"s3cr3t" not in path.read_bytes() for path in written)
    assert "s3cr3t" not in said
    with closing(connect(Results(out))) as con:
        rows = con.execute("SELECT DISTINCT shard, key FROM scores").fetchall()
    assert rows == [(f"{server}/a.tar?id=1", "one")]
    assert list(reading.images(f"{server}/a.tar?id=1", ["one"])) == []


def test_a_signed_address_is_not_submitted(monkeypatch, capsys) -> None:
    words = ["submit", "--", "scan", "https://x.org/a.tar?token=s3cr3t", "-m", "gaussian",
             "--out", "/shared/r"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["memscan", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "put the address into a .txt list" in said
    assert "s3cr3t" not in said
