//! Proves that from the bytes that are signed the parts of the content can be told apart in one way only. Otherwise one
//! signature would vouch for several deliveries: bytes could move from one part to its neighbour.
//!
//! The content is taken apart from both ends. A part comes off
//! - if its length is fixed (literals, decimal timestamps),
//! - if it shows itself where it ends (RFC 3339), or
//! - if what stands next to it has, at a fixed place, a byte that the part never contains (and none before it): then the
//!   first such byte says where the part ends.
//!
//! What is left in the end must be one part at most. What a part never contains follows from what the parser of requests
//! lets through, from how the part is read, and from the guards of the scheme.

use super::bytes::ByteSet;
#[cfg(test)]
use super::guard::Exactly;
use super::guard::{Guards, Without};
use super::scheme::Scheme;
use super::signature::{Encoding, Syntax};
use super::template::Part;
use crate::wire::characters::{may_stand_in_path, may_stand_in_query};

/// Two parts that cannot be told apart, and what a scheme can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ambiguity {
    pub(super) left: Part,
    pub(super) right: Part,
    pub(super) fix: String,
}

/// How far a part reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// It has the same length in every delivery.
    Fixed,
    /// None of its values is the beginning or the end of another one.
    Delimited,
    /// Its neighbours decide.
    Open,
}

/// What is known of the values of a part.
#[derive(Clone, Debug)]
struct Shape<'s> {
    part: &'s Part,
    reach: Reach,
    /// What it never contains, or not behind its `lead`: read from its beginning, the first such byte is not its own.
    excluded: ByteSet,
    /// What it never contains: read from its end.
    excluded_backwards: ByteSet,
    /// What stands at its first places, as far as these are known.
    lead: Vec<ByteSet>,
    /// The same from its last place backwards.
    trail: Vec<ByteSet>,
    /// Whether it can be empty although it has a `lead` or a `trail`.
    optional: bool,
}

/// Why the parts of `scheme.content` cannot be told apart; nothing where they can.
pub(super) fn ambiguity(scheme: &Scheme) -> Option<Ambiguity> {
    let (left, right) = unseparated(scheme)?;
    Some(Ambiguity { left: left.clone(), right: right.clone(), fix: fix(scheme, left, right) })
}

/// The first two parts that are left when no more can be taken off, and whose length is not fixed.
///
/// The secret says where it stands: to move it, an attacker would have to have it, or a good part of it, in what is sent.
/// What stands before it and what stands behind it are told apart each on its own.
fn unseparated(scheme: &Scheme) -> Option<(&Part, &Part)> {
    let shapes: Vec<Shape<'_>> = scheme.content.parts().iter().map(|part| shape(scheme, part)).collect();
    shapes.split(|shape| *shape.part == Part::Secret).find_map(|side| unseparated_among(scheme, side))
}

fn unseparated_among<'s>(scheme: &'s Scheme, shapes: &[Shape<'s>]) -> Option<(&'s Part, &'s Part)> {
    let mut rest = shapes;
    loop {
        rest = match rest {
            [] | [_] => return None,
            // Twilio's own way: whether bytes belong to the URL, to a name or to a value cannot be said, because a text
            // that a stranger writes can be any of them. It is warned about; see `Scheme::warnings`.
            [Shape { part: Part::Url | Part::UrlUnescaped, .. }, Shape { part: Part::SortedFormParams, .. }] => {
                return None;
            }
            [first, after @ ..] if is_counted(scheme, first, after) => after,
            [before @ .., last]
                if comes_off(last, last.excluded_backwards, before.iter().rev(), |shape| &shape.trail) =>
            {
                before
            }
            [first, after @ ..] if comes_off(first, first.excluded, after.iter(), |shape| &shape.lead) => after,
            [first, after @ ..] => {
                let open = after.iter().find(|shape| shape.reach == Reach::Open);
                return open.or(after.last()).map(|second| (first.part, second.part));
            }
        }
    }
}

