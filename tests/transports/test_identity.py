"""Keys and certificates: RFC 8032's signatures, TLS as Python's own ssl module sees it, and what is refused."""

from __future__ import annotations

import base64
import ssl
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from fedstill.errors import ConfigError, WireError
from fedstill.transports.authority import Authority
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.keys import MAX_PEM_BYTES
from fedstill.transports.letters import Header, check, digest_of, read, write
from fedstill.transports.roles import Role

NOW = datetime(2030, 1, 31, 12, 0, 0, tzinfo=UTC)
AUTHORITY = Authority.create("Norddeutsche Bäcker", NOW)
PARTY = Identity.create()
REQUEST = PARTY.request_pem("whoever")
PEM = AUTHORITY.certify(REQUEST, "Bäckerei Łódź", Role.PARTICIPANT, NOW, 90)
CERTIFICATE = Certificate.from_pem(PEM)
SERVER = Identity.create("p256")


def pem_of(kind, der):
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(der).decode()}-----END {kind}-----\n".encode()


def der_of(pem):
    return base64.b64decode(b"".join(pem.splitlines()[1:-1]))


def certified(identity, role=Role.PARTICIPANT, name="a", now=NOW, days=90, authority=AUTHORITY):
    """An identity with its certificate."""
    addresses = ("localhost", "127.0.0.1", "::1") if role is Role.SERVER else ()
    pem = authority.certify(identity.request_pem("x"), name, role, now, days, addresses)
    return Identity.from_pem(identity.key_pem, pem)


# Signatures: RFC 8032, section 7.1.

VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
]


@pytest.mark.parametrize(("secret", "public", "message", "signature"), VECTORS)
def test_signatures_are_those_of_rfc_8032(secret, public, message, signature):
    # PKCS 8 of RFC 8410, section 7: a sequence of version 0, the OID 1.3.101.112 and the 32 bytes, wrapped twice.
    key = pem_of("PRIVATE KEY", bytes.fromhex("302e020100300506032b657004220420" + secret))
    message, signature = bytes.fromhex(message), bytes.fromhex(signature)
    identity = Identity.from_pem(key)
    assert identity.kind == "ed25519"
    assert identity.sign(message) == signature
    certificate = Certificate.from_pem(AUTHORITY.certify(identity.request_pem("a"), "a", Role.AUDITOR, NOW, 1))
    assert certificate.public_key.public_bytes_raw().hex() == public
    assert certificate.verify(message, signature)
    assert not certificate.verify(message + b"\0", signature)
    assert not certificate.verify(message, signature[:-1] + bytes([signature[-1] ^ 1]))
    assert not CERTIFICATE.verify(message, signature)


@pytest.mark.parametrize("signature", [b"", b"\0" * 63, b"\0" * 64, b"\xff" * 64, b"\0" * 65])
def test_whatever_is_no_signature_does_not_verify(signature):
    assert not CERTIFICATE.verify(b"data", signature)


def test_a_letter_from_party_to_party():
    header = Header("0" * 64, CERTIFICATE.name, "coordinator", 1, "frame", digest_of(b""), 0, 0.0)
    letter = read(write(header, PARTY.sign).to_bytes())
    check(letter, CERTIFICATE.verify)
    with pytest.raises(WireError, match="its signature does not fit"):
        check(letter, certified(Identity.create()).certificate.verify)


def test_keys_on_p256_sign_no_letters():
    with pytest.raises(ConfigError, match="signs no letters"):
        SERVER.sign(b"data")
    assert not certified(SERVER, Role.SERVER).certificate.verify(b"data", b"\0" * 64)


# Certificates.


def test_name_and_role_are_the_authoritys_word():
    """The request asks for "whoever"; the authority says whom it knows."""
    assert (CERTIFICATE.name, CERTIFICATE.role) == ("Bäckerei Łódź", Role.PARTICIPANT)
    assert b"whoever" not in der_of(PEM)
    assert CERTIFICATE.public_key.public_bytes_raw() == PARTY._key.public_key().public_bytes_raw()


@pytest.mark.parametrize("role", Role)
def test_every_role_survives(role):
    identity = certified(Identity.create("p256" if role is Role.SERVER else "ed25519"), role, "a b")
    assert (identity.certificate.name, identity.certificate.role) == ("a b", role)
    assert identity.certificate.issued_by(AUTHORITY.cert_pem)


