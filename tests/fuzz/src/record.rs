//! What is read of an inbox: records in a file that was damaged or made by an attacker, rows, and what an operator asks for.
//! Nothing panics, what a seal does not cover is not given, and what is read is written the same again.

use std::sync::LazyLock;

use countersign::inbox::operation::DeliveryPage;
use countersign::inbox::record::{RecordParts, Sealer, find_chunks, open_chunk};
use countersign::inbox::row::{DeliveryRow, ROW_SIZE};

/// In no corpus.
static ENCRYPTED: LazyLock<Sealer> =
    LazyLock::new(|| Sealer::encrypted("k", &[0x5d; 32], &[9; 16]).expect("a key of 32 bytes"));

/// The input is a file.
pub fn run(bytes: &[u8]) {
    find_chunks(bytes, |at, header| {
        let chunk = &bytes[at..at + header.size()];
        let mut content = Vec::new();
        assert!(open_chunk(&mut chunk.to_vec(), header.place, &ENCRYPTED, &mut content).is_none(), "without the key");
        if open_chunk(&mut chunk.to_vec(), header.place, &Sealer::Plain, &mut content).is_some() {
            assert!(header.key.is_none() && content.len() == header.length);
            parts(&content);
        }
    });
    parts(bytes);
    for row in bytes.chunks(ROW_SIZE) {
        if let Some(read) = DeliveryRow::decode(row) {
            assert_eq!(DeliveryRow::decode(&read.encode()), Some(read));
        }
    }
    if let Ok((page, _)) = DeliveryPage::parse(&String::from_utf8_lossy(bytes)) {
        assert_eq!(DeliveryPage::parse(&page.query()), Ok((page, false)));
    }
}

fn parts(content: &[u8]) {
    if let Some(parts) = RecordParts::of(content) {
        assert!(parts.route.end == parts.head.start && parts.head.end == parts.body.start);
        assert_eq!(parts.body.end, content.len());
    }
}
