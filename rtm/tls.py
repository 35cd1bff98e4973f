"""The certificate that the port shows: the operator's, or one that is made here to try things on."""

import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from rtm.private import write_private
from rtm.settings import Settings


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files; `authority` is what a client has to trust, for a certificate that was made here."""

    chain: Path
    key: Path | None
    authority: Path | None = None


class CertificateError(Exception):
    """The certificate cannot be used; the message is one line for the operator."""


def certificate(settings: Settings) -> Certificate | None:
    """The certificate to serve with, or None for a port without TLS. Raises CertificateError."""
    if settings.tls_self_signed:
        found = _self_signed(settings)
    elif settings.tls_cert is not None:
        found = Certificate(settings.tls_cert, settings.tls_key)
    else:
        return None
    _check(found)
    return found


def _check(found: Certificate) -> None:
    """Load it once, so that what is wrong is said before anything is started."""
    chain = _read(found.chain)
    key = chain if found.key is None else _read(found.key)
    if b"CERTIFICATE-----" not in chain:
        raise CertificateError(f"there is no certificate in {found.chain}: --tls-cert takes a PEM file with one")
    if b"PRIVATE KEY-----" not in key:
        place = found.chain if found.key is None else found.key
        raise CertificateError(f"there is no key in {place}: --tls-key takes a PEM file with the certificate's")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(found.chain, found.key, password=lambda: "")
    except ssl.SSLError as error:
        names = str(found.chain) if found.key is None else f"{found.chain} with {found.key}"
        reason = (
            "the key does not belong to it" if error.reason == "KEY_VALUES_MISMATCH" else "expected PEM, unencrypted"
        )
        raise CertificateError(f"cannot use the certificate {names}: {reason}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from error


def _self_signed(settings: Settings) -> Certificate:
    """The certificate in the data directory, made there if it is missing or for other names; delete it for a new one.

    It is signed by an authority of its own, whose key is thrown away: trusting it trusts this one server.
    """
    folder = settings.data_dir / "tls"
    made = Certificate(folder / "certificate.pem", folder / "key.pem", folder / "authority.pem")
    if made.chain.exists() and made.key is not None and made.key.exists() and _is_for(settings.host, made.chain):
        return made
    import trustme

    authority = trustme.CA(organization_name="rtm", organization_unit_name="made by --tls-self-signed")
    try:
        issued = authority.issue_cert(*dict.fromkeys(["localhost", "127.0.0.1", "::1", settings.host]))
        for each in (settings.data_dir, folder):  # a parent is not given the mode
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(folder / "key.pem", issued.private_key_pem.bytes())
        write_private(folder / "authority.pem", authority.cert_pem.bytes())
        write_private(folder / "certificate.pem", b"".join(part.bytes() for part in issued.cert_chain_pems))
    except OSError as error:
        raise CertificateError(f"cannot write to {folder}: {error.strerror}") from error
    except ValueError as error:
        raise CertificateError(f"cannot make a certificate for {settings.host}: {error}") from error
    return made


def _is_for(host: str, chain: Path) -> bool:
    """Whether the host is among the certificate's names; what cannot be read is said by `_check`."""
    from cryptography import x509

    try:
        extensions = x509.load_pem_x509_certificate(chain.read_bytes()).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return True
    try:
        return ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        return host.encode("idna").decode().lower() in names.get_values_for_type(x509.DNSName)
