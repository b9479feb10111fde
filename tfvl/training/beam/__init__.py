"""Work on many machines with Apache Beam: data sets are prepared, exported models asked, regions extracted.

Raises:
    MissingExtraError: Apache Beam is missing.
"""

from tfvl.files.extras import require

require("apache_beam", extra="beam", purpose="this runs on it")  # the hint serves all modules of the folder