def test_both_encodings_are_one_certificate():
    assert CERTIFICATE.pem == PEM
    assert Certificate.from_der(der_of(PEM)) == CERTIFICATE
    assert len({CERTIFICATE, Certificate.from_der(der_of(PEM))}) == 1
    assert CERTIFICATE.fingerprint == digest_of(der_of(PEM))
    assert AUTHORITY.fingerprint == digest_of(der_of(AUTHORITY.cert_pem))


def test_times():
    assert CERTIFICATE.starts == NOW - timedelta(minutes=5)
    assert CERTIFICATE.ends == datetime(2030, 5, 1, 12, tzinfo=UTC)
    second = timedelta(seconds=1)
    for now, valid in [
        (CERTIFICATE.starts - second, False),
        (CERTIFICATE.starts, True),
        (CERTIFICATE.ends.astimezone(timezone(timedelta(hours=9))), True),
        (CERTIFICATE.ends + second, False),
    ]:
        assert CERTIFICATE.valid(now) is valid


def test_no_certificate_outlives_its_authority():
    authority = Authority.create("short", NOW, days=10)
    end = NOW + timedelta(days=10)
    assert certified(PARTY, authority=authority, now=end - timedelta(days=1)).certificate.ends == end
    with pytest.raises(ConfigError, match="the authority has ended"):
        certified(PARTY, authority=authority, now=end + timedelta(seconds=1))


def test_issued_by_this_authority_alone():
    namesake = Authority.create(AUTHORITY.consortium, NOW)
    other = certified(PARTY, authority=Authority.create("other", NOW)).certificate
    assert CERTIFICATE.issued_by(AUTHORITY.cert_pem)
    assert not CERTIFICATE.issued_by(namesake.cert_pem)
    assert not other.issued_by(AUTHORITY.cert_pem)
    assert not CERTIFICATE.issued_by(PEM)


def test_serials_are_random():
    assert x509.load_pem_x509_certificate(PEM).serial_number.bit_length() > 100
    again = Certificate.from_pem(AUTHORITY.certify(REQUEST, CERTIFICATE.name, CERTIFICATE.role, NOW, 90))
    assert again.fingerprint != CERTIFICATE.fingerprint


@pytest.mark.parametrize(
    ("identity", "purpose"),
    [
        (certified(PARTY), ExtendedKeyUsageOID.CLIENT_AUTH),
        (certified(SERVER, Role.SERVER), ExtendedKeyUsageOID.SERVER_AUTH),
    ],
)
def test_extensions(identity, purpose):
    extensions = identity.certificate.document.extensions
    assert extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(False, None)
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.digital_signature, usage.value.key_cert_sign) == (True, False)
    subjects = [e for e in extensions if isinstance(e.value, x509.SubjectAlternativeName)]
    assert len(subjects) == (purpose == ExtendedKeyUsageOID.SERVER_AUTH)


def test_addresses_are_names_or_ips():
    given = ["hub.example.org", "*.example.org", "10.0.0.1", "fe80::1"]
    pem = AUTHORITY.certify(SERVER.request_pem("s"), "hub", Role.SERVER, NOW, 1, given)
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == given[:2]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == given[2:]


# What the authority refuses.


@pytest.mark.parametrize(
    "address", ["", "https://a", "a:443", "a b", "-a", "a..b", "ä.de", "10.0.0.256", "a.*", "a\n", "a." * 127 + "a"]
)
def test_other_addresses_are_refused(address):
    with pytest.raises(ConfigError, match="neither a DNS name nor an IP address"):
        AUTHORITY.certify(SERVER.request_pem("s"), "hub", Role.SERVER, NOW, 1, [address])


@pytest.mark.parametrize(("role", "addresses"), [(Role.SERVER, ()), (Role.OBSERVER, ("localhost",))])
def test_servers_alone_have_addresses(role, addresses):
    with pytest.raises(ConfigError, match="a server needs addresses"):
        AUTHORITY.certify(SERVER.request_pem("s"), "hub", role, NOW, 1, addresses)


@pytest.mark.parametrize("name", ["", " a", "a\n", "a\0b", "\u202ea", "\ud800", "x" * 65, "ä" * 33])
def test_names_that_cannot_be(name):
    for make in (
        lambda: AUTHORITY.certify(REQUEST, name, Role.PARTICIPANT, NOW, 1),
        lambda: PARTY.request_pem(name),
        lambda: Authority.create(name, NOW),
    ):
        with pytest.raises(ConfigError, match="cannot be a name"):
            make()


