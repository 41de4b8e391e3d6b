"""Makes tokens.json: tokens signed by PyJWT, which shares no code with countersign.

    python3 -m venv venv && venv/bin/pip install pyjwt cryptography
    venv/bin/python tests/vectors/sign_tokens.py > tests/vectors/tokens.json
"""

import base64
import hashlib
import json
import pathlib
import urllib.parse

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

NOW = 1_760_000_000
SECRET = "correct-horse-battery-staple-0123456789-correct-horse-battery-staple-0123456789"
KEYS = pathlib.Path(__file__).parent.parent / "keys"
BODY = '{"event":"order.created","note":"größe"}'
TIMES = {"iat": NOW, "exp": NOW + 300}


def spki(key):
    pem = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, pem).decode()


RSA = ((KEYS / "rsa-1.pem").read_text(), (KEYS / "rsa-1.pub.pem").read_text())
P256, P384, ED = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()
PAIRS = {
    "HS": (SECRET, SECRET),
    "RS": RSA,
    "PS": RSA,
    "ES256": (P256, spki(P256)),
    "ES384": (P384, spki(P384)),
    "EdDSA": (ED, spki(ED)),
}


def pair(algorithm):
    return PAIRS.get(algorithm) or PAIRS[algorithm[:2]]


def sha(text, encoding="hex"):
    digest = hashlib.sha256(text.encode())
    return digest.hexdigest() if encoding == "hex" else base64.b64encode(digest.digest()).decode()


def qsh(method, path, query=()):
    """As atlassian-jwt makes it."""
    quote = lambda text: urllib.parse.quote(text, safe="-._~")
    names = sorted({quote(name) for name, _ in query})
    values = {name: sorted(quote(v) for n, v in query if quote(n) == name) for name in names}
    canonical = "&".join(f"{name}={','.join(values[name])}" for name in names)
    return sha(f"{method}&{path}&{canonical}")


vectors = []


def vector(scheme, name, expect, token, place="Authorization: Bearer ", **more):
    header, _, prefix = place.partition(": ")
    vectors.append({
        "scheme": scheme, "name": name, "expect": expect, "method": "POST", "url": "https://hooks.example.com/in",
        "headers": {header: prefix + token} if header else {}, "body": BODY if header else token, "now": NOW, "claims": {},
        **more,
    })


def signed(algorithm, claims, headers=None, key=None):
    return jwt.encode(claims, key or pair(algorithm)[0], algorithm, headers=headers)


ROUTE = {"iss": "https://issuer.example", "aud": "https://hooks.example.com/in"}
for algorithm in ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]:
    keys = [{"text": pair(algorithm)[1]}]
    own = {"algorithm": algorithm, "keys": keys, "claims": ROUTE}
    claims = {**ROUTE, **TIMES}
    good = signed(algorithm, claims)
    vector("jwt-hs256", f"{algorithm}", "accept", good, **own)
    head, body, signature = good.split(".")
    flipped = ("B" if signature[10] == "A" else "A")
    vector("jwt-hs256", f"{algorithm}, signature changed", "signature_mismatch", f"{head}.{body}.{signature[:10]}{flipped}{signature[11:]}", **own)
    vector("jwt-hs256", f"{algorithm}, without a signature", "signature_mismatch", f"{head}.{body}.", **own)
    vector("jwt-hs256", f"{algorithm}, another audience", "token_claim_mismatch", signed(algorithm, {**claims, "aud": "https://other.example"}), **own)
    vector("jwt-hs256", f"{algorithm}, one audience of several", "accept", signed(algorithm, {**claims, "aud": ["a", ROUTE["aud"]]}), **own)
    vector("jwt-hs256", f"{algorithm}, expired", "token_expired", signed(algorithm, {**claims, "exp": NOW - 60}), **own)
    vector("jwt-hs256", f"{algorithm}, expired within the leeway", "accept", signed(algorithm, {**claims, "exp": NOW - 59}), **own)
    vector("jwt-hs256", f"{algorithm}, from the future", "token_not_yet_valid", signed(algorithm, {**claims, "iat": NOW + 61}), **own)
    vector("jwt-hs256", f"{algorithm}, not before", "token_not_yet_valid", signed(algorithm, {**claims, "nbf": NOW + 61}), **own)

