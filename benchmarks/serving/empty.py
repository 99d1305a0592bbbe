"""A gRPC server for Python with nothing behind it: `python -m benchmarks.serving.empty`.

It sends the same K items for whatever Recommend is asked, by the library's plain way and with as many threads as the
retrieval server has. Prints one line like that server's when it answers; stops at SIGTERM. Imports no TensorFlow.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc

from benchmarks.serving import synthetic
from benchmarks.serving.load import METHOD, K
from serving.config import ServingConfig
from serving.proto import retrieval_pb2

VERSION = 1


def answer() -> bytes:
    """K items, best first, as long as those of a catalogue."""
    items = [{"item_id": synthetic.item_id(row), "score": 1 - row / K} for row in range(K)]
    return retrieval_pb2.RecommendResponse(
        items=items, tower_version=VERSION, index_version=VERSION, known_query=True
    ).SerializeToString()


def main() -> None:
    """Serves until the process is ended."""
    content = answer()
    _, service, method = METHOD.split("/")
    handler = grpc.unary_unary_rpc_method_handler(
        lambda request, context: content, retrieval_pb2.RecommendRequest.FromString
    )
    server = grpc.server(ThreadPoolExecutor(ServingConfig().max_concurrent))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"serving {synthetic.MODEL_NAME} version {VERSION} on 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