def test_nobody_else_is_called_coordinator():
    assert certified(PARTY, Role.COORDINATOR, "coordinator").certificate.name == "coordinator"
    for role in (Role.PARTICIPANT, Role.OPERATOR, Role.OBSERVER, Role.AUDITOR):
        with pytest.raises(ConfigError, match="the coordinator's own"):
            certified(PARTY, role, "coordinator")


@pytest.mark.parametrize("days", [0, -1, 36_501, 10**12])
def test_times_that_cannot_be(days):
    with pytest.raises(ConfigError, match="cannot be valid for"):
        certified(PARTY, days=days)


@pytest.mark.parametrize("now", [NOW.replace(tzinfo=None), NOW.replace(year=1), NOW.replace(year=9999)])
def test_clocks_that_cannot_be(now):
    with pytest.raises(ConfigError, match=r"^now: "):
        certified(PARTY, now=now)
    with pytest.raises(ConfigError, match=r"^now: "):
        Authority.create("a", now)


@pytest.mark.parametrize(
    ("kind", "role"), [("p256", Role.PARTICIPANT), ("p256", Role.COORDINATOR), ("ed25519", Role.SERVER)]
)
def test_roles_need_their_kind_of_key(kind, role):
    with pytest.raises(WireError, match=f"the role '{role}' needs a key of the kind"):
        certified(Identity.create(kind), role)


def test_people_may_have_either_kind():
    assert certified(SERVER, Role.OPERATOR).kind == "p256"
    assert certified(PARTY, Role.OPERATOR).kind == "ed25519"


def request_with(key, digest):
    """A request as another program would make it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    # What a hostile one would ask for on top: to be an authority.
    request = request.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return request.sign(key, digest).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())])
def test_other_kinds_of_keys_are_refused(key):
    with pytest.raises(WireError, match="neither Ed25519 nor ECDSA on P-256"):
        AUTHORITY.certify(request_with(key, hashes.SHA256()), "a", Role.OPERATOR, NOW, 1)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with pytest.raises(ConfigError, match="neither Ed25519 nor ECDSA on P-256"):
        Identity.from_pem(pem)


def test_what_a_request_asks_for_does_not_matter():
    pem = AUTHORITY.certify(request_with(ed25519.Ed25519PrivateKey.generate(), None), "b", Role.OBSERVER, NOW, 1)
    document = Certificate.from_pem(pem).document
    assert not document.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert Certificate.from_pem(pem).name == "b"


def test_a_request_for_another_ones_key_is_refused():
    """The public key in the request is exchanged for one whose private key the sender does not have."""
    own, other = (identity._key.public_key().public_bytes_raw() for identity in (PARTY, Identity.create()))
    der = der_of(REQUEST)
    assert der.count(own) == 1
    with pytest.raises(WireError, match="not signed with the key that it is about"):
        AUTHORITY.certify(pem_of("CERTIFICATE REQUEST", der.replace(own, other)), "a", Role.PARTICIPANT, NOW, 1)


@pytest.mark.parametrize("request_pem", [b"", b"-----BEGIN", PEM, REQUEST[:-60], REQUEST + b" " * MAX_PEM_BYTES])
def test_what_is_no_request(request_pem):
    with pytest.raises(WireError, match=r"^certificate request: "):
        AUTHORITY.certify(request_pem, "a", Role.PARTICIPANT, NOW, 1)


changes = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4)


def changed(der, places):
    data = bytearray(der)
    for place, value in places:
        data[place % len(data)] = value
    return bytes(data)


@given(changes)
@settings(max_examples=300)
@pytest.mark.filterwarnings("ignore")
def test_no_changed_request_is_certified(places):
    """Bytes around the signature may differ (it has several encodings), but never what it is about."""
    der = changed(der_of(REQUEST), places)
    try:
        AUTHORITY.certify(pem_of("CERTIFICATE REQUEST", der), "a", Role.PARTICIPANT, NOW, 1)
    except WireError:
        assert der != der_of(REQUEST)
        return
    original = x509.load_pem_x509_csr(REQUEST)
    assert x509.load_der_x509_csr(der).tbs_certrequest_bytes == original.tbs_certrequest_bytes


@given(changes)
@settings(max_examples=300)
@pytest.mark.filterwarnings("ignore")
def test_no_changed_certificate_is_the_authoritys(places):
    """As above; where the encoding of the signature was changed, the fingerprint is another as well."""
    der = changed(der_of(PEM), places)
    try:
        certificate = Certificate.from_der(der)
    except WireError:
        return
    if certificate.issued_by(AUTHORITY.cert_pem):
        assert certificate.document.tbs_certificate_bytes == CERTIFICATE.document.tbs_certificate_bytes
    assert (certificate == CERTIFICATE) is (der == der_of(PEM))


@given(st.binary(max_size=100))
def test_any_bytes_are_refused(data):
    for refused in (Certificate.from_pem, Certificate.from_der):
        with pytest.raises(WireError):
            refused(data)
    with pytest.raises(ConfigError):
        Identity.from_pem(data)
    with pytest.raises(ConfigError):
        Authority.from_pem(AUTHORITY.key_pem, data)
    with pytest.raises(ConfigError):
        CERTIFICATE.issued_by(data)


@given(changes, st.sampled_from([PARTY, SERVER]))
@settings(max_examples=300)
def test_a_changed_key_is_refused_or_of_use(places, identity):
    try:
        key = Identity.from_pem(pem_of("PRIVATE KEY", changed(der_of(identity.key_pem), places)))
    except ConfigError:
        return
    AUTHORITY.certify(key.request_pem("a"), "a", Role.OPERATOR, NOW, 1)


def foreign(*values, key=CERTIFICATE.public_key):
    """A certificate by this authority's key, as another program would make it."""
    oids = {"CN": NameOID.COMMON_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME}
    subject = x509.Name([x509.NameAttribute(oids[oid], value) for oid, value in values])
    document = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key)
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW)
        .sign(AUTHORITY._key, hashes.SHA256())
    )
    return document.public_bytes(serialization.Encoding.PEM)