HS = {"keys": [{"text": SECRET}], "claims": ROUTE}
claims = {**ROUTE, **TIMES}
none = jwt.encode(claims, None, "none")
vector("jwt-hs256", "alg none", "token_algorithm_refused", none, **HS)
vector("jwt-hs256", "alg None in another case", "token_algorithm_refused", none.replace(none.split(".")[0], base64.urlsafe_b64encode(b'{"alg":"nOnE"}').decode().rstrip("=")), **HS)
vector("jwt-hs256", "another alg", "token_algorithm_refused", signed("HS512", claims), **HS)
confused = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "HS256", "typ": "JWT"}, claims))
mac = base64.urlsafe_b64encode(confused.sign(text.encode(), RSA[1].encode())).decode().rstrip("=")
vector("jwt-rs256", "HS256 with the public key as secret", "token_algorithm_refused", f"{text}.{mac}", keys=[{"text": RSA[1]}], claims=ROUTE)
for member, value in [("crit", ["exp"]), ("jku", "https://evil.example/jwks"), ("x5u", "https://evil.example/cert"), ("jwk", {"kty": "oct", "k": "AA"}), ("x5c", ["AA"]), ("b64", False)]:
    raw = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "HS256", member: value}, claims))
    mac = base64.urlsafe_b64encode(confused.sign(raw.encode(), SECRET.encode())).decode().rstrip("=")
    vector("jwt-hs256", f"{member} in the header", "token_header_refused", f"{raw}.{mac}", **HS)
without = {name: value for name, value in claims.items() if name != "exp"}
vector("jwt-hs256", "without exp", "token_claim_mismatch", signed("HS256", without), **HS)
vector("jwt-hs256", "without aud", "token_claim_mismatch", signed("HS256", {**TIMES, "iss": ROUTE["iss"]}), **HS)

named = {"keys": [{"text": RSA[1], "kid": "a"}, {"text": (KEYS / "rsa-2.pub.pem").read_text(), "kid": "b"}], "claims": ROUTE}
vector("jwt-rs256", "kid of its key", "accept", signed("RS256", claims, {"kid": "a"}), **named)
vector("jwt-rs256", "kid of another key", "signature_mismatch", signed("RS256", claims, {"kid": "b"}), **named)
vector("jwt-rs256", "kid of no key", "key_unknown", signed("RS256", claims, {"kid": "c"}), **named)
vector("jwt-rs256", "no kid", "accept", signed("RS256", claims), **named)

google = {"iss": "https://accounts.google.com", "aud": ROUTE["aud"], "email": "push@p.iam.gserviceaccount.com", "email_verified": True, **TIMES}
push = {"keys": [{"text": RSA[1]}], "claims": {"aud": ROUTE["aud"], "email": google["email"]}}
vector("google-pubsub", "valid", "accept", signed("RS256", google), **push)
vector("google-pubsub", "another account", "token_claim_mismatch", signed("RS256", {**google, "email": "evil@p.iam.gserviceaccount.com"}), **push)
vector("google-pubsub", "address not verified", "token_claim_mismatch", signed("RS256", {**google, "email_verified": False}), **push)
vector("google-pubsub", "another issuer", "token_claim_mismatch", signed("RS256", {**google, "iss": "https://evil.example"}), **push)
vector("google-chat", "valid", "accept", signed("RS256", {"iss": "chat@system.gserviceaccount.com", "aud": "1234567890", **TIMES}), keys=[{"text": RSA[1]}], claims={"aud": "1234567890"})
tenant = {"iss": "https://sts.windows.net/tenant/", "aud": "api://app", "appid": "4962773b-9cdb-44cf-a8bf-237846a00ab7", **TIMES}
vector("azure-event-grid-entra", "valid", "accept", signed("RS256", tenant, {"x5t": "a", "kid": "a"}), keys=[{"text": RSA[1], "kid": "a"}], claims={"iss": tenant["iss"], "aud": "api://app"})

