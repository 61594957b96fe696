"""The SHA-1 of a text, as MDQ names entities. Argument: TEXT."""

import hashlib
import sys

print(hashlib.sha1(sys.argv[1].encode()).hexdigest())
