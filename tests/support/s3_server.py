"""A real S3 server in a process of its own, which fails when it is told to.

It prints its port and serves until it is killed. ``POST /faults`` with a JSON object sets what
goes wrong from then on; ``{}`` heals it. ``GET /count`` tells how many requests there were.
"""

import json
import random
import sys
import threading
import time

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class Faulty:
    """Passes requests on to an application, or does not.

    Faults: ``status`` (answered instead), ``share`` of the requests it hits (1), ``methods`` it
    hits (all), ``inside`` (only paths that hold this text), ``applied`` (the request is carried
    out before the error is answered: a lost reply), ``delay`` seconds before it, ``times`` it
    strikes, and ``deaf`` (conditions of writes are ignored, as old gateways do).
    """

    def __init__(self, app):
        self.app, self.faults, self.requests = app, {}, 0
        self.chance, self.lock = random.Random(7), threading.Lock()

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/faults":
            size = int(environ.get("CONTENT_LENGTH") or 0)
            self.faults = json.loads(environ["wsgi.input"].read(size))
            return answer(start_response, 200, "")
        if path == "/count":
            return answer(start_response, 200, str(self.requests))
        self.requests += 1
        if self.faults.get("deaf"):
            environ.pop("HTTP_IF_NONE_MATCH", None)
        if not self.strikes(environ["REQUEST_METHOD"], path):
            return self.app(environ, start_response)
        time.sleep(self.faults.get("delay", 0))
        if self.faults.get("applied"):
            list(self.app(environ, lambda *args, **kwargs: None))
        return answer(start_response, self.faults["status"], "")

    def strikes(self, method, path):
        with self.lock:
            faults = self.faults
            hit = (
                "status" in faults
                and method in faults.get("methods", [method])
                and faults.get("inside", "") in path
                and faults.get("times", 1) > 0
                and self.chance.random() < faults.get("share", 1)
            )
            if hit and "times" in faults:
                faults["times"] -= 1
            return hit


def answer(start_response, status, text):
    start_response(f"{status} said", [("Content-Length", str(len(text)))])
    return [text.encode()]


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *args, **kwargs):
        return


if __name__ == "__main__":
    moto = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, Faulty(moto), threaded=True, request_handler=Quiet)
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    server.serve_forever()