def test_what_is_not_a_partys_certificate():
    good = ("CN", "a"), ("OU", "observer")
    assert Certificate.from_pem(foreign(*good)).role is Role.OBSERVER
    for values in (
        (("CN", "a"),),
        (("OU", "observer"),),
        (("CN", "a"), ("OU", "king")),
        (*good, ("CN", "b")),
        (*good, ("OU", "operator")),
        (("CN", "a\n"), ("OU", "observer")),
    ):
        with pytest.raises(WireError, match="not the certificate of a party"):
            Certificate.from_pem(foreign(*values))
    with pytest.raises(WireError, match="not the certificate of a party"):
        Certificate.from_pem(foreign(*good, key=ec.generate_private_key(ec.SECP384R1()).public_key()))
    with pytest.raises(WireError, match="not the certificate of a party"):
        Certificate.from_pem(AUTHORITY.cert_pem)


# Keys at home.


@pytest.mark.parametrize("kind", ["ed25519", "p256"])
def test_identities_are_kept(kind):
    identity = Identity.create(kind)
    assert (identity.kind, identity.certificate) == (kind, None)
    again = Identity.from_pem(identity.key_pem)
    assert again.key_pem == identity.key_pem
    assert again.kind == kind


def test_authorities_are_kept():
    again = Authority.from_pem(AUTHORITY.key_pem, AUTHORITY.cert_pem)
    assert (again.consortium, again.cert_pem) == ("Norddeutsche Bäcker", AUTHORITY.cert_pem)
    assert certified(Identity.create(), authority=again).certificate.issued_by(AUTHORITY.cert_pem)


def test_a_key_belongs_to_its_certificate():
    assert Identity.from_pem(PARTY.key_pem, PEM).certificate == CERTIFICATE
    for other in (Identity.create(), SERVER):
        with pytest.raises(ConfigError, match="the certificate of 'Bäckerei Łódź' is about another key"):
            Identity.from_pem(other.key_pem, PEM)
    for key, cert in [
        (Authority.create("a", NOW).key_pem, AUTHORITY.cert_pem),
        (PARTY.key_pem, PEM),
        (SERVER.key_pem, certified(SERVER, Role.SERVER).certificate.pem),
        # One letter of the consortium's name is another.
        (AUTHORITY.key_pem, pem_of("CERTIFICATE", der_of(AUTHORITY.cert_pem).replace(b"Nord", b"Sord"))),
    ]:
        with pytest.raises(ConfigError, match="not an authority's certificate and the key that belongs to it"):
            Authority.from_pem(key, cert)


def test_private_keys_are_nowhere_to_be_seen():
    secret = PARTY._key.private_bytes_raw()
    identity = Identity.from_pem(PARTY.key_pem, PEM)
    shown = [repr(identity), str(identity), f"{identity}", repr(AUTHORITY), repr(CERTIFICATE)]
    encrypted = PARTY._key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
    )
    for damaged in (PARTY.key_pem[:-40], PARTY.key_pem.replace(b"PRIVATE KEY", b"PUBLIC KEY"), encrypted):
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            Identity.from_pem(damaged)
        assert caught.value.__cause__ is None
        shown.append(str(caught.value))
    body = PARTY.key_pem.splitlines()[1].decode()
    for text in shown:
        assert not any(part in text for part in (body[-16:], secret.hex(), repr(secret), "PRIVATE"))
    assert shown[0].startswith("Identity(ed25519, Certificate(name='Bäckerei Łódź', role=<Role.PARTICIPANT")


