"""``GET /price?apple=2&discount=10``: the bill as JSON. ``GET /healthz``: alive."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from shop_api.cart import bill


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/healthz":
            return self.reply(200, {"status": "ok"})
        if url.path != "/price":
            return self.reply(404, {"error": "not found"})
        try:
            query = {name: int(value) for name, value in parse_qsl(url.query)}
            discount = query.pop("discount", 0)
            made = bill(query, discount)
        except ValueError as error:
            return self.reply(400, {"error": str(error)})
        return self.reply(
            200, {"goods": made.goods, "discount": made.discount, "shipping": made.shipping, "total": made.total}
        )

    def reply(self, status: int, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the platform logs requests."""


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    ThreadingHTTPServer(("", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
