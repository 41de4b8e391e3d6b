"""Signs and verifies webhooks with the providers' own Python SDKs.

One JSON request a line on standard input, one JSON answer a line on standard output:

    {"mode": "list"}
        -> {"sign": {scheme: signer}, "verify": {scheme: signer}, "missing": [package, ...]}
    {"mode": "sign", scheme, secret, method, url, content_type, body_base64, now, id}
        -> {"headers": {name: value}, "url": the URL if the signature changes it, "signer": "stripe 1.2.3 (python)"}
    {"mode": "verify", ... and headers: {name: value}, public_key}
        -> {"accepted": bool, "why": text, "signer": "..."}

A scheme that no installed SDK covers is answered {"unsupported": true}. `now` is in seconds since 1970. Nothing here
computes a signature: every value comes out of a function of an SDK.
"""

import base64
import datetime
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
        return {"headers": headers, "url": request.url, "signer": signer}
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
