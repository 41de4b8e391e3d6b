"""Signs and verifies webhooks with the providers' own Python SDKs.

One JSON request a line on standard input, one JSON answer a line on standard output:

    {"mode": "list"}
        -> {"sign": {scheme: signer}, "verify": {scheme: signer}, "missing": [package, ...]}
    {"mode": "sign", scheme, secret, method, url, content_type, body_base64, now, id}
        -> {"headers": {name: value}, "url": the URL if the signature changes it, "signer": "stripe 1.2.3 (python)",
            "body_base64": the body, if the signature changes it}
    {"mode": "verify", ... and headers: {name: value}, public_key}
        -> {"accepted": bool, "why": text, "signer": "..."}

A scheme that no installed SDK covers is answered {"unsupported": true}. `now` is in seconds since 1970. Nothing here
computes a signature: every value comes out of a function of an SDK.
"""

import base64
import datetime
import email
import email.policy
import importlib
import importlib.metadata
import json
import sys
import types
import urllib.parse

SIGNERS = {}
VERIFIERS = {}


def covered(table, schemes, package, module):
    """Registers a function for `schemes`: it is called with the SDK's module and the request."""

    def register(function):
        for scheme in schemes.split():
            table[scheme] = (package, module, function)
        return function

    return register


def signs(schemes, package, module):
    return covered(SIGNERS, schemes, package, module)


def verifies(schemes, package, module):
    return covered(VERIFIERS, schemes, package, module)


# --- signers -------------------------------------------------------------------------------------------------------


@signs("stripe", "stripe", "stripe")
def stripe_signs(sdk, request):
    signature = sdk.WebhookSignature.generate_signature_header(request.text, request.secret, request.now)
    return {"Stripe-Signature": signature}


def standard(sdk, request, prefix):
    when = datetime.datetime.fromtimestamp(request.now, tz=datetime.timezone.utc)
    signature = sdk.Webhook(request.secret).sign(request.id, when, request.text)
    names = ("id", "timestamp", "signature")
    return {f"{prefix}-{name}": value for name, value in zip(names, (request.id, str(request.now), signature))}


@signs("standard-webhooks", "standardwebhooks", "standardwebhooks.webhooks")
def standardwebhooks_signs(sdk, request):
    return standard(sdk, request, "webhook")


# Clerk and Resend send through Svix.
@signs("svix clerk resend", "svix", "svix.webhooks")
def svix_signs(sdk, request):
    return standard(sdk, request, "svix")


@signs("slack", "slack_sdk", "slack_sdk.signature")
def slack_signs(sdk, request):
    timestamp = str(request.now)
    signature = sdk.SignatureVerifier(request.secret).generate_signature(timestamp=timestamp, body=request.body)
    return {"X-Slack-Request-Timestamp": timestamp, "X-Slack-Signature": signature}


class Form(dict):
    """What web frameworks give to the Twilio SDK: every value of a name."""

    def getlist(self, name):
        return self[name]


def form(request):
    return Form(urllib.parse.parse_qs(request.text, keep_blank_values=True, strict_parsing=True))


@signs("twilio", "twilio", "twilio.request_validator")
def twilio_signs(sdk, request):
    return {"X-Twilio-Signature": sdk.RequestValidator(request.secret).compute_signature(request.url, form(request))}


@signs("twilio-json", "twilio", "twilio.request_validator")
def twilio_json_signs(sdk, request):
    validator = sdk.RequestValidator(request.secret)
    request.url += f"&bodySHA256={validator.compute_hash(request.text)}"
    return {"X-Twilio-Signature": validator.compute_signature(request.url, {})}


@signs("adyen-platform", "Adyen", "Adyen.util")
def adyen_signs(sdk, request):
    signature = sdk.generate_payload_sig(request.body, request.secret).decode()
    return {"HmacSignature": signature, "Protocol": "HmacSHA256"}


