"""The venue's archive in S3: years of book snapshots, asset contexts and fills that its API no longer gives.

``fetch`` runs a backfill; ``objects`` names what lies where, ``plan`` counts what it costs, ``bucket`` opens it, one
parser per form reads it, and ``progress`` remembers what is done. What is read lands in the lake and in CSV files.
"""
