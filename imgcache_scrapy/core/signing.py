"""Sign texts with a key that is derived from a secret, such as the token of a service."""

import functools
import hashlib

from itsdangerous import Signer

# To try one secret takes about 50 ms, so that nobody finds a short token by what it has signed.
_COST = {"n": 2**14, "r": 8, "p": 1}


def signature_of(secret: str, purpose: str, text: str) -> str:
    """Return the signature of a text.

    The first call with a secret takes about 50 ms.

    Args:
        secret: what only those know who may sign.
        purpose: what the signature is for; a signature is right for one purpose only.
        text: what is signed.
    """
    return _signer(secret, purpose).get_signature(text).decode()


def is_signature(secret: str, purpose: str, text: str, signature: str) -> bool:
    """Return whether a signature is right, in a time that does not depend on it."""
    return _signer(secret, purpose).verify_signature(text, signature)


@functools.lru_cache(maxsize=64)
def _signer(secret: str, purpose: str) -> Signer:
    key, salt = _derived_key(secret), f"imgcache {purpose}"
    return Signer(key, salt, key_derivation="hmac", digest_method=hashlib.sha256)


@functools.lru_cache(maxsize=16)
def _derived_key(secret: str) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=b"imgcache signing key", **_COST)