def hubspot(sdk, request, version, timestamp=None):
    return sdk.Signature.get_signature(request.secret, request.text, version, request.url, request.method, timestamp)


@signs("hubspot-v1", "hubspot-api-client", "hubspot.utils.signature")
def hubspot_v1_signs(sdk, request):
    return {"X-HubSpot-Signature-Version": "v1", "X-HubSpot-Signature": hubspot(sdk, request, "v1")}


@signs("hubspot-v2", "hubspot-api-client", "hubspot.utils.signature")
def hubspot_v2_signs(sdk, request):
    return {"X-HubSpot-Signature-Version": "v2", "X-HubSpot-Signature": hubspot(sdk, request, "v2")}


@signs("hubspot-v3", "hubspot-api-client", "hubspot.utils.signature")
def hubspot_v3_signs(sdk, request):
    timestamp = str(request.now * 1000)
    signature = hubspot(sdk, request, "v3", timestamp)
    return {"X-HubSpot-Request-Timestamp": timestamp, "X-HubSpot-Signature-v3": signature}


# --- verifiers: they return False or raise to refuse ----------------------------------------------------------------


@verifies("stripe", "stripe", "stripe")
def stripe_verifies(sdk, request):
    return sdk.WebhookSignature.verify_header(request.body, request.header("Stripe-Signature"), request.secret, 300)


@verifies("standard-webhooks", "standardwebhooks", "standardwebhooks.webhooks")
def standardwebhooks_verifies(sdk, request):
    sdk.Webhook(request.secret).verify(request.body, request.headers)
    return True


@verifies("svix clerk resend", "svix", "svix.webhooks")
def svix_verifies(sdk, request):
    sdk.Webhook(request.secret).verify(request.body, request.headers)
    return True


@verifies("slack", "slack_sdk", "slack_sdk.signature")
def slack_verifies(sdk, request):
    return sdk.SignatureVerifier(request.secret).is_valid_request(request.body, request.headers)


@verifies("twilio", "twilio", "twilio.request_validator")
def twilio_verifies(sdk, request):
    signature = request.header("X-Twilio-Signature")
    return sdk.RequestValidator(request.secret).validate(request.url, form(request), signature)


@verifies("twilio-json", "twilio", "twilio.request_validator")
def twilio_json_verifies(sdk, request):
    signature = request.header("X-Twilio-Signature")
    return sdk.RequestValidator(request.secret).validate(request.url, request.text, signature)


@verifies("line", "line-bot-sdk", "linebot.v3")
def line_verifies(sdk, request):
    return sdk.WebhookParser(request.secret).signature_validator.validate(
        request.text, request.header("X-Line-Signature")
    )


@verifies("square", "squareup", "square.utils.webhooks_helper")
def square_verifies(sdk, request):
    return sdk.verify_signature(
        request_body=request.text,
        signature_header=request.header("x-square-hmacsha256-signature"),
        signature_key=request.secret,
        notification_url=request.url,
    )


@verifies("workos", "workos", "workos")
def workos_verifies(sdk, request):
    webhooks = sdk.WorkOSClient(api_key="none", client_id="none").webhooks
    webhooks.verify_header(
        event_body=request.body, event_signature=request.header("WorkOS-Signature"), secret=request.secret
    )
    return True


@verifies("razorpay", "razorpay", "razorpay")
def razorpay_verifies(sdk, request):
    utility = sdk.Client(auth=("key", "secret")).utility
    return utility.verify_webhook_signature(request.text, request.header("X-Razorpay-Signature"), request.secret)


@verifies("pusher", "pusher", "pusher")
def pusher_verifies(sdk, request):
    client = sdk.Pusher(app_id="1", key="key", secret=request.secret)
    return client.validate_webhook("key", request.header("X-Pusher-Signature"), request.text) is not None


@verifies("cloudinary", "cloudinary", "cloudinary.utils")
def cloudinary_verifies(sdk, request, algorithm="sha1"):
    sdk.cloudinary.config(api_secret=request.secret)
    timestamp, signature = request.header("X-Cld-Timestamp"), request.header("X-Cld-Signature")
    return sdk.verify_notification_signature(request.text, int(timestamp), signature, algorithm=algorithm)


