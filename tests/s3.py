"""A real S3-compatible server (moto) on the loopback address, in a process of its own."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

BUCKET = "bucket"
KEY, SECRET = "test-key-of-s3", "test-secret-of-s3"


@contextmanager
def server() -> Iterator[dict[str, str]]:
    """Start it with one empty bucket; gives the environment in which it is the S3."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _make_bucket(f"{endpoint}/{BUCKET}", process)
        yield {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    finally:
        process.kill()
        process.wait()


def _make_bucket(url: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 120
    while True:
        assert process.poll() is None, "moto's server ended"
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=30).read()
            return
        except OSError:
            assert time.monotonic() < until, "moto's server does not answer"
            time.sleep(0.1)
