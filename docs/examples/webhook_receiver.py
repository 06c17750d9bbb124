"""A department's webhook receiver: verifies, keeps the newest, answers. Needs standardwebhooks, nothing of ours."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

SECRET = Webhook(os.environ["WEBHOOK_SECRET"])  # whsec_…, from whoever registered the URL
orders = {}  # reference → order; a real receiver has a database here


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 for what is kept, 401 for what we did not sign."""

    def do_POST(self):
        body = self.rfile.read(min(int(self.headers["content-length"]), 1_000_000))
        try:
            message = SECRET.verify(body, dict(self.headers))
        except (WebhookVerificationError, ValueError):
            return self.answer(401)
        if message["type"] == "work-order.changed":
            self.keep(message["data"])
        return self.answer(204)  # also for a type that is new to us

    def keep(self, order):
        known = orders.get(order["reference"])
        if known is None or order["version"] > known["version"]:
            orders[order["reference"]] = order
            print("keep", order["reference"], order["version"], flush=True)

    def answer(self, status):
        self.send_response(status)
        self.end_headers()


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Receiver).serve_forever()
