"""pysaml2 as an identity provider that looks like Shibboleth, or, when a login asks for it, like one that must be refused.

Arguments: PORT FOLDER, which holds idp.json (scopes, people), the pairs first, second, ecdsa and stranger (.crt, .key),
and sp/*.xml, the metadata of every service provider that is registered. All pairs but stranger are published. The login
form has, besides name and password, the shape of the Response that it shall lead to: see SHAPES.
"""

import base64
import html
import json
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import saml2
import saml2.entity
from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT, config, saml, samlp, server, sigver, time_util, xmldsig
from saml2.attribute_converter import AttributeConverter
from saml2.metadata import entity_descriptor

PORT, FOLDER = int(sys.argv[1]), Path(sys.argv[2])
BASE = f"http://127.0.0.1:{PORT}"
SAID = json.loads((FOLDER / "idp.json").read_text())
TARGETED_ID = "urn:oid:1.3.6.1.4.1.5923.1.1.1.10"
URI = "urn:oasis:names:tc:SAML:2.0:attrname-format:uri"

# xmlsec1 signs with them; pysaml2 only does not list them.
saml2.entity.SIG_ALLOWED_ALG += (("SIG_ECDSA_SHA256", xmldsig.SIG_ECDSA_SHA256),)

GCM = "http://www.w3.org/2009/xmlenc11#aes{}-gcm"
CBC = "http://www.w3.org/2001/04/xmlenc#aes{}-cbc"
# What xmlsec1 calls the session keys.
CIPHERS = {
    "aes128-gcm": (GCM.format(128), "aes-128"),
    "aes256-gcm": (GCM.format(256), "aes-256"),
    "aes128-cbc": (CBC.format(128), "aes-128"),
    "3des": (sigver.TRIPLE_DES_CBC, "des-192"),
    "none": None,
}
ALGORITHMS = {
    "rsa": (xmldsig.SIG_RSA_SHA256, xmldsig.DIGEST_SHA256),
    "ecdsa": (xmldsig.SIG_ECDSA_SHA256, xmldsig.DIGEST_SHA256),
    "sha1": (xmldsig.SIG_RSA_SHA1, xmldsig.DIGEST_SHA1),
}
DEFAULT = {"response": True, "assertion": False, "cipher": "aes128-gcm", "key": "first", "algorithm": "rsa"}
SHAPES = {
    "shibboleth": {},
    "aes256_gcm": {"cipher": "aes256-gcm"},
    "cbc": {"cipher": "aes128-cbc"},
    "plain": {"cipher": "none"},
    "both_signed": {"assertion": True},
    "both_signed_plain": {"assertion": True, "cipher": "none"},
    "assertion_signed": {"response": False, "assertion": True},
    "assertion_signed_plain": {"response": False, "assertion": True, "cipher": "none"},
    "assertion_signed_cbc": {"response": False, "assertion": True, "cipher": "aes128-cbc"},
    "targeted_id": {"targeted_id": True},
    "second_key": {"key": "second"},
    "ecdsa": {"key": "ecdsa", "algorithm": "ecdsa"},
    "ecdsa_both_signed": {"key": "ecdsa", "algorithm": "ecdsa", "assertion": True},
    "unsigned": {"response": False},
    "unsigned_plain": {"response": False, "cipher": "none"},
    "sha1": {"algorithm": "sha1"},
    "triple_des": {"cipher": "3des"},
    "stranger_key": {"key": "stranger"},
    "audience": {"audience": True},
    "clock_behind": {"clock": -3600},
    "clock_ahead": {"clock": 3600},
    "denied": {"denied": True},
}


class Shaped(server.Server):
    """One that can be told what pysaml2 itself has no reason to say."""

    audience = None
    targeted_id = None

    def setup_assertion(self, *args, **kwargs):
        assertion = super().setup_assertion(*args, **kwargs)
        if self.audience:
            assertion.conditions.audience_restriction[0].audience[0].text = self.audience
        if self.targeted_id:
            # An element inside the value; no service provider of ours requests it, so pysaml2 would filter it out.
            value = AttributeConverter().to_eptid_value(self.targeted_id)
            attribute = saml.Attribute(name=TARGETED_ID, name_format=URI, attribute_value=value)
            assertion.attribute_statement[0].attribute.append(attribute)
        return assertion


def settings(key):
    return {
        "entityid": f"{BASE}/metadata",
        "service": {
            "idp": {
                "endpoints": {
                    "single_sign_on_service": [
                        (f"{BASE}/sso", BINDING_HTTP_REDIRECT),
                        (f"{BASE}/sso", BINDING_HTTP_POST),
                    ]
                },
                "scope": SAID["scopes"],
                "want_authn_requests_signed": True,
                "policy": {"default": {"lifetime": {"minutes": 5}, "name_form": URI, "attribute_restrictions": None}},
            }
        },
        "key_file": str(FOLDER / f"{key}.key"),
        "cert_file": str(FOLDER / f"{key}.crt"),
        "metadata": {"local": sorted(str(path) for path in FOLDER.glob("sp/*.xml"))},
        "xmlsec_binary": "/usr/bin/xmlsec1",
        "allow_unknown_attributes": True,
    }