@verifies("cloudinary-sha256", "cloudinary", "cloudinary.utils")
def cloudinary_sha256_verifies(sdk, request):
    return cloudinary_verifies(sdk, request, "sha256")


@verifies("gocardless", "gocardless_pro", "gocardless_pro.webhooks")
def gocardless_verifies(sdk, request):
    sdk.parse(request.text, request.secret, request.header("Webhook-Signature"))
    return True


@verifies("openai", "openai", "openai")
def openai_verifies(sdk, request):
    client = sdk.OpenAI(api_key="none", webhook_secret=request.secret)
    client.webhooks.verify_signature(request.body, request.headers)
    return True


@verifies("box", "box-sdk-gen", "box_sdk_gen.managers.webhooks")
def box_verifies(sdk, request):
    return sdk.WebhooksManager.validate_message(request.text, request.headers, request.secret)


@verifies("paddle", "paddle-python-sdk", "paddle_billing.Notifications")
def paddle_verifies(sdk, request):
    headers = {"Paddle-Signature": request.header("Paddle-Signature")}
    received = types.SimpleNamespace(headers=headers, body=request.body)
    return sdk.Verifier().verify(received, sdk.Secret(request.secret))


@verifies("sendgrid", "sendgrid", "sendgrid.helpers.eventwebhook")
def sendgrid_verifies(sdk, request):
    name = "X-Twilio-Email-Event-Webhook-"
    signature, timestamp = request.header(name + "Signature"), request.header(name + "Timestamp")
    return sdk.EventWebhook(request.public_key).verify_signature(request.text, signature, timestamp)


@verifies("adyen-platform", "Adyen", "Adyen.util")
def adyen_verifies(sdk, request):
    return sdk.is_valid_hmac_payload(request.header("HmacSignature"), request.secret, request.body)


def hubspot_verifies(sdk, request, version, name, timestamp=None):
    return sdk.Signature.is_valid(
        request.header(name), request.secret, request.text, request.url, request.method, version, timestamp
    )


@verifies("hubspot-v1", "hubspot-api-client", "hubspot.utils.signature")
def hubspot_v1_verifies(sdk, request):
    return hubspot_verifies(sdk, request, "v1", "X-HubSpot-Signature")


@verifies("hubspot-v2", "hubspot-api-client", "hubspot.utils.signature")
def hubspot_v2_verifies(sdk, request):
    return hubspot_verifies(sdk, request, "v2", "X-HubSpot-Signature")


@verifies("hubspot-v3", "hubspot-api-client", "hubspot.utils.signature")
def hubspot_v3_verifies(sdk, request):
    timestamp = request.header("X-HubSpot-Request-Timestamp")
    return hubspot_verifies(sdk, request, "v3", "X-HubSpot-Signature-v3", timestamp)


@verifies("onfido", "onfido-python", "onfido.webhook_event_verifier")
def onfido_verifies(sdk, request):
    sdk.WebhookEventVerifier(request.secret).read_payload(request.text, request.header("X-SHA2-Signature"))
    return True


@verifies("telnyx", "telnyx", "telnyx")
def telnyx_verifies(sdk, request):
    key = base64.b64encode(bytes.fromhex(request.public_key)).decode()
    sdk.Telnyx(api_key="none").webhooks.unwrap(request.text, headers=request.headers, key=key)
    return True


@verifies("cashfree", "cashfree_pg", "cashfree_pg.api_client")
def cashfree_verifies(sdk, request):
    client = sdk.Cashfree.__new__(sdk.Cashfree)
    client.XClientSecret = request.secret
    signature, timestamp = request.header("x-webhook-signature"), request.header("x-webhook-timestamp")
    try:
        client.PGVerifyWebhookSignature(signature, request.text, timestamp)
    except KeyError:
        pass  # The signature holds: the SDK looks for the type of the event after that.
    return True


