"""Driver of ReleasePusher: keeps TFX from answering it out of its cache."""

from __future__ import annotations

import uuid

from tfx.dsl.components.base import base_driver
from tfx.orchestration import metadata
from tfx.orchestration.portable import base_driver as portable_base_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2


class Driver(base_driver.BaseDriver, portable_base_driver.BaseDriver):
    """Gives every execution a parameter of its own.

    TFX's cache knows the inputs, not the folder of the releases: it would call a release published that somebody has
    removed since. Publishing the same content again is cheap and changes nothing.
    """

    def __init__(self, metadata_handle: metadata.Metadata) -> None:
        # TFX's two driver classes do not call each other's constructor.
        base_driver.BaseDriver.__init__(self, metadata_handle)
        portable_base_driver.BaseDriver.__init__(self, metadata_handle)

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:  # type: ignore[name-defined]
        """Returns the parameter `nonce`, another one for each execution."""
        output = driver_output_pb2.DriverOutput()  # type: ignore[attr-defined]
        output.exec_properties["nonce"].string_value = uuid.uuid4().hex
        return output
