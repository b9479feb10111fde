"""Work on many machines with Apache Beam: data sets are prepared, exported models asked, regions extracted.

Raises:
    ImportError: Apache Beam is missing.
"""

try:
    import apache_beam  # noqa: F401  # so that this hint serves all modules of the folder
except ImportError as error:
    raise ImportError("This runs on Apache Beam, which is missing: pip install 'tfvl[beam]'.") from error
