"""A gRPC service, and a client that calls it through whatever is in between. Messages are plain bytes: no schema is
needed to see whether they pass.

    grpc_peer.py serve          prints the port that it serves on, until its input ends
    grpc_peer.py call HOST:PORT [CA_FILE]
                                calls it in all ways there are; prints what went wrong, and ends with 1 if anything did
    grpc_peer.py errors HOST:PORT
                                the same for errors of the gateway between them
"""

import ast
import collections
import sys
import threading
import time
from concurrent import futures

import grpc


def echo(request, context):
    """Answers with the message, and with the metadata that begins with x-."""
    metadata = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
    context.send_initial_metadata(metadata)
    context.set_trailing_metadata([("x-trailer", "end"), ("x-trailer-bin", b"\x00\xff")])
    return request


def fail(request, context):
    context.set_trailing_metadata([("x-reason", "asked for")])
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not \u00fcber 100%")


def wait(request, context):
    """Answers when the caller is gone, with how it went in a later call."""
    gone = threading.Event()
    context.add_callback(gone.set)
    wait.left.append(context.time_remaining())
    gone.wait(30)
    wait.ended.append(not context.is_active())
    return b""


wait.left, wait.ended = [], []


def waits(request, context):
    """How the calls of `wait` ended so far."""
    for _ in range(300):
        if len(wait.ended) >= int(request):
            break
        time.sleep(0.01)
    return repr((wait.left, wait.ended)).encode()


def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def add_up(requests, context):
    return str(sum(int(request) for request in requests)).encode()


def talk(requests, context):
    """Answers every message before it reads the next."""
    for request in requests:
        yield request.upper()


def steps(request, context):
    """Sends each message when there was a `step` for the one before."""
    for number in range(3):
        yield str(number).encode()
        steps.taken[request].acquire(timeout=20)


def step(request, context):
    steps.taken[request].release()
    return b""


steps.taken = collections.defaultdict(lambda: threading.Semaphore(0))


def serve():
    server = grpc.server(
        futures.ThreadPoolExecutor(32),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Wait": grpc.unary_unary_rpc_method_handler(wait),
        "Waits": grpc.unary_unary_rpc_method_handler(waits),
        "Step": grpc.unary_unary_rpc_method_handler(step),
        "Steps": grpc.unary_stream_rpc_method_handler(steps),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "AddUp": grpc.stream_unary_rpc_method_handler(add_up),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Peer", handlers)])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()


class Calls:
    def __init__(self, channel):
        self.channel = channel

    def unary(self, name, message, **arguments):
        arguments.setdefault("timeout", 20)
        return self.channel.unary_unary(f"/test.Peer/{name}").with_call(message, **arguments)

    def metadata_passes(self):
        sent = [("x-text", "a b"), ("x-bytes-bin", bytes(range(256)))]
        call = self.channel.unary_unary("/test.Peer/Echo")
        answer, told = call.with_call(b"hello", metadata=sent, timeout=20)
        assert answer == b"hello", answer
        assert set(sent) <= set(told.initial_metadata()), told.initial_metadata()
        assert ("x-trailer", "end") in told.trailing_metadata(), told.trailing_metadata()
        assert ("x-trailer-bin", b"\x00\xff") in told.trailing_metadata(), told.trailing_metadata()

    def messages_of_all_sizes_pass(self):
        for size in (0, 1, 16_000, 70_000, 5_000_000):
            message = bytes(range(256)) * (size // 256 + 1)
            assert self.unary("Echo", message[:size])[0] == message[:size], size

    def errors_pass(self):
        error = failure(lambda: self.unary("Fail", b""))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION, error
        assert error.details() == "not \u00fcber 100%", error
        assert ("x-reason", "asked for") in error.trailing_metadata(), error

    def unknown_methods_are_the_services(self):
        error = failure(lambda: self.unary("Nothing", b""))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED, error

    def streams_of_answers(self):
        answers = list(self.channel.unary_stream("/test.Peer/Count")(b"1000", timeout=20))
        assert answers == [str(number).encode() for number in range(1000)], len(answers)

    def streams_of_requests(self):
        numbers = (str(number).encode() for number in range(1000))
        assert self.channel.stream_unary("/test.Peer/AddUp")(numbers, timeout=20) == b"499500"

    def both_streams_at_once(self):
        """Each message is sent when the one before is answered: nothing may be held back."""
        answered = threading.Semaphore(1)

        def messages():
            for number in range(50):
                answered.acquire()
                yield f"m{number}".encode()

        answers = []
        for answer in self.channel.stream_stream("/test.Peer/Talk")(messages(), timeout=20):
            answers.append(answer)
            answered.release()
        assert answers == [f"M{number}".encode() for number in range(50)], answers

    def deadlines_and_cancels_reach_the_service(self):
        before = len(self.waited(0)[0])
        error = failure(lambda: self.unary("Wait", b"", timeout=0.3))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, error
        call = self.channel.unary_unary("/test.Peer/Wait").future(b"", timeout=20)
        for _ in range(300):
            if len(self.waited(0)[0]) == before + 2:
                break
            time.sleep(0.01)
        call.cancel()
        left, ended = self.waited(before + 2)
        short, long = left[before:]
        assert short < 0.5 and 15 < long < 21, left
        assert ended[before:] == [True, True], ended

    def waited(self, count):
        return ast.literal_eval(self.unary("Waits", str(count).encode())[0].decode())

    def many_at_once(self):
        call = self.channel.unary_unary("/test.Peer/Echo")
        calls = [call.future(str(number).encode(), timeout=20) for number in range(300)]
        assert [call.result() for call in calls] == [str(number).encode() for number in range(300)]


def errors(address):
    """What the gateway itself has to say."""
    calls = Calls(grpc.insecure_channel(address))
    wrong = 0
    for path, message, code, details in [
        ("/nobody.Knows/This", b"", grpc.StatusCode.UNIMPLEMENTED, "No route matches the request."),
        ("/test.Gone/Echo", b"", grpc.StatusCode.UNAVAILABLE, "The upstream cannot be reached."),
        ("/test.Slow/Wait", b"", grpc.StatusCode.DEADLINE_EXCEEDED, "The upstream did not answer in time."),
        ("/test.Small/Echo", bytes(1000), grpc.StatusCode.RESOURCE_EXHAUSTED, "The body is too long."),
    ]:
        error = failure(lambda: calls.channel.unary_unary(path)(message, timeout=20))
        if (error.code(), error.details()) != (code, details):
            wrong = 1
            print(f"{path}: {error.code()} {error.details()}")
    return wrong


def failure(call):
    try:
        answer = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"an answer: {answer!r}")


def call(address, ca=None):
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    if ca:
        with open(ca, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        channel = grpc.secure_channel(address, credentials, options=options)
    else:
        channel = grpc.insecure_channel(address, options=options)
    calls, wrong = Calls(channel), 0
    for name, check in vars(Calls).items():
        if name in ("unary", "waited") or name.startswith("__"):
            continue
        try:
            check(calls)
        except Exception as error:  # noqa: BLE001: whatever it is, it is told
            wrong += 1
            print(f"{name}: {type(error).__name__}: {error}")
    return 1 if wrong else 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["call", *arguments]:
            sys.exit(call(*arguments))
        case ["errors", address]:
            sys.exit(errors(address))
        case _:
            sys.exit(__doc__)
