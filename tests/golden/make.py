"""Write the results, calibrations and audit state that every later version must open.

They were made once, with memscan 0.1.0, and are kept as they are. To add a state of a later
version, run this file with that version and put what it writes beside the folder that is there:

    python tests/golden/make.py tests/golden/0.2.0
"""

import io
import json
import os
import platform
import subprocess
import sys
import tarfile
from pathlib import Path

import fsspec

sys.path.insert(0, str(Path(__file__).parents[1]))

BUCKET = "s3://golden"
"""Shards lie in a bucket, so that no row holds a path of the machine that wrote it."""
SAMPLED = [
    "--model", "gaussian", "--steps", "4", "--probes", "4", "--seeds", "2", "--actors", "1",
]  # fmt: skip
AT_IMAGE = ["--model", "gaussian", "--source", "image", "--probes", "4", "--actors", "1"]
COMMANDS = [
    ["calibrate", f"{BUCKET}/null.tar", *SAMPLED, "--out", "calibration.json"],
    ["calibrate", f"{BUCKET}/null.tar", *AT_IMAGE, "--out", "image-calibration.json"],
    ["scan", f"{BUCKET}/b-0.tar", *SAMPLED, "--detectors", "wen,increment,flipd", "--calibration",
     "calibration.json", "--fpr", "0.2", "--chunk-size", "3", "--out", "results"],
    ["compact", "results"],
    ["scan", f"{BUCKET}/b-0.tar", f"{BUCKET}/b-1.tar", *SAMPLED, "--detectors",
     "wen,increment,flipd", "--calibration", "calibration.json", "--fpr", "0.2", "--chunk-size",
     "3", "--out", "results"],
    ["scan", f"{BUCKET}/b-1.tar", *AT_IMAGE, "--calibration", "image-calibration.json", "--fpr",
     "0.2", "--localize", "all", "--chunk-size", "4", "--out", "results"],
    ["scan", f"{BUCKET}/b-0.tar", *SAMPLED, "--calibration", "calibration.json", "--fdr", "0.5",
     "--chunk-size", "3", "--out", "results"],
    ["audit", f"{BUCKET}/b-0.tar", *SAMPLED, "--calibration", "calibration.json", "--fpr", "0.2",
     "--state", "state"],
    ["mute", "b-001", "--state", "state", "--reason", "licensed"],
    ["audit", f"{BUCKET}/b-0.tar", f"{BUCKET}/b-1.tar", *SAMPLED, "--calibration",
     "calibration.json", "--fpr", "0.2", "--state", "state"],
]  # fmt: skip
"""What wrote the folder, in order; ``commands.json`` keeps what was used."""


def picture(number: int) -> bytes:
    """Return a small PNG."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (number * 7 % 256, number * 31 % 256, 90)).save(stream, "PNG")
    return stream.getvalue()


def shard(prefix: str, count: int) -> bytes:
    """Return a tar that is the same wherever it is made; each seventh sample has no caption."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(count):
            caption = f"{prefix} caption {number % (count - 2)}, naïve 漢字"
            about = json.dumps({"url": f"http://site.invalid/{number}"})
            members = {"png": picture(number), "json": about.encode()}
            if number % 7 != 6:
                members["txt"] = caption.encode()
            for ending, content in members.items():
                info = tarfile.TarInfo(f"{prefix}-{number:03d}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def upload() -> None:
    """Put the corpus into the bucket."""
    files = fsspec.filesystem("s3", use_listings_cache=False)
    files.makedirs(BUCKET, exist_ok=True)
    for name, content in (
        ("null.tar", shard("null", 40)), ("b-0.tar", shard("b", 9)), ("b-1.tar", shard("c", 10)),
    ):  # fmt: skip
        files.pipe_file(f"{BUCKET}/{name}", content)


def main() -> None:
    """Start a server, run the commands, and take this machine's paths out of what they wrote."""
    target = Path(sys.argv[1]).absolute()
    target.mkdir(parents=True)
    server = Path(__file__).parents[1] / "support" / "s3_server.py"
    process = subprocess.Popen([sys.executable, str(server)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{int(process.stdout.readline())}",
        "AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    try:
        upload()
        for command in COMMANDS:
            sys.stderr.write(f"memscan {' '.join(command)}\n")
            done = subprocess.run([sys.executable, "-m", "scanner", *command], cwd=target)
            assert done.returncode in (0, 1), done.returncode
    finally:
        process.kill()
    (target / "commands.json").write_text(json.dumps(COMMANDS, indent=1) + "\n")
    node = f'"{platform.node()}"'
    for path in target.rglob("*.json"):
        path.write_text(path.read_text().replace(str(target), "/golden").replace(node, '"node"'))
    for page in target.rglob("*.html"):  # a page is read by nobody but people
        page.unlink()


if __name__ == "__main__":
    main()
