import json
import threading
import unittest
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer

from shop_api.server import Handler


class ServerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.shutdown()
        cls.server.server_close()

    def get(self, path: str) -> tuple[int, dict[str, object]]:
        connection = HTTPConnection("127.0.0.1", self.server.server_address[1], timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def test_price(self) -> None:
        status, body = self.get("/price?coffee=3&discount=10")
        self.assertEqual((status, body["total"]), (200, 3483))

    def test_health(self) -> None:
        self.assertEqual(self.get("/healthz"), (200, {"status": "ok"}))

    def test_mistakes_are_answered(self) -> None:
        for path, status in (("/price?anvil=1", 400), ("/price?apple=x", 400), ("/nowhere", 404)):
            with self.subTest(path=path):
                self.assertEqual(self.get(path)[0], status)
