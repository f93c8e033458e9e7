"""Words that the parts of the bridge share."""

UNITS = "PgC month-1"
ANNUAL = "PgC yr-1"  # of annual steps

# States of a region's fit, in bridge.regions.status
OK = "ok"
UNREACHED = "unreached"
CONSTANT = "constant"
EMPTY = "no valid pixels"
