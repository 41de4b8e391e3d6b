//! What was probably meant.

/// `did you mean "…"? Or ` when one of the names is close, else nothing.
#[must_use]
pub fn did_you_mean(name: &str, names: &[&str]) -> String {
    closest(name, names).map_or_else(String::new, |near| format!("did you mean \"{near}\"? Or "))
}

/// The name that was probably meant.
#[must_use]
pub fn closest<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    let short: String = name.chars().take(64).collect::<String>().to_lowercase();
    let distance = |other: &str| strsim::damerau_levenshtein(&short, &other.to_lowercase());
    let near = names.iter().map(|other| (distance(other), *other)).min_by_key(|(distance, _)| *distance);
    near.filter(|(distance, other)| *distance <= 1 + short.len().max(other.len()) / 4 && *distance < other.len())
        .map(|(_, other)| other)
}

/// `"a", "b" or "c"`.
pub(super) fn quoted_list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_near_or_absent() {
        assert_eq!(closest("adress", &["address", "path"]), Some("address"));
        assert_eq!(closest("body-size", &["body_size", "name"]), Some("body_size"));
        assert_eq!(closest("Path", &["path", "name"]), Some("path"));
        assert_eq!(closest("zzz", &["path", "name"]), None);
        assert_eq!(closest("id", &["env", "file"]), None);
    }
}