/// Whether `first` are values of headers whose number is known from the list of names before them: where none of them
/// may contain a dot, the last one ends at the dot of that number.
fn is_counted(scheme: &Scheme, first: &Shape<'_>, after: &[Shape<'_>]) -> bool {
    let Part::NamedHeaders(key) = first.part else { return false };
    let at = |wanted: &Part| scheme.content.parts().iter().position(|part| part == wanted);
    let dot = after.first().and_then(|next| next.lead.first()) == Some(&ByteSet::of(b"."));
    dot && scheme.guards.dotted.is_none() && at(&Part::Field(key.clone())) < at(first.part)
}

/// Whether the end of `shape` is known from what stands next to it, its neighbour first. `near` are the places of a shape
/// in the same direction.
fn comes_off<'s>(
    shape: &Shape<'_>,
    excluded: ByteSet,
    mut neighbours: impl ExactSizeIterator<Item = &'s Shape<'s>>,
    near: impl Fn(&'s Shape<'s>) -> &'s [ByteSet],
) -> bool {
    if shape.reach != Reach::Open {
        return true;
    }
    let mut passed = ByteSet::NONE;
    while let Some(neighbour) = neighbours.next() {
        // An optional part at the edge may be missing: then no byte of the kind follows, and the end is known, too.
        if neighbour.optional && neighbours.len() > 0 {
            return false;
        }
        for place in near(neighbour) {
            if place.is_within(excluded) && place.and(passed).is_empty() {
                return true;
            }
            passed = passed.or(*place);
        }
        if neighbour.reach != Reach::Fixed {
            return false;
        }
    }
    false
}

fn shape<'s>(scheme: &'s Scheme, part: &'s Part) -> Shape<'s> {
    let guarded = scheme.guards.excluded(part);
    let open = |may: ByteSet| Shape {
        part,
        reach: Reach::Open,
        excluded: may.others().or(guarded),
        excluded_backwards: may.others().or(guarded),
        lead: Vec::new(),
        trail: Vec::new(),
        optional: false,
    };
    let fixed = |lead: Vec<ByteSet>| {
        let trail = lead.iter().rev().copied().collect();
        Shape { reach: Reach::Fixed, lead, trail, ..open(ByteSet::ALL) }
    };
    let single = |byte: &u8| ByteSet::of(&[*byte]);
    if let Some(length) = scheme.guards.length_of(part).filter(|_| part.can_be_measured()) {
        return fixed(vec![guarded.others(); length]);
    }
    let url = || Shape { lead: b"http".iter().map(single).collect(), ..open(of_path().or(of_query())) };
    match part {
        Part::Literal(bytes) => fixed(bytes.iter().map(single).collect()),
        // Never among others: see `unseparated`.
        Part::Secret => open(ByteSet::ALL),
        Part::Timestamp => match scheme.timestamp.as_ref().map(|timestamp| timestamp.unit) {
            Some(unit) if unit.is_fixed_length() => fixed(unit.lead()),
            Some(unit) if unit.tail().is_some() => {
                let excluded = unit.tail().unwrap_or_default().others();
                Shape { lead: unit.lead(), excluded, ..open(ByteSet::ALL) }
            }
            Some(unit) => Shape { reach: Reach::Delimited, lead: unit.lead(), ..open(ByteSet::ALL) },
            None => open(ByteSet::ALL),
        },
        Part::Body => {
            let place = |guard: Option<ByteSet>| guard.into_iter().collect::<Vec<_>>();
            let (lead, trail) = (place(scheme.guards.begins), place(scheme.guards.ends));
            let optional = !lead.is_empty() || !trail.is_empty();
            Shape { lead, trail, optional, ..open(ByteSet::ALL) }
        }
        Part::Id => open(id_bytes(scheme)),
        Part::Method => open(METHOD),
        Part::Path => Shape { lead: vec![single(&b'/')], ..open(of_path()) },
        Part::Target => Shape { lead: vec![single(&b'/')], ..open(of_path().or(of_query()).or(ByteSet::of(b"?"))) },
        Part::Url | Part::UrlUnescaped => url(),
        Part::Header(_) => open(ByteSet::FIELD_VALUE),
        Part::NamedHeaders(_) => open(ByteSet::FIELD_VALUE),
        Part::Field(key) if scheme.content.contains(&Part::NamedHeaders(key.clone())) => open(NAMES),
        Part::Field(_) => match &scheme.syntax {
            Syntax::Pairs { separator, groups, .. } => {
                let marks = single(separator).or(groups.as_ref().map_or(ByteSet::NONE, single));
                open(ByteSet::FIELD_VALUE.and(marks.others()))
            }
            Syntax::Items { separator, .. } => open(ByteSet::FIELD_VALUE.and(single(separator).others())),
            Syntax::Single { .. } | Syntax::List { .. } => open(ByteSet::FIELD_VALUE),
        },
        Part::HashedBody(algorithm, Encoding::Hex) => {
            fixed(vec![ByteSet::DIGITS.or(ByteSet::range(b'a', b'f')); 2 * algorithm.tag_length()])
        }
        Part::HashedBody(algorithm, _) => fixed(vec![ByteSet::VISIBLE; algorithm.tag_length().div_ceil(3) * 4]),
        // It is the same in every delivery of a route, which has it as a literal and is checked with that.
        Part::Route(_) => fixed(vec![ByteSet::ALL]),
        Part::Checksum => open(ByteSet::DIGITS),
        Part::Json { .. }
        | Part::JsonLines(_)
        | Part::Form(_)
        | Part::SortedForm(_)
        | Part::SortedFormParams
        | Part::Query(_) => open(ByteSet::ALL),
    }
}

