"""Live streams into files: CSV as documented for the market maker's tools, and the event logs of a lake."""