plaid = {"iat": NOW, "request_body_sha256": sha(BODY)}
es = {"keys": [{"text": pair("ES256")[1], "kid": "k"}], "place": "Plaid-Verification: "}
vector("plaid", "valid", "accept", signed("ES256", plaid, {"kid": "k"}), **es)
vector("plaid", "another body", "digest_mismatch", signed("ES256", plaid, {"kid": "k"}), **es, body=BODY + "\n")
vector("plaid", "old", "timestamp_stale", signed("ES256", {**plaid, "iat": NOW - 301}, {"kid": "k"}), **es)
vector("plaid", "without a digest", "token_claim_mismatch", signed("ES256", {"iat": NOW}, {"kid": "k"}), **es)
hs = {"keys": [{"text": SECRET}]}
vector("netlify", "valid", "accept", signed("HS256", {"iss": "netlify", "sha256": sha(BODY)}), **hs, place="X-Webhook-Signature: ")
vector("netlify", "another body", "digest_mismatch", signed("HS256", {"iss": "netlify", "sha256": sha(BODY + " ")}), **hs, place="X-Webhook-Signature: ")
vector("netlify", "another issuer", "token_claim_mismatch", signed("HS256", {"iss": "netlife", "sha256": sha(BODY)}), **hs, place="X-Webhook-Signature: ")
vector("monday", "valid", "accept", signed("HS256", {"aud": ROUTE["aud"], **TIMES}), **hs, place="Authorization: ", **{"claims": {"aud": ROUTE["aud"]}})
vonage = {"iss": "Vonage", "iat": NOW, "jti": "c5ba8f24-1a14-4c10-bfdf-3fbe8ce511b5", "payload_hash": sha(BODY), "api_key": "a1b2c3d"}
vector("vonage", "valid", "accept", signed("HS256", vonage), **hs, id=vonage["jti"])
vector("vonage", "another body", "digest_mismatch", signed("HS256", vonage), **hs, body="{}")
bare = {name: value for name, value in vonage.items() if name != "payload_hash"}
vector("vonage", "no digest of an empty body", "accept", signed("HS256", bare), **hs, body="")
vector("vonage", "no digest of a body", "digest_mismatch", signed("HS256", bare), **hs)
bird = {"iss": "MessageBird", "nbf": NOW - 1, "exp": NOW + 60, "jti": "j-1", "url_hash": sha("https://hooks.example.com/in"), "payload_hash": sha(BODY)}
vector("messagebird", "valid", "accept", signed("HS256", bird), **hs, place="MessageBird-Signature-JWT: ", id="j-1")
livekit = {"iss": "APIkey", "exp": NOW + 300, "sha256": sha(BODY, "base64")}
vector("livekit", "valid", "accept", signed("HS256", livekit), **hs, place="Authorization: ", claims={"iss": "APIkey"})
vector("livekit", "another body", "digest_mismatch", signed("HS256", livekit), **hs, place="Authorization: ", claims={"iss": "APIkey"}, body="{}")
fusion = {"request_body_sha256": sha(BODY, "base64")}
vector("fusionauth", "valid", "accept", signed("HS256", fusion), **hs, place="X-FusionAuth-Signature-JWT: ")
vector("fusionauth-rs256", "valid", "accept", signed("RS256", fusion), keys=[{"text": RSA[1]}], place="X-FusionAuth-Signature-JWT: ")
event = {"data": "{}", "iat": NOW, "exp": NOW + 300}
for scheme, algorithm in [("wix", "RS256"), ("kinde", "RS256"), ("dialpad", "HS256")]:
    keys = [{"text": pair(algorithm)[1]}]
    vector(scheme, "valid", "accept", signed(algorithm, event), keys=keys, place="")
    head, body, signature = signed(algorithm, event).split(".")
    vector(scheme, "claims changed", "token_malformed", f"{head}.A{body[1:]}.{signature}", keys=keys, place="")
    vector(scheme, "large", "accept", signed(algorithm, {**event, "data": "x" * 8_000}), keys=keys, place="")

app = {"keys": [{"text": SECRET, "kid": "client-1"}, {"text": "another-installation-another-secret-1", "kid": "client-2"}], "place": "Authorization: JWT ", "public_url": "https://hooks.example.com/app"}
connect = {"iss": "client-1", **TIMES}
url = "https://hooks.example.com/app/hook?b=2&a=x+y&a=%21&jwt=left.out"
query = [("b", "2"), ("a", "x y"), ("a", "!")]
vector("atlassian-connect", "valid", "accept", signed("HS256", {**connect, "qsh": qsh("POST", "/hook", query)}), **app, url=url)
vector("atlassian-connect", "another path", "token_claim_mismatch", signed("HS256", {**connect, "qsh": qsh("POST", "/other", query)}), **app, url=url)
vector("atlassian-connect", "another method", "token_claim_mismatch", signed("HS256", {**connect, "qsh": qsh("GET", "/hook", query)}), **app, url=url)
vector("atlassian-connect", "another query", "token_claim_mismatch", signed("HS256", {**connect, "qsh": qsh("POST", "/hook")}), **app, url=url)
vector("atlassian-connect", "a context", "token_claim_mismatch", signed("HS256", {**connect, "qsh": "context-qsh"}), **app, url=url)
vector("atlassian-connect", "as another installation", "signature_mismatch", signed("HS256", {**connect, "iss": "client-2", "qsh": qsh("POST", "/hook", query)}), **app, url=url)
vector("atlassian-connect", "an unknown installation", "key_unknown", signed("HS256", {**connect, "iss": "client-3", "qsh": qsh("POST", "/hook", query)}), **app, url=url)
vector("atlassian-connect-lifecycle", "valid", "accept", signed("RS256", {"aud": "https://hooks.example.com/app", "qsh": qsh("POST", "/installed"), **TIMES}, {"kid": "k"}), keys=[{"text": RSA[1], "kid": "k"}], claims={"aud": "https://hooks.example.com/app"}, place="Authorization: JWT ", public_url=app["public_url"], url="https://hooks.example.com/app/installed")

print("[\n" + ",\n".join(json.dumps(one, ensure_ascii=False) for one in vectors) + "\n]")
