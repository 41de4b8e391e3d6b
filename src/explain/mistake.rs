//! The usual mistakes around a signature that does not match, as data: each with a code, the sentence for it, what to do,
//! and how sure an explanation is that names it.

use core::fmt;

/// How sure a cause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// With the mistake undone the signature matches.
    Matches,
    /// It can be seen in the request.
    Seen,
    /// It looks like that, and nothing proves it.
    Looks,
}

impl Certainty {
    /// A word for programs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Matches => "would_match",
            Self::Seen => "seen",
            Self::Looks => "looks_like",
        }
    }
}

impl fmt::Display for Certainty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Matches => "proven: with that corrected the signature matches",
            Self::Seen => "it can be seen in the request",
            Self::Looks => "by its looks; not proven",
        })
    }
}

macro_rules! mistakes {
    ($($variant:ident = $code:literal $certainty:ident, $cause:literal, $remedy:literal;)+) => {
        /// A mistake that explains why a delivery was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Mistake { $(#[doc = $cause] $variant,)+ }

        impl Mistake {
            /// Every one, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code: bounded and stable, for logs and programs.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The sentence for it; `{}` stands for what is particular to one case.
            #[must_use]
            pub const fn cause(self) -> &'static str {
                match self { $(Self::$variant => $cause,)+ }
            }

            /// What to do about it.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)+ }
            }

            /// How sure it is where it is named.
            #[must_use]
            pub const fn certainty(self) -> Certainty {
                match self { $(Self::$variant => Certainty::$certainty,)+ }
            }
        }
    };
}

