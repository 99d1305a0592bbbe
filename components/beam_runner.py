"""Where Beam runs what is not sent to a cluster."""

from __future__ import annotations

from apache_beam.options.pipeline_options import StandardOptions


def run_in_this_process() -> None:
    """Makes Beam's FnApiRunner the default of this process; the option --runner still names another.

    Beam's own default, DirectRunner, first tries on Prism what it takes to be supported there: it downloads that
    program from GitHub, checks no digest, and goes on in this process if it cannot be had. So what ran where would
    depend on the network. This is no Beam argument of the pipeline because TFX, given any, packs itself for the
    workers in each component.
    """
    StandardOptions.DEFAULT_RUNNER = "FnApiRunner"
