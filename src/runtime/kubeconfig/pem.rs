//! PEM as lenient as Go reads it: text around blocks is nothing, and a block that cannot be read is passed over.
//! Pure.

use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};

/// One block.
pub(super) struct Block {
    pub(super) label: String,
    /// Whether its headers say that it is encrypted.
    pub(super) is_encrypted: bool,
    pub(super) der: Vec<u8>,
}

/// What a `…-data` field holds, white space and line breaks left out.
pub(super) fn from_base64(data: &str) -> Option<Vec<u8>> {
    /// Go does not mind bits after the last byte either.
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    let data: String = data.chars().filter(|c| !c.is_whitespace()).collect();
    LENIENT.decode(data).ok()
}

/// The blocks of `text`, in order.
pub(super) fn blocks(text: &[u8]) -> Vec<Block> {
    let text = String::from_utf8_lossy(text);
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
        let is_encrypted =
            body.iter().any(|line| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED"));
        let data: String = body.into_iter().filter(|line| !line.contains(':')).collect();
        if let Some(der) = from_base64(&data) {
            found.push(Block { label: label.to_owned(), is_encrypted, der });
        }
    }
    found
}

/// `der` as a block.
pub(super) fn write(label: &str, der: &[u8]) -> String {
    let data = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in data.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text + "-----END " + label + "-----\n"
}