mistakes! {
    SecretSpace = "secret_space" Matches, "the secret {} has white space around it",
        "write the secret without it: printf %s \"$SECRET\" > FILE";
    SecretNewline = "secret_newline" Matches, "the sender signs with the secret {} and {} at its end",
        "set the secret at the sender once more, without what follows it";
    SecretQuotes = "secret_quotes" Matches, "the secret {} stands in quotes", "remove the quotes from the file";
    SecretPunctuation = "secret_punctuation" Matches, "the secret {} has punctuation around it",
        "write the secret alone into the file";
    SecretAssignment = "secret_assignment" Matches, "the secret {} is a line NAME=value",
        "write the value alone into the file";
    SecretWrapped = "secret_wrapped" Matches, "the file of the secret {} wraps the value as {}",
        "write the value alone into the file: printf %s \"$SECRET\" > FILE";
    SecretWrappedLooks = "secret_wrapped_looks" Looks, "the file of the secret {} looks like {}, and the value inside does not match either",
        "write the value alone into the file, and compare it with the sender's: printf %s \"$SECRET\" > FILE";
    SecretByteOrderMark = "secret_byte_order_mark" Matches, "the secret {} begins with a byte order mark",
        "save the file as UTF-8 without a byte order mark";
    SecretUtf16 = "secret_utf16" Matches, "the secret {} is written in UTF-16", "save the file as UTF-8";
    SecretJson = "secret_json" Matches, "the secret {} is a JSON document with the secret in `{}`",
        "write the value alone into the file";
    SecretLines = "secret_lines" Matches, "the file of the secret {} has several lines, and line {} is the secret",
        "give each secret a file of its own";
    SecretBase64 = "secret_base64" Matches, "the secret {} is the base64 of the secret",
        "decode it once: base64 -d; manifests of Kubernetes have it encoded";
    SecretHex = "secret_hex" Matches, "the secret {} is the secret in hexadecimal digits", "write the secret as the sender shows it";
    SecretPercent = "secret_percent" Matches, "the secret {} is percent-encoded", "write the secret as the sender shows it";
    SecretPrefix = "secret_prefix" Matches, "the secret {} {}", "write the secret as the sender shows it, byte for byte";
    SecretCase = "secret_case" Matches, "the secret {} has its letters in another case", "copy the secret once more";
    SecretEncoding = "secret_encoding" Matches, "the signature is made with another key of the secret {}: {}",
        "write the secret into the file as the sender shows it; if it is: let `secret` of the scheme say how the key is written ([scheme.NAME]: encoding, strip_prefix), or correct the sender";
    SecretUnset = "secret_unset" Matches, "the sender signs with the word `{}`: its secret is not set",
        "set the secret at the sender: a variable of its environment is missing";
    SecretEmptyThere = "secret_empty_there" Matches, "the sender signs with an empty secret",
        "set the secret at the sender: a variable or a field there is empty, and every attacker can make such a signature";
    SecretOfRoute = "secret_of_route" Matches, "it is signed with {}",
        "exchange the secrets of the two routes, or call the other one";
    SecretApiKey = "secret_api_key" Looks, "the secret {} looks like {}, which signs no webhooks",
        "use the signing secret of the webhook, and rotate that API key if others could read it";
    SecretOther = "secret_other" Looks, "the secret {} looks like {}, and not like the signing secret of a webhook",
        "write the signing secret that the sender shows for this webhook into the file";
    SecretMasked = "secret_masked" Looks, "the secret {} looks masked or cut off",
        "copy the whole secret: let the sender reveal it, or make a new one";
    SecretPlaceholder = "secret_placeholder" Looks, "the secret {} looks like a placeholder",
        "write the secret itself into the file: no variable is filled in";
    SecretEmpty = "secret_empty" Seen, "the secret is empty: {} {}",
        "write the secret that the sender shows into that file: printf %s \"$SECRET\" > FILE; is the variable set that it was made of?";
    SecretUnusable = "secret_unusable" Seen, "the secret {} is no secret of this scheme: {}",
        "write the secret as the sender shows it, byte for byte";
    KeyInactive = "key_inactive" Matches, "it is signed with the key {}, which does not count now",
        "let the key count (not_before, not_after), or let the sender sign with one that does";

    BodyLineEnd = "body_line_end" Matches, "the body {}",
        "pass the body on byte for byte: editors and `echo` add a newline, `--data` of curl removes newlines";
    BodyLeftOut = "body_left_out" Matches, "Content-Length says {}, and the signature is over {}",
        "the capture, or what is in front, has another Content-Length than the sender: look what has changed the body or the header";
    BodyExtra = "body_extra" Matches, "the body has {} more than Content-Length says, and they were not signed",
        "give the body as it came: what is behind its length is of another request, or an editor has added it";
    BodySpace = "body_space" Matches, "the body has white space around it", "pass the body on byte for byte";
    BodyLineEnds = "body_line_ends" Matches, "the body has {} line breaks where {} was signed",
        "pass the body on byte for byte; editors, `git` and transfers as text change line breaks";
    BodyByteOrderMark = "body_byte_order_mark" Matches, "the body begins with a byte order mark",
        "pass the body on byte for byte; an editor has saved it";
    BodyBase64 = "body_base64" Matches, "the body is the base64 of what was signed",
        "decode it first: gateways hand it to functions like that (isBase64Encoded)";
    BodyNumbers = "body_numbers" Matches, "the body is {}, and not the bytes that were signed",
        "pass on the bytes themselves, and not JSON.stringify of them";
    BodyHex = "body_hex" Matches, "the body is what was signed, in hexadecimal digits",
        "pass on the bytes themselves: a log or a database writes them so";
    BodyChunkSizes = "body_chunk_sizes" Matches, "the body has the sizes of its chunks in it, which were not signed",
        "let what is in front, or what captured it, take them out: they belong to Transfer-Encoding: chunked";
    BodyEntities = "body_entities" Matches, "the body has HTML escapes (`&quot;`, `&amp;`) where the characters were signed",
        "pass the body on byte for byte; a template or a filter against scripts has escaped it";
    BodyEnvelope = "body_envelope" Matches, "what was signed stands in the field `{}` of the body",
        "pass on that field alone: the rest is the event of a gateway or a queue";
    BodyString = "body_string" Matches, "the body is escaped like a string of JSON or JavaScript",
        "pass the body on byte for byte; it was encoded twice: JSON.stringify of a string";
    BodyFormUnwrapped = "body_form_unwrapped" Matches, "the body was the form field `{}` when it was signed",
        "verify before the form is read, or let the sender send application/json";
    BodyFormField = "body_form_field" Matches, "what was signed stands in the form field `{}` of the body",
        "let the sender send application/json, or use a scheme that signs the field: content = \"{form:NAME}\"";
    BodyFormOrder = "body_form_order" Matches, "the body has its form fields in another order",
        "pass the body on byte for byte; something reads the form and writes it again";
    BodyFormEmpty = "body_form_empty" Matches, "the body lacks the empty form field `{}`, which was signed",
        "pass the body on byte for byte; something reads the form and drops fields without a value";
    BodyFormJson = "body_form_json" Matches, "the body is JSON of the form that was signed",
        "pass the body on byte for byte; a framework has read the form and written it as JSON";
    BodyFormEscapes = "body_form_escapes" Matches, "the body {}",
        "pass the body on byte for byte; something reads the form and writes it again";
    BodyCharset = "body_charset" Matches, "the body {}", "pass the body on as bytes; something reads it as text";
    BodyCompressed = "body_compressed" Matches, "the body is compressed with {}, and was signed before that",
        "let the sender not compress, or decompress in front of the verification";
    BodyPython = "body_python" Matches, "the body is Python's own notation of what was signed",
        "send the raw body (request.data, request.get_data()), not str() of it";

    JsonLayout = "json_layout" Matches, "the body was written again: it {}",
        "something in front parsed the JSON and wrote it again (JSON.stringify(req.body), json.dumps, express.json()): pass on the raw bytes";
    JsonEscapes = "json_escapes" Matches, "the body was written again: it {}",
        "verify the raw body: json.dumps, JSON.stringify(req.body), PHP, Go, Gson or .NET in between write escapes in another way";
    JsonKeys = "json_keys" Matches, "the body was written again: its JSON keys were in the order {} when it was signed",
        "verify the raw body: a JSON library in between does not keep the order of keys";
    JsonNumbers = "json_numbers" Matches, "the body was written again: {}",
        "verify the raw body: a JSON library in between reads numbers as floats";

    UrlScheme = "url_scheme" Matches, "the sender signs {}: the scheme differs from public_url",
        "set public_url of the route to this URL";
    UrlPort = "url_port" Matches, "the sender signs {}: the port differs from public_url",
        "set public_url of the route to this URL";
    UrlHost = "url_host" Matches, "the sender signs {}: the host differs from public_url",
        "set public_url of the route to this URL";
    UrlSlash = "url_slash" Matches, "the sender signs {}: the slash at the end differs from public_url",
        "set public_url of the route to this URL";
    UrlPath = "url_path" Matches, "the sender signs {}: the path differs from public_url",
        "set public_url of the route to this URL; a proxy in front rewrites paths";
    QueryExtra = "query_extra" Matches, "the query of the URL was not signed",
        "register the URL with its query at the sender, or let nothing on the way add one";
    QueryMissing = "query_missing" Matches, "the query `{}` was signed and has been lost",
        "let what is in front pass on the query as it came";
    QueryOther = "query_other" Matches, "the query `{}` was signed, and not `{}`",
        "let what is in front pass on the query as it came";
    QueryOrder = "query_order" Matches, "the query was in another order when it was signed: `{}`",
        "let what is in front pass on the query as it came";
    UrlEscapes = "url_escapes" Matches, "the URL had other escapes when it was signed: {}",
        "let what is in front pass on path and query as they came";
    MethodRedirected = "method_redirected" Looks, "the request is a GET without a body: a redirect (301, 302, 303) makes that of a POST, and so does opening the URL in a browser",
        "register the final URL at the sender (https, host and slash as the server has them), or redirect with 307 or 308, which keep the method and the body";
    Method = "method" Matches, "the sender signs the method {}",
        "let what is in front pass on the method as it came, or correct the sender";

    ContentBodyAlone = "content_body_alone" Matches, "the body alone was signed, and not `{}`",
        "correct the sender, or give the route a scheme with content = \"{body}\"";
    ContentSeparator = "content_separator" Matches, "`{}` was signed: the parts are right, what separates them is not",
        "correct the sender: the scheme says what stands between the parts";
    ContentOrder = "content_order" Matches, "`{}` was signed: the parts are in another order",
        "correct the sender: the scheme says the order of the parts";
    ContentPartMissing = "content_part_missing" Matches, "`{}` was signed: a part is left out",
        "correct the sender: the scheme says which parts are signed";
    ContentDigest = "content_digest" Matches, "the SHA-256 of the body was signed, and not the body",
        "correct the sender, or give the route a scheme with content = \"{sha256:body}\"";
    ContentSwapped = "content_swapped" Matches, "the arguments of HMAC are exchanged: the secret was signed with the content as key",
        "correct the sender: hmac(key = secret, message = content)";
    ContentPlainHash = "content_plain_hash" Matches, "the signature is a plain hash of {}, and no HMAC",
        "correct the sender: use HMAC; a plain hash with a secret can be extended, one without proves nothing";
    Algorithm = "algorithm" Matches, "the signature is made with {}, and not with {}",
        "set the algorithm at the sender, or choose the scheme with its algorithm";

    HeaderPrefixTwice = "header_prefix_twice" Matches, "the signature has its prefix twice", "correct the sender: the library already writes the prefix";
    HeaderPrefix = "header_prefix" Matches, "the signature {}", "correct the sender, or the `signature` of the scheme";
    HeaderJoined = "header_joined" Matches, "the header has several values joined by commas",
        "let what is in front not join headers, and the sender not send the header twice";
    HeaderQuotes = "header_quotes" Matches, "the value of the header stands in quotes", "correct the sender: the value has no quotes";
    HeaderSplit = "header_split" Matches, "the header `{}` was split into several of that name",
        "let what is in front pass on headers as they came, in one line";
    HeaderSeparator = "header_separator" Matches, "the pairs in the header are separated by `{}`, and not by `{}`",
        "correct the sender, or the `signature` of the scheme";
    HeaderKeys = "header_keys" Matches, "the keys in the header are in capitals",
        "let the sender, or what is in front, write the header as the scheme has it: keys in small letters";
    HeaderBase64 = "header_base64" Matches, "the value of the header is the base64 of what it should be",
        "correct the sender: the value is written as it is";
    HeaderRenamed = "header_renamed" Matches, "the header `{}` was renamed to `{}`",
        "let what is in front pass on headers as they came (nginx: underscores_in_headers; CGI writes HTTP_…)";
    HeaderEncoding = "header_encoding" Matches, "the signature is written in {}, and not in {}",
        "correct the sender, or `encoding` of the scheme";
    HeaderBase64OfHex = "header_base64_of_hex" Matches, "the signature is the base64 of its hexadecimal digits",
        "correct the sender: digest() and not hexdigest() in front of base64";
    HeaderPercent = "header_percent" Matches, "the signature is percent-encoded", "correct the sender: header values are not percent-encoded";
    HeaderLegacy = "header_legacy" Matches, "the request has the older header `{}` (SHA-1), and not `{}`",
        "the sender signs, and with the right secret: look which proxy on the way removes the newer header; a sender that sends only the older one needs an update";
    HeaderDamaged = "header_damaged" Matches, "the header `{}` does not have the signature that was sent: body and secret are right, as the one in `{}` (scheme {}) matches",
        "look what changes the header on the way, or masks it in the capture; the other header is no replacement: do not change the scheme for it";
    HeaderTwice = "header_twice" Seen, "{} stands more than once", "let the sender, or what is in front, send it once";
    HeaderEmpty = "header_empty" Seen, "{} is empty", "set the secret at the sender";
    HeaderMissing = "header_missing" Seen, "{} is not there{}",
        "set the secret at the sender; if it is set: is the scheme the sender's, and does a proxy remove headers?";
    HeaderForm = "header_form" Seen, "the signature {}", "does the scheme describe how this sender writes its signature? `countersign schemes NAME` shows it";
    HeaderLength = "header_length" Seen, "the signature has {}", "is it cut off? Does the algorithm of the scheme fit the sender?";
    HeaderRequired = "header_required" Seen, "the header `{}` is not `{}`, as the scheme requires",
        "is the scheme the sender's, and does a proxy change headers?";

    TimeStale = "time_stale" Matches, "the delivery is {} old, and {} are allowed",
        "an old delivery sent again: let the sender send a new one; a new one: compare the clocks of both machines";
    TimeFuture = "time_future" Matches, "the delivery is {} in the future, and {} are allowed",
        "compare the clocks of both machines";
    TimeUnit = "time_unit" Matches, "the timestamp is in {}, and not in {}: {}", "correct the sender, or `unit` of the timestamp of the scheme";
    TimeUnitLooks = "time_unit_looks" Looks, "the timestamp looks like {}, and the scheme wants {}: {}", "correct the sender, or `unit` of the timestamp of the scheme; is the scheme the sender's?";
    TimeOfAnother = "time_of_another" Matches, "the timestamp is not the one that was signed: that was {} {}",
        "let the sender take the time once, for the signature and for the header";
    TimeMissing = "time_missing" Seen, "the timestamp ({}) is not there", "is the scheme the sender's, and does a proxy remove headers?";
    TimeForm = "time_form" Seen, "the timestamp ({}) {}", "does the scheme say in which unit this sender writes the time? Is the clock of the sender set?";
    IdMissing = "id_missing" Seen, "the delivery id ({}) is not there", "is the scheme the sender's, and does a proxy remove headers?";
    IdForm = "id_form" Seen, "the delivery id ({}) {}", "let the sender use other ids, or another separator in `content` of the scheme";

    ContentPart = "content_part" Seen, "{} {}", "pass the request on byte for byte";
    ContentDigestOther = "content_digest_other" Matches, "the body is not the one whose SHA-256 the query parameter `{}` has",
        "pass the body on byte for byte: the signature of the URL holds, and the body was changed or exchanged";
    ContentCoding = "content_coding" Seen, "the body cannot be decompressed: {}",
        "let nothing on the way compress, decompress or cut the body; gzip and deflate are read, once and to their end";

    SchemeOther = "scheme_other" Matches, "it matches the scheme {}", "give the route that scheme";
    CredentialElsewhere = "credential_elsewhere" Matches, "the right token stands in the header `{}`{}, and not in `{}`",
        "let the sender send it in the header that the scheme reads, or give the route a scheme that reads that one";
    CredentialForm = "credential_form" Matches, "the token is right, but {}",
        "correct the sender, or the prefix of the scheme";
    CredentialWrong = "credential_wrong" Seen, "the credential is none of the keys", "compare it with the one that is set at the sender";

    BodyEmpty = "body_empty" Looks, "the body is {}", "it was lost on the way, or was read before: pass on the raw body";
    BodyShort = "body_short" Looks, "the body {}",
        "look for a limit on bodies in what is in front, or in what captured it; something that changes bodies has to change Content-Length";
    BodyChunks = "body_chunks" Looks, "the chunked body {}",
        "look for a limit, or a timeout, in what is in front, or in what captured it";
    BodyLength = "body_length" Looks, "Content-Length says {}, and {} more follow in the capture",
        "the request was judged by its Content-Length: look what has changed the body or the header";
    BodyBytes = "body_bytes" Looks, "the body is no UTF-8: {}",
        "compare the body with what the sender sent: bytes of it were changed, or something reads it in another character set";
    BodyBroken = "body_broken" Looks, "the body is no JSON: {}",
        "compare the body with what the sender sent: bytes of it were changed on the way, or in the capture";
    BodyCut = "body_cut" Looks, "the body ends in the middle of {}{}", "look for a limit on bodies in what is in front, or in what captured it";
    BodyObject = "body_object" Looks, "the body is `[object Object]`: an object was made a string", "pass on the raw body, and not String(req.body)";
    BodyClassName = "body_class_name" Looks, "the body is `{}`: the name of an object, and not what is in it",
        "pass on the raw body, and not a value that was made a string";
    BodyPythonLooks = "body_python" Looks, "the body looks like Python's own notation", "send the raw body (request.data, request.get_data()), not str() of it";
    BodyReplacement = "body_replacement" Looks, "the body has U+FFFD, which stands where bytes could not be read as text",
        "pass the body on as bytes; something reads it in another character set";
    BodyDecompressed = "body_decompressed" Looks, "Content-Encoding says {}, but the body is not compressed",
        "what was signed is the compressed body: let nothing in front decompress it";
    JsonRewritten = "json_rewritten" Looks, "the body looks written again: {}",
        "verify the raw body, if something in between reads and writes it; a sender that itself writes keys so is no cause";
    JsonRounded = "json_rounded" Looks, "the number {} looks rounded to the 53 bits of a float",
        "verify the raw body: something in between reads numbers as floats";
}
