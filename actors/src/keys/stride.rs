//! Rows of the threat table about sealing.

use super::*;
use crate::log::testing::draft;
use athena_schemas::ports::Sealer;

fn sealer() -> (PayloadSealer, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let keys = Arc::new(KeyStore::open(folder.path(), MasterKey::File).unwrap());
    (PayloadSealer::new(keys), folder)
}

/// Size as a side channel: whoever controls part of a payload learns nothing of the rest from how long the sealed one is,
/// because nothing is compressed before it is sealed.
#[test]
fn stride_i23() {
    let (sealer, _folder) = sealer();
    let secret = b"the launch code is 8-4-2; ";
    let length = |guess: &[u8]| {
        let payload = [secret.as_slice(), guess, &[b'.'; 4_000]].concat();
        let draft = draft("semantic", 1, &payload);
        (draft.payload.len(), sealer.seal(draft).unwrap().payload.len())
    };
    let (right, wrong) = (length(b"the launch code is 8-4-2; "), length(b"qpzmxnwhfjgkdlsoeirutya13 "));
    assert_eq!(right, wrong);
    assert_eq!(right.1 - right.0, 16, "the tag and nothing else");
}

/// An event that claims an older version of its key, or a key that never was, is refused and not read with whatever fits.
#[test]
fn stride_t22() {
    let (sealer, _folder) = sealer();
    let sealed = sealer.seal(draft("semantic", 1, b"x")).unwrap();
    let key = sealed.meta.key.clone().unwrap();
    for other in [
        KeyRef { version: key.version - 1, ..key.clone() },
        KeyRef { version: key.version + 1, ..key.clone() },
        KeyRef { name: [0; 8], ..key },
    ] {
        let mut downgraded = sealed.clone();
        downgraded.meta.key = Some(other);
        assert_eq!(sealer.open(&downgraded).unwrap_err().code, Code::Integrity);
    }
}
