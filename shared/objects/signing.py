"""Time-limited addresses of files that the data service hands out."""

import hashlib
import hmac
import time

from pydantic import SecretStr

from shared.errors import Forbidden, Gone
from shared.objects.port import checked_key


def signed_path(key: str, expires_s: int, signing_key: SecretStr) -> str:
    """Return the path and query that read `key` for `expires_s` seconds from now."""
    expires = int(time.time()) + expires_s
    signature = _signature(checked_key(key), expires, signing_key)
    return f"/v1/files/{key}?expires={expires}&signature={signature}"


def verify_signature(key: str, expires: int, signature: str, signing_key: SecretStr) -> None:
    """Let a signed address pass, or refuse it.

    Args:
        key: object key of the path.
        expires: seconds since the epoch, of the query.
        signature: of the query.
        signing_key: the secret it was signed with.

    Raises:
        Forbidden: key or time are not what was signed.
        Gone: the time is over.
    """
    expected = _signature(key, expires, signing_key)
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        msg = f"bad signature for file: {key!r}"
        raise Forbidden(msg)
    if time.time() >= expires:
        msg = f"address has expired for file: {key!r}"
        raise Gone(msg)


def _signature(key: str, expires: int, signing_key: SecretStr) -> str:
    message = f"{key}\n{expires}".encode()
    secret = signing_key.get_secret_value().encode()
    return hmac.new(secret, message, hashlib.sha256).hexdigest()
