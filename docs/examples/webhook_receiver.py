"""A department's webhook receiver: verifies, keeps the newest, answers. Needs standardwebhooks, nothing of ours."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

SECRET = Webhook(os.environ["WEBHOOK_SECRET"])  # whsec_…, from whoever registered the URL
orders = {}  # reference → order; a real receiver has a database here


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(min(int(self.headers["content-length"]), 1_000_000))
        try:
            message = SECRET.verify(body, dict(self.headers))
        except (WebhookVerificationError, ValueError):
            return self.answer(401)
        data = message["data"]
        if message["type"] == "work-order.changed":
            if data["version"] > orders.get(data["reference"], {"version": 0})["version"]:
                orders[data["reference"]] = data  # keep it first, answer then
                print("to do:", data["reference"], data["version"], flush=True)
        return self.answer(204)  # also for a type that is new to us

    def answer(self, status):
        self.send_response(status)
        self.end_headers()


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Receiver).serve_forever()
