//! What kind of key it is, for people whose key cannot be used. Pure.

/// The way out, wherever a key is refused.
pub(super) const USABLE: &str =
    "use P-256, P-384, Ed25519 or RSA of 2048 bits or more (at most 4096), or a token";

/// Encoded object identifiers, with their tag and length, and what they stand for.
const KINDS: [(&[u8], &str); 11] = [
    (&[0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x23], "P-521"),
    (&[0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x21], "P-224"),
    (&[0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x0A], "secp256k1"),
    (&[0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22], "P-384"),
    (&[0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07], "P-256"),
    (&[0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x01], "P-192"),
    (&[0x06, 0x03, 0x2B, 0x65, 0x70], "Ed25519"),
    (&[0x06, 0x03, 0x2B, 0x65, 0x71], "Ed448"),
    (&[0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x38, 0x04, 0x01], "DSA"),
    (&[0x06, 0x05, 0x2B, 0x24, 0x03, 0x03, 0x02], "Brainpool"),
    (&[0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01], "elliptic curve"),
];
const RSA: &[u8] = &[0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01];

/// The kind of the key in `der`, a private key or a `SubjectPublicKeyInfo`, as people call it.
pub(super) fn kind(der: &[u8]) -> String {
    // What says the kind stands at the beginning, or, in SEC1, behind a private key of at most 66 bytes.
    let head = der.get(..der.len().min(128)).unwrap_or_default();
    let holds = |pattern: &[u8]| head.windows(pattern.len()).any(|window| window == pattern);
    if let Some((_, kind)) = KINDS.iter().find(|(pattern, _)| holds(pattern)) {
        return (*kind).to_owned();
    }
    match rsa_bits(der) {
        Some(bits) => format!("RSA {bits}"),
        None if holds(RSA) => "RSA".to_owned(),
        None => "unknown".to_owned(),
    }
}

/// Whether a certificate with this key may sign others as far as the TLS library goes.
pub(super) fn can_verify(spki: &[u8]) -> bool {
    let kind = kind(spki);
    let bits = kind.strip_prefix("RSA ").and_then(|bits| bits.parse::<usize>().ok());
    matches!(kind.as_str(), "P-256" | "P-384" | "Ed25519" | "unknown" | "RSA")
        || bits.is_some_and(|bits| (2048..=8192).contains(&bits))
}

/// Length of the modulus: the first long INTEGER of an RSA key, however it is wrapped.
fn rsa_bits(der: &[u8]) -> Option<usize> {
    let mut rest = der;
    // SEQUENCE, OCTET STRING and BIT STRING are entered, short INTEGERs and the algorithm passed over.
    for _ in 0..16 {
        let (tag, length, body) = header(rest)?;
        match tag {
            0x30 if body.first() == Some(&0x06) => rest = body.get(length..)?,
            0x30 | 0x04 => rest = body,
            0x03 => rest = body.get(1..)?,
            0x02 if length > 32 => {
                let padding = usize::from(body.first() == Some(&0));
                return Some((length - padding) * 8);
            }
            0x02 => rest = body.get(length..)?,
            _ => return None,
        }
    }
    None
}

/// Tag, length, and what follows them.
fn header(der: &[u8]) -> Option<(u8, usize, &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    if *first < 0x80 {
        return Some((*tag, usize::from(*first), rest));
    }
    let count = usize::from(first & 0x7F);
    if count > 3 {
        return None;
    }
    let (digits, rest) = rest.split_at_checked(count)?;
    let length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
    Some((*tag, length, rest))
}
