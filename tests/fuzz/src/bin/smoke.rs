//! Runs every target over its corpus and over mutations of it, without libFuzzer: the same input for the same seed.
//!
//! Usage: `smoke [mutations per file] [seed]`

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fuzz::{Run, TARGETS};

/// Mutations of each file of a corpus: less than a minute for all targets.
const MUTATIONS: u64 = 200_000;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Bytes that parsers care about.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b":",
    b": ",
    b" ",
    b"\t",
    b";",
    b"=",
    b"\"",
    b"\\",
    b",",
    b"/",
    b"//",
    b"..",
    b"%2e",
    b"%00",
    b"%3A",
    b"%c0%af",
    b"%ef%bc%8f",
    b"%c3%bc",
    b".",
    b";",
    b"?",
    b"#",
    b"0",
    b"0\r\n\r\n",
    b"1\r\na\r\n",
    b"ffffffffffffffff",
    b"HTTP/1.1",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"chunked",
    b"Connection: ",
    b"close",
    b"Expect: 100-continue\r\n",
    b"_",
    b"{",
    b"}",
    b"[",
    b"[[",
    b"]",
    b"'",
    b" = ",
    b"{body}",
    b"PROXY ",
    b"TCP4 ",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x21\x11\0\x0c",
    b"\x04\0\x01\0",
];

/// Marsaglia's xorshift: repeatable, and random enough to shake a parser.
struct XorShift(u64);

impl XorShift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        start..(start + self.below(9)).min(len)
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("a number"));
    let (mutations, seed) = (arguments.next().unwrap_or(MUTATIONS), arguments.next().unwrap_or(SEED));
    println!("seed {seed}, {mutations} mutations per file");
    let mut failures = 0_u32;
    for (name, run) in TARGETS {
        let started = std::time::Instant::now();
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "corpus/{name} is empty");
        // Some verifications are those of public keys, and an explanation is hundreds of verifications.
        let mutations = match *name {
            "signature" => mutations / 5,
            "explain" => mutations / 100,
            _ => mutations,
        };
        failures += u32::from(!smoke(name, *run, &corpus, mutations, seed));
        println!("{name}: {} files, {} ms", corpus.len(), started.elapsed().as_millis());
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The files of a target in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort_unstable();
    paths.iter().map(|path| std::fs::read(path).expect("a readable file")).collect()
}

/// Whether every input was taken without a panic; stops at the first that was not.
fn smoke(name: &str, run: Run, corpus: &[Vec<u8>], mutations: u64, seed: u64) -> bool {
    let mut random = XorShift(seed.max(1));
    let survives = |input: &[u8]| {
        let survived = catch_unwind(|| run(input)).is_ok();
        if !survived {
            println!("{name}: panicked on b\"{}\"", input.escape_ascii());
        }
        survived
    };
    corpus.iter().all(|file| survives(file) && (0..mutations).all(|_| survives(&mutated(file, corpus, &mut random))))
}

fn mutated(file: &[u8], corpus: &[Vec<u8>], random: &mut XorShift) -> Vec<u8> {
    let mut input = file.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        match random.below(7) {
            0 => input.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << random.below(8)),
            1 => input.get_mut(at).into_iter().for_each(|byte| *byte = random.next() as u8),
            2 => input.insert(at, random.next() as u8),
            3 => drop(input.drain(random.range(input.len()))),
            4 => {
                let part = input[random.range(input.len())].to_vec();
                drop(input.splice(at..at, part));
            }
            5 => drop(input.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
            _ => {
                let other = &corpus[random.below(corpus.len())];
                input.truncate(at);
                input.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
        }
    }
    input
}
