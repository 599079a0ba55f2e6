"""`host:port` as text, and which hosts stay on this machine."""

from __future__ import annotations

import ipaddress

PORT_MAX = 65_535


def split_address(text: str) -> tuple[str, int]:
    """`host:port`, `[v6]:port` or a bare host (port 0); raises ValueError."""
    host, port_text = _halves(text)
    if not host or any(letter.isspace() or letter in "/@" for letter in host):
        raise ValueError("no host")
    if not port_text.isascii() or not port_text.isdecimal() or int(port_text) > PORT_MAX:
        raise ValueError("no port")
    return host, int(port_text)


def _halves(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError("no closing bracket")
        ipaddress.IPv6Address(host)
        return host, rest[1:] or "0"
    if text.count(":") > 1:
        ipaddress.IPv6Address(text)
        return text, "0"
    host, _, port_text = text.partition(":")
    return host, port_text or "0"


def join_address(host: str, port: int) -> str:
    """The text that `split_address` reads back."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost counts as open."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_unspecified(host: str) -> bool:
    """Whether `host` means every interface (0.0.0.0 or ::), which nobody can dial."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
