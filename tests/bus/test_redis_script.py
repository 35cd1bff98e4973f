"""What a script in Redis publishes is heard like what a process does."""

import pytest

from rtm.bus.base import Origin
from rtm.bus.redis_script import publication
from rtm.model.audience import Audience
from rtm.redis_client import RedisUrl
from tests.bus.hearing import hearing

PUBLISH = "return redis.call(ARGV[1], ARGV[2], ARGV[3] .. ARGV[5] .. ARGV[4])"
PAYLOAD = b'{"status":"offline"}'


@pytest.mark.parametrize("server", ["redis_url", "redis_cluster_url"])
async def test_every_process_hears_it(request: pytest.FixtureRequest, server: str) -> None:
    url = request.getfixturevalue(server)
    parsed = RedisUrl.parse(url)
    async with hearing(url, 7) as ear, parsed.client(timeout_s=5, max_connections=1) as client:
        publish = client.register_script(PUBLISH)
        for origin in (None, Origin("c1", '"payload":null')):
            audience = Audience(agents=("smith@example.com",))
            words = publication(7, "routing_status_set", audience, origin, sharded=parsed.topology == "cluster")
            arguments = [words[name] for name in ("publish", "channel", "head", "tail")]
            await publish(keys=["some:{7}:key"], args=[*arguments, PAYLOAD])
            heard = await ear.next_envelope()
            assert (heard.license_id, heard.name, heard.payload) == (7, "routing_status_set", PAYLOAD)
            assert (heard.audience, heard.sequence, heard.origin) == (audience, 0, origin)
