"""Texts that may be shown and kept."""

import re


def without_credentials(text: str) -> str:
    """The text with `user:password@` and secret arguments removed from every URI in it.

    A password may have a slash in it, as base64 has, so it ends at the last `@`; but what looks like a port is none.
    """
    text = re.sub(r"://[^/\s'\"]*@", "://", text)
    text = re.sub(r"://[^/\s'\"@:]*:(?!\d+(?:[/?#,'\"\s]|$))[^\s'\"]*@", "://", text)
    return re.sub(r"([?&]\w*(?:password|passwd|secret|token|access_key|sig)\w*=)[^&\s'\"]+", r"\1…", text, flags=re.I)
