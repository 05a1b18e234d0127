"""Archives, read in place: bytes in, (name, offset, length) out."""

STORED, DEFLATED = 0, 8
"""How a member's bytes are stored, in the numbers of the zip format (PKWARE's APPNOTE 6.3.9, 4.4.5)."""

MAX_SAMPLE_BYTES = 256 << 20
"""No photograph is larger; a member that claims to be is refused."""
