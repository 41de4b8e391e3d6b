//! The page of metrics, made of the program's table of names.

use std::fmt::Write as _;
use std::fs;

use countersign::telemetry::names::ALL;

use super::{read, root};

const PAGE: &str = "docs/metrics.md";

fn page() -> String {
    let mut page = format!(
        "# Metrics: every name\n\nMade of the program's own table; `BLESS=1 cargo test --test docs` writes it. What to look at first, who \
         may ask, and what bounds the labels: [observing](observing.md#metrics). There are {} metrics.\n\n\
         | metric | kind | labels | unit | meaning |\n|---|---|---|---|---|\n",
        ALL.len()
    );
    for metric in ALL {
        let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        // A bar would end the cell.
        let help = metric.help.replace('|', "\\|");
        let (name, kind, unit) = (metric.name, metric.kind.name(), metric.unit.as_str());
        let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {unit} | {help} |");
    }
    page
}

#[test]
fn the_page_of_metrics_is_that_of_the_program() {
    let page = page();
    if std::env::var_os("BLESS").is_some() {
        fs::write(root().join(PAGE), &page).unwrap();
    }
    assert!(read(PAGE) == page, "{PAGE} is not as the program has it: BLESS=1 cargo test --test docs");
}
