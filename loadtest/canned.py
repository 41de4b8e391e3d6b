"""What TLS attackers send without doing the work themselves: recorded hellos, and chains of useless certificates."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import rig

RECORD_HANDSHAKE, HANDSHAKE_CERTIFICATE = 22, 11
TLS_1_2 = b"\x03\x03"
LARGEST_RECORD = 1 << 14
USELESS = 110


def openssl(*words: str | Path) -> None:
    """Run openssl; what it says is shown only if it fails."""
    done = subprocess.run([rig.program("openssl"), *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise rig.RigError(f"openssl {words[0]} failed:\n{done.stderr}")


def make_server_pair(folder: Path, kind: str) -> None:
    """A self-signed certificate for localhost and its key, in files called `kind`; a kind is p256, rsa-2048 …"""
    algorithm = (["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "p256"
                 else [kind.replace("-", ":")])
    key = folder / f"{kind}.key"
    openssl("req", "-x509", "-newkey", *algorithm, "-nodes", "-days", "30", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout", key, "-out", folder / f"{kind}.crt")
    key.chmod(0o600)


def record_hello(path: Path, version: ssl.TLSVersion) -> None:
    """The first flight of a client: the same bytes begin any number of handshakes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    path.write_bytes(outgoing.read())


def make_chain(folder: Path) -> None:
    """An authority, and a client's Certificate message: a leaf of another one, and `USELESS` candidates for its issuer.

    TLS 1.2 carries it in plain text, so it can be sent by a client that does nothing else.
    """
    name = ("-subj", "/CN=The authority")  # that of the trusted one: only the signatures tell them apart
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes", "-days", "30")
    openssl("req", "-x509", *curve, *name, "-keyout", folder / "ca.key", "-out", folder / "ca.crt")
    openssl("req", "-x509", *curve, *name, "-keyout", folder / "true.key", "-out", folder / "true.crt")
    openssl("req", "-new", *curve[:-2], "-subj", "/CN=client", "-keyout", folder / "leaf.key", "-out", folder / "leaf.csr")
    extensions = folder / "leaf.ext"
    extensions.write_text("extendedKeyUsage = clientAuth\n", encoding="ascii")
    openssl("x509", "-req", "-extfile", extensions, "-in", folder / "leaf.csr", "-CA", folder / "true.crt", "-CAkey", folder / "true.key",
            "-set_serial", "1", "-days", "30", "-out", folder / "leaf.crt")
    openssl("ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", folder / "other.key")
    chain = [folder / "leaf.crt"]
    for serial in range(USELESS):
        chain.append(folder / f"useless-{serial}.crt")
        openssl("req", "-x509", "-key", folder / "other.key", "-days", "30", *name,
                "-set_serial", str(serial + 2), "-out", chain[-1])
    (folder / "chain.bin").write_bytes(certificate_records(
        [ssl.PEM_cert_to_DER_cert(one.read_text(encoding="ascii")) for one in chain]))


def certificate_records(chain: list[bytes]) -> bytes:
    """A Certificate message (RFC 5246, section 7.4.2) in records."""
    def sized(data: bytes) -> bytes:
        return len(data).to_bytes(3, "big") + data

    message = bytes([HANDSHAKE_CERTIFICATE]) + sized(sized(b"".join(map(sized, chain))))
    pieces = [message[at:at + LARGEST_RECORD] for at in range(0, len(message), LARGEST_RECORD)]
    return b"".join(bytes([RECORD_HANDSHAKE]) + TLS_1_2 + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def make_public_keys(folder: Path, count: int) -> None:
    """Ed25519 keys as Standard Webhooks writes them, in files `public-1` …"""
    for number in range(1, count + 1):
        key, public = folder / f"ed25519-{number}.pem", folder / f"ed25519-{number}.der"
        openssl("genpkey", "-algorithm", "ed25519", "-out", key)
        openssl("pkey", "-in", key, "-pubout", "-outform", "DER", "-out", public)
        openssl("base64", "-A", "-in", public, "-out", folder / f"encoded-{number}")
        # The last 32 bytes of the DER are the key: 12 bytes before them are 16 digits of Base64.
        encoded = (folder / f"encoded-{number}").read_text(encoding="ascii").strip()[16:]
        path = folder / f"public-{number}"
        path.touch(mode=0o600)
        path.write_text(f"whpk_{encoded}", encoding="ascii")
