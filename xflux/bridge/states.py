"""Words that the parts of the bridge share."""

# States of a region's fit, in bridge.regions.status
OK = "ok"
UNREACHED = "unreached"
CONSTANT = "constant"
EMPTY = "no valid pixels"
