//! What a reader makes of each type of value, and of each mistake.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use core::time::Duration;

use super::*;

fn problems_of(text: &str, read: impl FnOnce(&Reader<'_>)) -> Vec<String> {
    let document = Document::parse("test.toml", text).unwrap();
    let reader = Reader::root(&document);
    read(&reader);
    reader.finish();
    let mut problems = document.into_problems();
    problems.sort();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn values_of_every_type_are_read() {
    let text = "s = 'x'\nb = true\ni = 0x10\nd = '5m'\nz = '16KiB'\nl = ['a', 'b']\no = 'one'\n\
                t = 2026-11-24T00:00:00Z\nu = '2026-11-24T01:00:00+01:00'\nv = 2026-11-24T00:00Z\n\
                [n]\nk = 1\n[[a]]\nk = 1\n[[a]]\nk = 2\n";
    let problems = problems_of(text, |reader| {
        assert_eq!(reader.string("s"), Some("x"));
        assert_eq!(reader.bool("b"), Some(true));
        assert_eq!(reader.integer("i", 0..=16), Some(16));
        assert_eq!(reader.duration("d", Duration::ZERO..=Duration::MAX), Some(Duration::from_secs(300)));
        assert_eq!(reader.size("z", 0..=u64::MAX), Some(16384));
        assert_eq!(reader.strings("l"), Some(vec!["a", "b"]));
        assert_eq!(reader.one_or_more("l"), Some(vec!["a", "b"]));
        assert_eq!(reader.one_or_more("s"), Some(vec!["x"]));
        assert_eq!(reader.choice("o", &[("one", 1), ("two", 2)]), Some(1));
        assert_eq!(reader.datetime("t"), Some(1_795_478_400));
        assert_eq!(reader.datetime("u"), Some(1_795_478_400));
        assert_eq!(reader.datetime("v"), Some(1_795_478_400));
        assert_eq!(reader.string("absent"), None);
        let table = reader.table("n").unwrap();
        assert_eq!(table.integer("k", 0..=9), Some(1));
        table.finish();
        let tables = reader.tables("a").unwrap();
        assert_eq!(tables.iter().map(|t| t.integer("k", 0..=9).unwrap()).collect::<Vec<_>>(), [1, 2]);
        tables.into_iter().for_each(Reader::finish);
    });
    assert_eq!(problems, Vec::<String>::new());
}

#[test]
fn every_mistake_is_reported_in_one_run_with_its_place() {
    let text = "s = 1\nb = 'x'\ni = 99\nd = 5\nz = '1KB'\nl = ['a', 2]\no = 'tow'\n  t = 2026-11-24\n[n]\nvalu = 1\n";
    let problems = problems_of(text, |reader| {
        assert_eq!(reader.string("s"), None);
        assert_eq!(reader.bool("b"), None);
        assert_eq!(reader.integer("i", 0..=16), None);
        assert_eq!(reader.duration("d", Duration::ZERO..=Duration::MAX), None);
        assert_eq!(reader.size("z", 0..=u64::MAX), None);
        assert_eq!(reader.strings("l"), None);
        assert_eq!(reader.choice("o", &[("one", 1), ("two", 2)]), None);
        assert_eq!(reader.datetime("t"), None);
        let table = reader.table("n").unwrap();
        assert_eq!(table.string("value"), None);
        table.finish();
        assert!(reader.failed());
    });
    let starts = [
        "test.toml:1:5: error: s: expected a string, found an integer",
        "test.toml:2:5: error: b: expected true or false, found a string",
        "test.toml:3:5: error: i: 99 is out of range\n    fix: choose a number from 0 to 16",
        "test.toml:4:5: error: d: 5 has no unit",
        "test.toml:5:5: error: z: the size \"1KB\" has an unknown unit\n    fix: write \"1kB\"",
        "test.toml:6:11: error: l[1]: expected a string, found an integer",
        "test.toml:7:5: error: o: \"tow\" is not one of the choices\n    fix: did you mean \"two\"? Or choose \"one\" or",
        "test.toml:8:7: error: t: \"2026-11-24\" is not a date and time",
        "test.toml:10:1: error: n.valu: unknown key\n    fix: did you mean \"value\"?",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}\n{start}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_not_quoted() {
    let problems = problems_of("secret = 123456789\nflag = 'hunter2hunter2'", |reader| {
        assert_eq!(reader.string("secret"), None);
        assert_eq!(reader.bool("flag"), None);
    });
    assert_eq!(problems.len(), 2);
    assert!(problems.iter().all(|problem| !problem.contains("123456789") && !problem.contains("hunter2")));
}

#[test]
fn one_table_is_not_a_list_of_tables() {
    let problems = problems_of("[route]\npath = '/'\n", |reader| assert!(reader.tables("route").is_none()));
    assert!(problems[0].contains("[[route]]"), "{problems:?}");
}
