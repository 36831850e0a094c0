"""Issues tokens with PyJWT.

    jwt_peer.py ISSUER AUDIENCE
                                prints as JSON a JWK Set of new keys, good tokens by their algorithms, and bad ones by
                                what is wrong with them
"""

import base64
import hashlib
import hmac
import json
import secrets
import sys
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

ALGORITHMS = get_default_algorithms()
HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
# Which key signs by which algorithms.
USES = {
    "secret": ["HS256", "HS384", "HS512"],
    "rsa": ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
    "p256": ["ES256"],
    "p384": ["ES384"],
    "p521": ["ES512"],
    "ed25519": ["EdDSA"],
    "secp256k1": ["ES256K"],
}
UNKNOWN = ["ES256K"]
HOUR = 3600


def keys():
    return {
        "secret": secrets.token_bytes(64),
        "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "p256": ec.generate_private_key(ec.SECP256R1()),
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "p521": ec.generate_private_key(ec.SECP521R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
        "secp256k1": ec.generate_private_key(ec.SECP256K1()),
    }


def public(kid, key):
    """As it stands in a JWK Set."""
    own = key.public_key() if hasattr(key, "public_key") else key
    return {**ALGORITHMS[USES[kid][0]].to_jwk(own, as_dict=True), "kid": kid, "use": "sig", "key_ops": ["verify"]}


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encoded(part):
    return base64url(json.dumps(part).encode())


def signed(algorithm, kid, claims, sign):
    """What PyJWT itself refuses to make."""
    text = f"{encoded({'alg': algorithm, 'kid': kid})}.{encoded(claims)}"
    return f"{text}.{base64url(sign(text.encode()))}"


def main(issuer, audience):
    ours, others, now = keys(), keys(), int(time.time())
    claims = {"iss": issuer, "aud": audience, "sub": "alice", "iat": now, "exp": now + HOUR}
    wrong = {
        "expired": {"iat": now - 2 * HOUR, "exp": now - HOUR},
        "not valid yet": {"nbf": now + HOUR},
        "for another audience": {"aud": f"{audience}2"},
        "of another issuer": {"iss": f"{issuer}/"},
    }
    good, bad = {}, {}
    for kid, algorithms in USES.items():
        for algorithm in algorithms:
            def token(more={}, key=ours[kid], headers={}):
                return jwt.encode({**claims, **more}, key, algorithm, {"kid": kid, **headers})

            whole = token()
            good[algorithm] = whole
            bad |= {f"{algorithm}, {what}": token(more) for what, more in wrong.items()}
            bad[f"{algorithm}, by another key"] = token(key=others[kid])
            bad[f"{algorithm}, with what has to be understood"] = token(headers={"crit": ["x"], "x": 1})
            head, _, tag = whole.split(".")
            bad[f"{algorithm}, changed"] = f"{head}.{encoded({**claims, 'sub': 'root'})}.{tag}"
            own = ALGORITHMS[algorithm]
            for other in set(algorithms) - {algorithm}:
                sign = lambda text: own.sign(text, own.prepare_key(ours[kid]))
                bad[f"{algorithm}, said to be {other}"] = signed(other, kid, claims, sign)
    bad |= {algorithm: good.pop(algorithm) for algorithm in UNKNOWN}
    bad["none"] = jwt.encode(claims, None, "none", {"kid": "rsa"})
    form = ours["rsa"].public_key().public_bytes
    spki = PublicFormat.SubjectPublicKeyInfo
    disguises = {
        "PEM": form(Encoding.PEM, spki),
        "PEM without the last line's end": form(Encoding.PEM, spki).rstrip(),
        "PEM of PKCS #1": form(Encoding.PEM, PublicFormat.PKCS1),
        "DER": form(Encoding.DER, spki),
        "JWK": json.dumps(public("rsa", ours["rsa"])).encode(),
        "modulus": public("rsa", ours["rsa"])["n"].encode(),
    }
    for algorithm in HASHES:
        for kid in ["rsa", "secret"]:
            bad |= {
                f"{algorithm}, by the RSA key's {what} as a secret called {kid}":
                    signed(algorithm, kid, claims, lambda text: hmac.digest(secret, text, HASHES[algorithm]))
                for what, secret in disguises.items()
            }
    known = [public(kid, key) for kid, key in ours.items() if USES[kid] != UNKNOWN]
    print(json.dumps({"jwks": {"keys": known}, "good": good, "bad": bad}))


if __name__ == "__main__":
    main(*sys.argv[1:])