/// What a method that can be routed is made of.
pub(super) const METHOD: ByteSet = ByteSet::range(b'A', b'Z').or(ByteSet::of(b"-_"));

/// What a list of names of headers is made of ([`super::named`]).
const NAMES: ByteSet =
    ByteSet::range(b'A', b'Z').or(ByteSet::range(b'a', b'z')).or(ByteSet::DIGITS).or(ByteSet::of(b"-_ "));

/// What the delivery id of a scheme may contain, whatever its guards say: what is visible of ASCII, without the byte that
/// ends it.
pub(super) fn id_bytes(scheme: &Scheme) -> ByteSet {
    scheme.content.id_terminator().map_or(ByteSet::VISIBLE, |end| ByteSet::VISIBLE.and(ByteSet::of(&[end]).others()))
}

fn of_path() -> ByteSet {
    (0..=u8::MAX).filter(|byte| may_stand_in_path(*byte)).fold(ByteSet::NONE, |set, byte| set.or(ByteSet::of(&[byte])))
}

fn of_query() -> ByteSet {
    (0..=u8::MAX).filter(|byte| may_stand_in_query(*byte)).fold(ByteSet::NONE, |set, byte| set.or(ByteSet::of(&[byte])))
}

/// What a scheme whose sender does it this way can say, if it is true of the sender: the shortest guard that is enough.
fn fix(scheme: &Scheme, left: &Part, right: &Part) -> String {
    let without = |part: &Part, byte: u8| Without { part: part.clone(), bytes: ByteSet::of(&[byte]) };
    let guarded = |guards: Guards| {
        let more = Guards {
            without: scheme.guards.without.iter().chain(&guards.without).cloned().collect(),
            begins: guards.begins.or(scheme.guards.begins),
            ends: guards.ends.or(scheme.guards.ends),
            dotted: scheme.guards.dotted.clone(),
            exactly: scheme.guards.exactly.clone(),
        };
        unseparated(&Scheme { guards: more, ..scheme.clone() }) != Some((left, right))
    };
    for part in [left, right].into_iter().filter(|part| part.can_be_guarded()) {
        for byte in b".:|,;/ {}".iter().copied().filter(|byte| part.can_be_guarded_against(*byte)) {
            if guarded(Guards { without: vec![without(part, byte)], ..Guards::default() }) {
                return suggestion(
                    &format!("{part} never contains `{}`", char::from(byte)),
                    &[(part, "without", byte)],
                );
            }
        }
    }
    let (begins, ends) = (Some(ByteSet::of(b"{")), Some(ByteSet::of(b"}")));
    if left.can_be_guarded() && guarded(Guards { without: vec![without(left, b'{')], begins, ..Guards::default() }) {
        let says = format!("{left} never contains `{{` and the body always begins with it");
        return suggestion(&says, &[(left, "without", b'{'), (&Part::Body, "begins", b'{')]);
    }
    if right.can_be_guarded() && guarded(Guards { without: vec![without(right, b'}')], ends, ..Guards::default() }) {
        let says = format!("{right} never contains `}}` and the body always ends with it");
        return suggestion(&says, &[(right, "without", b'}'), (&Part::Body, "ends", b'}')]);
    }
    format!("put a literal between them that {left} never contains, if the sender does")
}

