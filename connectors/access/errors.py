"""Why somebody is not let in: who they are is not shown, or nobody can tell just now."""

import re
from typing import Final

REALM: Final = 'Bearer realm="rapid-response"'
_NOT_QUOTABLE: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")  # RFC 6750, section 3: error_description


class Unauthenticated(Exception):
    """Nobody we know (401). The message is one sentence; it never repeats the credential.

    `challenge` is the value of the `WWW-Authenticate` header (RFC 6750).
    """

    def __init__(self, sentence: str, *, offered: bool = True) -> None:
        """`offered`: whether there was a credential at all; without one, no error is named (RFC 6750, 3.1)."""
        super().__init__(sentence)
        described = _NOT_QUOTABLE.sub(" ", sentence)
        self.challenge = (
            f'{REALM}, error="invalid_token", error_description="{described}"' if offered else REALM
        )


class Unavailable(Exception):
    """Who it is cannot be found out at the moment (503); never a reason to let anybody in."""