@signs("modern-treasury", "modern-treasury", "modern_treasury")
def modern_treasury_signs(sdk, request):
    client = sdk.ModernTreasury(api_key="none", organization_id="none")
    return {"X-Signature": client.webhooks.get_signature(request.text, key=request.secret)}


@verifies("modern-treasury", "modern-treasury", "modern_treasury")
def modern_treasury_verifies(sdk, request):
    client = sdk.ModernTreasury(api_key="none", organization_id="none")
    return client.webhooks.validate_signature(request.text, request.headers, key=request.secret)


@verifies("finch", "finch-api", "finch")
def finch_verifies(sdk, request):
    sdk.Finch(access_token="none").webhooks.verify_signature(request.text, request.headers, secret=request.secret)
    return True


@verifies("orb", "orb-billing", "orb")
def orb_verifies(sdk, request):
    sdk.Orb(api_key="none").webhooks.verify_signature(request.text, request.headers, secret=request.secret)
    return True


@verifies("easypost", "easypost", "easypost.util")
def easypost_verifies(sdk, request):
    headers = {"X-Hmac-Signature": request.header("X-Hmac-Signature")}
    return sdk.validate_webhook(request.body, headers, request.secret) is not None


@verifies("castle", "castle", "castle.webhooks.verify")
def castle_verifies(sdk, request):
    headers = {"X-Castle-Signature": request.header("X-Castle-Signature")}
    received = types.SimpleNamespace(headers=headers, data=request.body)
    sdk.WebhooksVerify.call(received, types.SimpleNamespace(api_secret=request.secret))
    return True


signs("convoy", "convoy-python", "convoy.utils.webhook")(
    lambda sdk, request: {"X-Convoy-Signature": sdk.Webhook(request.secret).create_signature(request.text)}
)


@verifies("convoy", "convoy-python", "convoy.utils.webhook")
def convoy_verifies(sdk, request):
    return sdk.Webhook(request.secret).verify_signature(request.text, request.header("X-Convoy-Signature")) is True


verifies("filestack", "filestack-python", "filestack.helpers")(
    lambda sdk, request: sdk.verify_webhook_signature(request.secret, request.body, request.headers)[0]
)
SINCH = "sinch.domains.authentication.sinch_events.v1.authentication_validation"


signs("sinch-numbers", "sinch", SINCH)(
    lambda sdk, request: {"X-Sinch-Signature": sdk.compute_hmac_signature(request.text, request.secret)}
)
verifies("sinch-numbers", "sinch", SINCH)(
    lambda sdk, request: sdk.validate_signature_header(request.secret, request.headers, request.text)
)


@signs("sinch", "sinch", SINCH)
def sinch_signs(sdk, request):
    name, nonce, now = "x-sinch-webhook-signature", "01JBRTVJYEJ3N3", str(request.now)
    signed = sdk.compute_signed_data(request.text, nonce, now)
    signature = sdk.calculate_sinch_event_signature(signed, request.secret)
    return {name: signature, f"{name}-nonce": nonce, f"{name}-timestamp": now}


