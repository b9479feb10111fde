"""Prepares data sets, asks exported models and extracts regions on many machines, with Apache Beam.

Raises:
    MissingExtraError: Apache Beam is missing.
"""

from tfvl.files.extras import require

require("apache_beam", extra="beam", purpose="this runs on it")  # the hint serves all modules of the folder
