"""The limits of the API, each defined once for client, engine and server."""

HASH_PATTERN = r"^[0-9a-f]{64}$"
"""A content hash: BLAKE2b-256, 64 hex digits."""
PERCEPTUAL_HASH_BITS = 64
PERCEPTUAL_HASH_PATTERN = r"^[0-9a-f]{16}$"
"""A perceptual hash: 64 bits, 16 hex digits."""

ACTOR_HEADER = "Imgcache-Actor"
"""The header of a request that says who acts, for the audit list."""
MAX_IMAGE_BYTES = 100 * 2**20
"""Maximum size of an image; larger images are refused."""
MAX_URL_BYTES = 64 * 2**10
"""Maximum length of a URL; longer URLs are refused."""
MAX_FILENAME = 255
"""Maximum characters of a file name, as in most file systems; longer names are cut."""
MAX_HOST = 253
"""Maximum characters of a host name (RFC 1035); longer ones, which do not exist, are cut."""
MAX_LABEL = 63
"""Maximum characters between two dots of a host name (RFC 1035)."""
MAX_TEXT = 4096
"""Maximum characters of a client's name, a bucket or a part of a URL; longer texts are refused."""
MAX_FILTER = 8 * MAX_URL_BYTES
"""Maximum characters of the filters of a takedown, which are the reason of a block."""
MAX_LIMIT = 2**31 - 1
"""The largest `limit` of a list."""
MAX_NUMBER = 2**63 - 1
"""The largest whole number that both databases store."""
MAX_PAGE_ENTRIES = 1000
"""Maximum number of entries in one answer of `search` or `similar`."""
MAX_PAGE_CHARACTERS = 2**20
"""Maximum characters of the long texts of these entries, such as URLs; one entry may have more."""
SEARCH_POSITION_PATTERN = r"^-?[0-9]{1,17}_[0-9]{1,18}$"
"""A position in the result of `search`: a time in microseconds and a row, both under 64 bits."""
SIMILAR_POSITION_PATTERN = r"^[0-9]{1,2}_[0-9a-f]{64}$"
"""A position in the result of `similar`: a distance in bits and a content hash."""
BLOCKED_POSITION_PATTERN = r"^[0-9]{1,17}_[0-9a-f]{64}$"
"""A position in the list of blocked images: a time in microseconds and a content hash."""
FAILURE_POSITION_PATTERN = r"^[0-9]{1,17}_[0-9a-f]{32}$"
"""A position in the list of failures: a time in microseconds and a digest."""
AUDIT_POSITION_PATTERN = r"^[0-9]{1,18}$"
"""A position in the audit list: the number of a row, under 64 bits."""
USE_POSITION_PATTERN = r"^[0-9]{1,18}$"
"""A position in a list of uses: the number of a row, under 64 bits."""
REASON_PATTERN = r"^[a-z0-9_]{1,32}$"
"""The reason of a failure, for example `http_404`."""
MAX_BATCH_CLAIMS = 16
"""Maximum number of claims in one request."""
MAX_BATCH_URLS = 1000
"""Maximum number of URLs in one request of `lookup_many`."""
MAX_BATCH_USES = 1000
"""Maximum number of uses in one request of `record_uses`."""
MAX_POSITION = 2**31 - 1
"""The highest place of an image in an item."""
MAX_USE_META = 4096
"""Maximum characters of the JSON with further values of an item in a use."""
MAX_BATCH_BYTES = 2**22
"""Maximum bytes of JSON in one request: parsing JSON blocks all other requests."""
