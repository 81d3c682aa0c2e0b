"""Certificates for a server on the loopback address: good ones, and each kind of bad one."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


class Authority:
    """Signs certificates, and is trusted by whoever is given its own.

    Args:
        folder: For the files, which are what libpq and Python's ssl read.
        name: Of the authority.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(self._name, self._key.public_key(), datetime.now(UTC)).sign(
            self._key, hashes.SHA256()
        )
        self.root = folder / f"{name}.crt"
        self.root.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, host: str = "127.0.0.1", *, since: timedelta = -DAY) -> ssl.SSLContext:
        """TLS for a server that calls itself `host`; its certificate is good for two days."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            own: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            own = x509.DNSName(host)
        certificate = (
            self._certificate(_name(host), key.public_key(), datetime.now(UTC) + since)
            .add_extension(x509.SubjectAlternativeName([own]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        path = self._folder / f"{self.root.stem}-{host}-{since.days}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, since: datetime
    ) -> x509.CertificateBuilder:
        own = subject == self._name
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(since + 2 * DAY)
            .add_extension(x509.BasicConstraints(ca=own, path_length=None), critical=True)
        )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