fn suggestion(says: &str, rules: &[(&Part, &str, u8)]) -> String {
    let rules: Vec<String> = rules
        .iter()
        .map(|(part, rule, byte)| {
            let token = part.to_string();
            let token = token.trim_matches(['{', '}']);
            let key = if token.contains(':') { format!("\"{token}\"") } else { token.to_owned() };
            format!("{key} = {{ {rule} = \"{}\" }}", char::from(*byte))
        })
        .collect();
    format!("if {says}, say so: guard = {{ {} }}", rules.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use core::time::Duration;

    use super::*;
    use crate::gate::verify::{Kind, MacAlgorithm, Source, Template, TimestampSource, Tolerance, Unit};

    /// The parts that cannot be told apart, with what the guards say of the id, the URL, and the ends of the body.
    fn parts(content: &str, unit: Unit, guards: &Guards) -> Option<String> {
        let kind = Kind::Hmac(MacAlgorithm::HmacSha256);
        let mut scheme = Scheme::new("own", kind, "X-S", Template::parse(content).unwrap());
        let header = |name: &str| Source::Headers(vec![name.to_owned()]);
        scheme.syntax = Syntax::pairs(b',', "v1");
        scheme.id = Some(header("X-I"));
        scheme.timestamp =
            Some(TimestampSource { source: header("X-T"), unit, tolerance: Tolerance::new(Duration::from_secs(1)) });
        scheme.guards = guards.clone();
        ambiguity(&scheme).map(|Ambiguity { left, right, .. }| format!("{left} {right}"))
    }

    fn without(part: Part, bytes: &[u8]) -> Guards {
        Guards { without: vec![Without { part, bytes: ByteSet::of(bytes) }], ..Guards::default() }
    }

    #[test]
    fn what_ends_by_itself_or_by_its_neighbour_needs_no_guard() {
        for content in [
            "{body}",
            "{timestamp}{body}",
            "{body}{timestamp}",
            "{id}.{timestamp}.{body}",
            "{body}.{timestamp}\n{header:X}",
            "v0:{timestamp}:{body}",
            "{method}{url}",
            "{method} {path}\n{header:A}\n{header:B}\n{body}",
            "{path}?{body}",
            "{url} {body}",
            "{field:k},{body}",
            "{timestamp}.{field:h}.{named_headers:h}.{body}",
            "{url}{sorted_form_params}",
            "{sha256:body}{header:X}",
            "{method}\n{timestamp}\n{sha256:body}",
            "{timestamp}{query:a}{sha256:body}",
            "{sha512-base64:body}{json:a}",
            "{sorted_form:=&}.{timestamp}",
        ] {
            // What ends in digits does not end by itself.
            for unit in Unit::ALL.into_iter().filter(|unit| unit.tail().is_none()) {
                assert_eq!(parts(content, unit, &Guards::default()), None, "{content}");
            }
        }
        assert_eq!(parts("{timestamp}{body}", Unit::Iso8601, &Guards::default()).unwrap(), "{timestamp} {body}");
    }

    #[test]
    fn a_guard_helps_where_it_fits_and_nowhere_else() {
        let none = Guards::default();
        let id = |bytes: &[u8]| without(Part::Id, bytes);
        let twitch = "{id}{timestamp}{body}";
        assert_eq!(parts(twitch, Unit::Rfc3339, &none).unwrap(), "{id} {body}");
        assert_eq!(parts(twitch, Unit::Rfc3339, &id(b":")), None);
        assert_eq!(parts(twitch, Unit::Rfc3339, &id(b"Z")).unwrap(), "{id} {body}");
        assert_eq!(parts(twitch, Unit::Seconds, &id(b":")).unwrap(), "{id} {body}");
        assert_eq!(parts(twitch, Unit::Seconds, &id(b"0123456789")), None);
        assert_eq!(parts("{id}{timestamp}.{body}", Unit::Seconds, &id(b".")), None);
        assert_eq!(parts("{id}{timestamp}.{body}", Unit::Rfc3339, &id(b".")).unwrap(), "{id} {body}");
        // A body that may be empty says where its neighbour ends only at the edge of what is left.
        let url = Guards { begins: Some(ByteSet::of(b"{")), ..without(Part::Url, b"{") };
        assert_eq!(parts("{url}{body}", Unit::Seconds, &url), None);
        assert_eq!(parts("{url}{body}{timestamp}", Unit::Seconds, &url), None);
        assert_eq!(parts("{url}{body}{form:f}", Unit::Seconds, &url).unwrap(), "{url} {body}");
        assert_eq!(parts("{url}{body}{header:X}", Unit::Seconds, &url).unwrap(), "{url} {body}");
    }

    #[test]
    fn fields_without_marks_need_guards_or_lengths() {
        let exactly = |part: &str, length: usize| Exactly { part: Part::named(part).unwrap(), length };
        let some = |guards: &[(&str, usize)]| Guards {
            exactly: guards.iter().map(|(part, length)| exactly(part, *length)).collect(),
            ..Guards::default()
        };
        let content = "{json:tid}{json:amount}{json:date}";
        assert_eq!(parts(content, Unit::Seconds, &some(&[])).unwrap(), "{json:tid} {json:amount}");
        assert_eq!(parts(content, Unit::Seconds, &some(&[("json:tid", 30)])).unwrap(), "{json:amount} {json:date}");
        assert_eq!(parts(content, Unit::Seconds, &some(&[("json:tid", 30), ("json:date", 28)])), None);
        let colons = "{json:a}:{json?:b}:{json:c}";
        assert_eq!(parts(colons, Unit::Seconds, &some(&[])).unwrap(), "{json:a} {json?:b}");
        let mut guards = without(Part::named("json:a").unwrap(), b":");
        guards.without.extend(without(Part::named("json:c").unwrap(), b":").without);
        assert_eq!(parts(colons, Unit::Seconds, &guards), None);
        // The secret between two parts says where one ends; what stands on one side of it has to be told apart by itself.
        assert_eq!(parts("{timestamp}{header:N}{secret}{body}", Unit::Seconds, &some(&[])), None);
        assert_eq!(
            parts("{header:N}{header:M}{secret}{body}", Unit::Seconds, &some(&[])).unwrap(),
            "{header:N} {header:M}"
        );
    }

    #[test]
    fn what_nothing_keeps_apart_is_found() {
        for (content, found) in [
            ("{body}{body}", "{body} {body}"),
            ("{header:A}{header:B}", "{header:A} {header:B}"),
            ("{header:A}|{body}", "{header:A} {body}"),
            ("{body}.{timestamp}.{header:X}", "{body} {header:X}"),
            ("{method}.{form:a}.{form:b}", "{form:a} {form:b}"),
            ("{query:a};{header:X}", "{query:a} {header:X}"),
            ("{query:a}{query:b}", "{query:a} {query:b}"),
            ("{header:A}{sorted_form_params}", "{header:A} {sorted_form_params}"),
            ("{field:h}.{timestamp}.{named_headers:h}{body}", "{named_headers:h} {body}"),
            ("{named_headers:h}.{body}.{field:h}\n", "{named_headers:h} {body}"),
        ] {
            assert_eq!(parts(content, Unit::Seconds, &Guards::default()).as_deref(), Some(found), "{content}");
        }
    }
}