# TLS, as Python's ssl module (OpenSSL) sees it, by the real clock; in memory, without sockets.


def context(folder, side, identity, authority, chain=b""):
    """A context as strict as Python 3.13 makes them."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if side == "server" else ssl.PROTOCOL_TLS_CLIENT)
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=authority.cert_pem.decode())
    files = folder / f"{side}.key", folder / f"{side}.crt"
    files[0].write_bytes(identity.key_pem)
    files[1].write_bytes(identity.certificate.pem + chain)
    made.load_cert_chain(files[1], files[0])
    return made


def handshake(folder, client, server, *, trusts=None, host="localhost", chain=b""):
    """Shake hands, and return the client's certificate as the server got it. Raises ssl.SSLError of who refuses."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = context(folder, "client", client, trusts or REAL, chain).wrap_bio(down, up, server_hostname=host)
    server_side = context(folder, "server", server, REAL).wrap_bio(up, down, server_side=True)
    open_ = [client_side, server_side]
    for _ in range(10):
        for side in list(open_):
            try:
                side.do_handshake()
                open_.remove(side)
            except ssl.SSLWantReadError:
                pass
        if not open_:
            return Certificate.from_der(server_side.getpeercert(binary_form=True))
    raise AssertionError("the handshake did not end")


TODAY = datetime.now(UTC)
REAL = Authority.create("real", TODAY - timedelta(days=400))
LOCAL = certified(SERVER, Role.SERVER, "hub", TODAY, authority=REAL)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_tls_tells_the_server_who_is_there(tmp_path, host):
    client = certified(PARTY, name="Bäckerei Łódź", now=TODAY, authority=REAL)
    seen = handshake(tmp_path, client, LOCAL, host=host)
    assert seen == client.certificate
    assert (seen.name, seen.role) == ("Bäckerei Łódź", Role.PARTICIPANT)
    assert seen.valid(TODAY)
    assert seen.issued_by(REAL.cert_pem)


def test_tls_with_a_browsers_kind_of_key(tmp_path):
    client = certified(Identity.create("p256"), Role.OPERATOR, now=TODAY, authority=REAL)
    assert handshake(tmp_path, client, LOCAL).role is Role.OPERATOR


def refused(folder, client, server, reason, **options):
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        handshake(folder, client, server, **options)


def test_tls_refuses_others(tmp_path):
    good = certified(PARTY, now=TODAY, authority=REAL)
    handshake(tmp_path, good, LOCAL)
    namesake = Authority.create("real", TODAY)
    refused(tmp_path, certified(PARTY, now=TODAY, authority=namesake), LOCAL, "verify failed")
    refused(tmp_path, good, LOCAL, "verify failed", trusts=namesake)
    refused(tmp_path, certified(PARTY, now=TODAY - timedelta(days=2), days=1, authority=REAL), LOCAL, "has expired")
    refused(tmp_path, certified(PARTY, now=TODAY + timedelta(days=1), authority=REAL), LOCAL, "not yet valid")
    old = certified(SERVER, Role.SERVER, now=TODAY - timedelta(days=2), days=1, authority=REAL)
    refused(tmp_path, good, old, "has expired")
    refused(tmp_path, good, LOCAL, "Hostname mismatch", host="elsewhere")


def test_tls_keeps_clients_and_servers_apart(tmp_path):
    """A participant cannot pose as the server, nor a server as a participant."""
    good = certified(PARTY, now=TODAY, authority=REAL)
    refused(tmp_path, good, good, "unsuitable certificate purpose")
    refused(tmp_path, LOCAL, LOCAL, "unsuitable certificate purpose")


def test_tls_refuses_a_participant_that_plays_authority(tmp_path):
    """What a participant signs with its own key is not worth anything, although its own certificate is good."""
    good = certified(Identity.create("p256"), Role.OPERATOR, now=TODAY, authority=REAL)
    forger = Authority(good._key, good.certificate.document)
    victim = certified(Identity.create(), name="victim", now=TODAY, authority=forger)
    assert not victim.certificate.issued_by(REAL.cert_pem)
    refused(tmp_path, victim, LOCAL, "invalid CA certificate", chain=good.certificate.pem)
