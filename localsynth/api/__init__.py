"""The Python API, for notebooks and scripts: the steps of the command line, with data frames in and out.

    import localsynth as ls

    schema = ls.Schema.infer("visits.csv")
    visits = ls.Synthesizer("visits", schema, epsilon=4, unit="patient", max_rows_per_unit=5)
    visits.plan()
    visits.fit("visits.csv")
    visits.sample(1000).to_pandas()

What reads the original rows runs in a process that is cut off from the network, as with the command line. The Python process
itself is not: rows that it holds as a data frame are as safe as it is.
"""

from localsynth.api.certificate import Certificate, verify
from localsynth.api.rows import Rows
from localsynth.api.schema import Schema
from localsynth.api.synthesizer import Synthesizer, open
from localsynth.errors import LocalsynthError

__all__ = ["Certificate", "LocalsynthError", "Rows", "Schema", "Synthesizer", "open", "verify"]
