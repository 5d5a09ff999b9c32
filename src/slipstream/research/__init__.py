"""How research is run: on one core, on all of them or on a cluster; taken up again after a stop; and written down.

The mathematics is in ``core``. This room hands its pieces to an executor, keeps finished pieces in a journal, and
records every run with what went in and what came out. Importing the package loads nothing.
"""
