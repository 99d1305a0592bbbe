from types import SimpleNamespace

import grpc

from serving.interceptors import Behavior, UnaryInterceptor


class Naming(UnaryInterceptor):
    """Puts the method's name before what it answers."""

    def wrap(self, method: str, behavior: Behavior) -> Behavior:
        return lambda request, context: f"{method}: {behavior(request, context)}"


DETAILS = SimpleNamespace(method="/a.S/M")


def test_unary_calls_are_wrapped() -> None:
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request, len, str)
    wrapped = Naming().intercept_service(lambda details: handler, DETAILS)
    assert wrapped.unary_unary("x", None) == "a.S/M: x"
    assert (wrapped.request_deserializer, wrapped.response_serializer) == (len, str)


def test_another_handler_of_the_same_method_is_wrapped_anew() -> None:
    # An interceptor nearer to the method may answer one call itself, to refuse it, and not the next.
    naming = Naming()
    first, second = (grpc.unary_unary_rpc_method_handler(lambda *_, answer=answer: answer) for answer in "12")
    answers = [
        naming.intercept_service(lambda details, handler=handler: handler, DETAILS).unary_unary("x", None)
        for handler in (first, first, second, first)
    ]
    assert answers == ["a.S/M: 1", "a.S/M: 1", "a.S/M: 2", "a.S/M: 1"]


def test_streams_and_unknown_methods_pass() -> None:
    stream = grpc.unary_stream_rpc_method_handler(lambda request, context: iter(request))
    assert Naming().intercept_service(lambda details: stream, DETAILS) is stream
    assert Naming().intercept_service(lambda details: None, DETAILS) is None
