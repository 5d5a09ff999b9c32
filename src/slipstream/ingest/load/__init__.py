"""Loading bars, settlements and descriptions from a venue's REST interface into the lake."""
