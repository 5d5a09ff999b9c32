"""Bringing market data into the lake: the loader, the S3 archive, the recorder, and the replay of what was recorded."""
