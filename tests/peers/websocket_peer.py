"""A WebSocket service, and a client that talks to it through whatever is in between.

    websocket_peer.py serve     prints the port that it serves on, until it is killed
    websocket_peer.py call URL [CA_FILE]
                                talks to it; prints what went wrong, and ends with 1 if anything did
"""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

SIZE = 20 << 20


async def talk(socket):
    """Sends back what comes; some messages are orders."""
    try:
        async for message in socket:
            if message == "close":
                await socket.close(4321, "as asked for")
            elif message == "ping":
                await (await socket.ping(b"service"))
                await socket.send("pong came")
            elif message == "who":
                await socket.send(f"{socket.request.path} {socket.subprotocol} {socket.request.headers.get('x-own')}")
            else:
                await socket.send(message)
    except ConnectionClosed:
        pass


def choose(connection, offered):
    return "chat" if "chat" in offered else None


def refuse(connection, request):
    if request.path == "/refused":
        return connection.respond(403, "not you\n")
    return None


async def serving():
    async with serve(
        talk, "127.0.0.1", 0, select_subprotocol=choose, process_request=refuse, max_size=SIZE
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.wait_closed()


class Calls:
    def __init__(self, url, context):
        self.url, self.context = url, context

    def socket(self, path="/echo", **arguments):
        return connect(self.url + path, ssl=self.context, max_size=SIZE, **arguments)

    async def text_and_bytes_come_back(self):
        async with self.socket() as socket:
            for message in ("hello", "", "\u00fcber", b"\x00\xff", bytes(range(256)) * 20_000):
                await socket.send(message)
                assert await socket.recv() == message

    async def the_handshake_passes(self):
        async with self.socket("/a?b=c", subprotocols=["other", "chat"], additional_headers={"x-own": "1"}) as socket:
            assert socket.subprotocol == "chat", socket.subprotocol
            await socket.send("who")
            answer = await socket.recv()
            assert answer == "/a?b=c chat 1", answer

    async def pings_pass_both_ways(self):
        async with self.socket() as socket:
            await (await socket.ping(b"client"))
            await socket.send("ping")
            assert await socket.recv() == "pong came"

    async def fragments_pass_as_they_come(self):
        async with self.socket() as socket:
            await socket.send(f"part {number}, " for number in range(100))
            assert (await socket.recv()).endswith("part 99, ")

    async def both_sides_may_close(self):
        async with self.socket() as socket:
            await socket.send("close")
            try:
                await socket.recv()
                raise AssertionError("it goes on")
            except ConnectionClosed as closed:
                assert (closed.rcvd.code, closed.rcvd.reason) == (4321, "as asked for"), closed
        async with self.socket() as socket:
            await socket.close(4000, "enough")
            assert (socket.close_code, socket.close_reason) == (4000, "enough")

    async def refusals_pass(self):
        try:
            async with self.socket("/refused"):
                raise AssertionError("it is let in")
        except InvalidStatus as refused:
            assert refused.response.status_code == 403, refused
            assert refused.response.body == b"not you\n", refused.response

    async def many_at_once(self):
        async def one(number):
            async with self.socket() as socket:
                for turn in range(20):
                    await socket.send(f"{number}.{turn}")
                    assert await socket.recv() == f"{number}.{turn}"

        await asyncio.gather(*(one(number) for number in range(50)))


async def calling(url, ca=None):
    context = None
    if ca:
        context = ssl.create_default_context(cafile=ca)
    calls, wrong = Calls(url, context), 0
    for name, check in vars(Calls).items():
        if name == "socket" or name.startswith("__"):
            continue
        try:
            await asyncio.wait_for(check(calls), 25)
        except Exception as error:  # noqa: BLE001: whatever it is, it is told
            wrong += 1
            print(f"{name}: {type(error).__name__}: {error}")
    return 1 if wrong else 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            asyncio.run(serving())
        case ["call", *arguments]:
            sys.exit(asyncio.run(calling(*arguments)))
        case _:
            sys.exit(__doc__)