def server_of(key):
    """Made for each login: who is registered may have changed since."""
    return Shaped(config=config.IdPConfig().load(settings(key)))


def metadata():
    """The ECDSA key comes first: an RSA signature must still find the right one behind it."""
    ecdsa, *rest = (entity_descriptor(config.IdPConfig().load(settings(key))) for key in ("ecdsa", "first", "second"))
    # An RSA key for encryption would be of use to nobody.
    signing = [key for entity in (ecdsa, *rest) for key in entity.idpsso_descriptor.key_descriptor if key.use == "signing"]
    ecdsa.idpsso_descriptor.key_descriptor = signing
    return str(ecdsa)


@contextmanager
def clock_off_by(seconds):
    """pysaml2 writes times as if its clock were wrong."""

    class Datetime(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=seconds)

    def gmtime(at=None):
        return time.gmtime(time.time() + seconds if at is None else at)

    right = time_util.time, time_util.datetime
    time_util.time, time_util.datetime = SimpleNamespace(**{**vars(time), "gmtime": gmtime}), Datetime
    try:
        yield
    finally:
        time_util.time, time_util.datetime = right


def respond(message, binding, relay_state, signature, login, shape):
    """The page whose form posts the Response."""
    shape = DEFAULT | SHAPES[shape]
    idp = server_of(shape["key"])
    detached = {"relay_state": relay_state, **signature} if binding == BINDING_HTTP_REDIRECT else {}
    request = idp.parse_authn_request(message, binding, **detached)
    reply = idp.response_args(request.message, [BINDING_HTTP_POST])
    sign_alg, digest_alg = ALGORITHMS[shape["algorithm"]]
    algorithms = {"sign_alg": sign_alg, "digest_alg": digest_alg}
    if shape.get("denied"):
        error = (samlp.STATUS_AUTHN_FAILED, "no")
        response = idp.create_error_response(
            reply["in_response_to"], reply["destination"], error, sign=True, **algorithms
        )
        return posting(reply["destination"], response, relay_state)
    person = SAID["people"][login]
    attributes = {
        "mail": person["address"],
        "eduPersonPrincipalName": person["address"],
        "eduPersonScopedAffiliation": person["affiliation"],
        "displayName": login,
    }
    if shape.get("targeted_id"):
        idp.targeted_id = "opaque-2Fz8"
    if shape.get("audience"):
        idp.audience = "https://other.test/saml"
    cipher = CIPHERS[shape["cipher"]]
    if cipher:
        algorithm, key_type = cipher
        saml2.entity.pre_encryption_part = partial(sigver.pre_encryption_part, msg_enc=algorithm)
        idp.sec.encrypt_assertion = partial(idp.sec.crypto.encrypt_assertion, key_type=key_type)
    with clock_off_by(shape.get("clock", 0)):
        response = idp.create_authn_response(
            attributes,
            userid=login,
            authn={"class_ref": saml.AUTHN_PASSWORD_PROTECTED, "authn_auth": BASE},
            sign_response=shape["response"],
            sign_assertion=shape["assertion"],
            encrypt_assertion=cipher is not None,
            **algorithms,
            **reply,
        )
    return posting(reply["destination"], response, relay_state)


def posting(action, response, relay_state):
    encoded = base64.b64encode(str(response).encode()).decode()
    return form(action, {"SAMLResponse": encoded, "RelayState": relay_state})


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/metadata":
            return self.answer(200, metadata(), "application/samlmetadata+xml")
        if url.path == "/sso":
            return self.login_form(BINDING_HTTP_REDIRECT, parse_qs(url.query))
        self.answer(404, "no such page")

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode(), keep_blank_values=True)
        if self.path == "/sso":
            return self.login_form(BINDING_HTTP_POST, form)
        field = {name: values[0] for name, values in form.items()}
        if SAID["people"].get(field["username"], {}).get("password") != field["password"]:
            return self.answer(403, "wrong password")
        signature = {"sigalg": field["SigAlg"], "signature": field["Signature"]} if field["SigAlg"] else {}
        try:
            with LOCK:
                text = respond(
                    field["SAMLRequest"],
                    field["binding"],
                    field["RelayState"],
                    signature,
                    field["username"],
                    field["shape"],
                )
        except Exception as error:
            self.log_error("%s", traceback.format_exc())
            return self.answer(403, f"request refused: {html.escape(repr(error))}")
        self.answer(200, text)

    def login_form(self, binding, given):
        kept = ("SAMLRequest", "RelayState", "SigAlg", "Signature")
        fields = {name: given.get(name, [""])[0] for name in kept} | {"binding": binding}
        self.answer(200, form(f"{BASE}/login", fields, '<input name="username"><input name="password" type="password">'))

    def answer(self, status, text, kind="text/html; charset=utf-8"):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def form(action, fields, more=""):
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{html.escape(value)}">' for name, value in fields.items()
    )
    return f'<!DOCTYPE html><form method="post" action="{html.escape(action)}">{hidden}{more}<button>Go</button></form>'


# One Response at a time: cipher and clock are chosen by names of pysaml2's modules.
LOCK = threading.Lock()
httpd = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
httpd.daemon_threads = True
httpd.serve_forever()