verifies("whop", "whop-sdk", "whop_sdk.lib.verify_webhook")(
    lambda sdk, request: sdk.unwrap(request.text, headers=request.headers, key=request.secret) is not None
)
@signs("plivo", "plivo", "plivo.utils.signature_v3")
def plivo_signs(sdk, request):
    nonce = "05429567804466091622"
    signed = sdk.construct_post_url(request.url, form(request)).decode()
    signature = sdk.get_signature_v3(request.secret.encode(), signed, nonce).decode()
    return {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": nonce}


@verifies("portone", "portone-server-sdk", "portone_server_sdk.webhook")
def portone_verifies(sdk, request):
    sdk.verify(request.secret, request.text, request.headers)
    return True


@signs("braintree", "braintree", "braintree")
def braintree_signs(sdk, request):
    environment = sdk.Environment.Sandbox
    gateway = sdk.BraintreeGateway(sdk.Configuration(environment, "merchant", "public", request.secret))
    kind = sdk.WebhookNotification.Kind.SubscriptionWentPastDue
    fields = gateway.webhook_testing.sample_notification(kind, request.id)
    request.body = urllib.parse.urlencode(fields).encode()
    return {}


verifies("adyen", "Adyen", "Adyen.util")(
    lambda sdk, request: sdk.is_valid_hmac_notification(json.loads(request.text), request.secret)
)


def multipart(request):
    """The fields of a multipart form, as the standard library reads them."""
    head = b"Content-Type: " + request.header("Content-Type").encode() + b"\r\n\r\n"
    parts = email.message_from_bytes(head + request.body, policy=email.policy.HTTP).iter_parts()
    return {part.get_param("name", header="content-disposition"): part.get_content().rstrip("\n") for part in parts}


@verifies("dropbox-sign", "dropbox-sign", "dropbox_sign")
def dropbox_sign_verifies(sdk, request):
    event = types.SimpleNamespace(**json.loads(multipart(request)["json"])["event"])
    return sdk.EventCallbackHelper.is_valid(request.secret, types.SimpleNamespace(event=event))


@verifies("mailgun mailgun-routes", "mailgun", "mailgun.security")
def mailgun_verifies(sdk, request):
    fields = dict(urllib.parse.parse_qsl(request.text)) or json.loads(request.text)["signature"]
    values = (fields[name] for name in ("token", "timestamp", "signature"))
    return sdk.SecurityGuard.verify_webhook(request.secret, *values)


# --- the conversation ----------------------------------------------------------------------------------------------


class Request:
    """One request, with the names that the functions above use."""

    def __init__(self, fields):
        self.scheme = fields["scheme"]
        self.secret = fields.get("secret", "")
        self.public_key = fields.get("public_key", "")
        self.method = fields["method"]
        self.url = fields["url"]
        self.body = base64.b64decode(fields["body_base64"])
        self.now = fields.get("now")
        self.id = fields.get("id")
        self.headers = {name.lower(): value for name, value in fields.get("headers", {}).items()}

    @property
    def text(self):
        return self.body.decode("utf-8")

    def header(self, name):
        return self.headers.get(name.lower(), "")


def load(package, module):
    return importlib.import_module(module), f"{package} {importlib.metadata.version(package)} (python)"


def listed():
    """Loads every SDK, so that none is slow later, and says what there is."""
    answer = {"sign": {}, "verify": {}, "missing": set()}
    for mode, table in (("sign", SIGNERS), ("verify", VERIFIERS)):
        for scheme, (package, module, _) in table.items():
            try:
                answer[mode][scheme] = load(package, module)[1]
            except ImportError:
                answer["missing"].add(package)
    answer["missing"] = sorted(answer["missing"])
    return answer


def answered(fields):
    mode = fields["mode"]
    if mode == "list":
        return listed()
    package, module, function = {"sign": SIGNERS, "verify": VERIFIERS}[mode].get(fields["scheme"], (None, None, None))
    if package is None:
        return {"unsupported": True}
    try:
        sdk, signer = load(package, module)
    except ImportError:
        return {"unsupported": True}
    request = Request(fields)
    if mode == "sign":
        headers = function(sdk, request)
        body = base64.b64encode(request.body).decode()
        return {"headers": headers, "url": request.url, "signer": signer, "body_base64": body}
    # However an SDK says no, by a value or by an exception, it is a no.
    try:
        return {"accepted": bool(function(sdk, request)), "why": "", "signer": signer}
    except Exception as error:  # pylint: disable=broad-except
        return {"accepted": False, "why": f"{type(error).__name__}: {error}", "signer": signer}


def main():
    # What an SDK prints must not get between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        print(json.dumps(answered(json.loads(line))), file=answers, flush=True)


main()
