//! The status page: one document, nothing else. It is allowed to run exactly the script and the style that stand in it
//! and to ask this port for its numbers, nothing more.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

/// The document.
pub const HTML: &str = include_str!("page.html");

/// What the document may do (`Content-Security-Policy`): its own script and style, by their digests.
#[must_use]
pub fn policy() -> String {
    let hash = |element: &str| {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let inside = HTML.split_once(&open).and_then(|(_, rest)| rest.split_once(&close)).map_or("", |(text, _)| text);
        STANDARD.encode(digest(&SHA256, inside.as_bytes()))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_script_one_style_and_nothing_from_elsewhere() {
        assert_eq!(HTML.matches("<script").count(), 1);
        assert_eq!(HTML.matches("<style").count(), 1);
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=", " onclick"] {
            assert!(!HTML.contains(word), "{word}");
        }
        for word in ["src=\"http", "href=\"http", "@import", "url(http", "//cdn"] {
            assert!(!HTML.contains(word), "{word}");
        }
        assert_eq!(policy().matches("'sha256-").count(), 2);
    }

    #[test]
    fn what_the_page_changes_it_asks_for_by_post_under_its_own_origin() {
        let posts: Vec<&str> = HTML.lines().filter(|line| line.contains("fetch(\"/-/")).collect();
        assert_eq!(posts.len(), 1, "{posts:?}");
        assert!(posts.iter().all(|line| line.contains("/-/inbox/redrive?") && line.contains("method: \"POST\"")));
        assert!(policy().contains("connect-src 'self'"));
    }
}
