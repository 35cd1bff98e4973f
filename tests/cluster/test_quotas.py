"""A license's quota is one, however many processes serve it."""

from pathlib import Path

from tests.running import serving, serving_demo
from tests.world import Web

SMITH = "smith@example.com"
LIMIT = 200
PORTION = LIMIT // 100


async def test_two_processes_share_the_quota_of_a_license(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    options = ("--database-url", postgres_url, "--redis-url", redis_url, "--requests-per-minute", str(LIMIT))
    with serving_demo(tmp_path, *options) as here, serving(tmp_path, *options) as there:
        token = f"Bearer {here.token(SMITH)}"
        webs = [Web(server.port, "3.6", token) for server in (here, there)]
        served, reset_s, refused = 0, 60, set[int]()
        while len(refused) < len(webs):
            for number, web in enumerate(webs):
                response = await web.post("list_routing_statuses")
                if int(response.headers["ratelimit-reset"]) > reset_s:  # another minute has begun
                    served, refused = 0, set()
                reset_s = int(response.headers["ratelimit-reset"])
                if response.status_code == 429:
                    refused.add(number)
                    assert 1 <= int(response.headers["retry-after"]) <= 60
                else:
                    served += 1
        # The other process may not have been told of its last portion, nor of the one that is used meanwhile.
        assert LIMIT <= served <= LIMIT + 2 * PORTION
        for web in webs:
            await web.close()
